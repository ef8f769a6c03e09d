def booked(ada, start, every, until):
    plan = {"start": start, "every": every, "amount": "250", "category": "Home", "note": "loan"}
    assert ada.post("/api/recurring", plan).status == 201
    assert ada.post("/api/recurring/run", {"until": until}).status == 200
    return [item["date"] for item in ada.get("/api/expenses?order=asc&per_page=100").json["items"]]


def test_the_day_comes_back(ada):
    assert booked(ada, "2024-01-31", "month", "2024-05-31") == [
        "2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30", "2024-05-31"
    ]


def test_leap_days(ada):
    assert booked(ada, "2024-02-29", "year", "2028-12-31") == [
        "2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"
    ]


def test_the_thirtieth_over_the_year(ada):
    assert booked(ada, "2023-11-30", "month", "2024-03-30") == [
        "2023-11-30", "2023-12-30", "2024-01-30", "2024-02-29", "2024-03-30"
    ]


def test_weeks_and_plain_days(ada):
    assert booked(ada, "2024-02-26", "week", "2024-03-11") == ["2024-02-26", "2024-03-04", "2024-03-11"]


def test_nothing_is_booked_twice(ada):
    first = booked(ada, "2024-01-31", "month", "2024-03-31")
    assert ada.post("/api/recurring/run", {"until": "2024-04-29"}).json == {"booked": 0}
    assert ada.post("/api/recurring/run", {"until": "2024-04-30"}).json == {"booked": 1}
    assert len(first) == 3
