import pytest


@pytest.mark.parametrize("words", ["coffee", "Coffee", "COFFEE", "nora", "Nora%27s+coffee"])
def test_case_does_not_matter(ada, words):
    ada.spend("2024-02-03", "4.20", note="Coffee at Nora's")
    assert ada.get(f"/api/expenses?q={words}").json["total"] == 1


def test_all_words_must_be_there(ada):
    ada.spend("2024-02-03", "4.20", note="Coffee at Nora's")
    assert ada.get("/api/expenses?q=coffee+beans").json["total"] == 0
    assert ada.get("/api/expenses?q=").json["total"] == 1


def test_the_export_follows(ada):
    ada.spend("2024-02-03", "4.20", note="Coffee")
    assert "Coffee" in ada.get("/api/export.csv?q=coffee").text
