def changes(ada, query):
    return [(item["month"], item["change"]) for item in ada.get(f"/api/reports/trend?{query}").json["items"]]


def test_more_is_positive_and_less_is_negative(ada):
    ada.spend("2024-01-10", "10.00")
    ada.spend("2024-02-10", "25.00")
    ada.spend("2024-03-10", "5.50")
    assert changes(ada, "month=2024-03&months=3") == [
        ("2024-01", "10.00"), ("2024-02", "15.00"), ("2024-03", "-19.50")
    ]


def test_the_month_before_the_first_counts(ada):
    ada.spend("2023-12-10", "30.00")
    ada.spend("2024-01-10", "10.00")
    assert changes(ada, "month=2024-01&months=1") == [("2024-01", "-20.00")]
