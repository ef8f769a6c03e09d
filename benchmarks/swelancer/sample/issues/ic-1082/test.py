import html

NASTY = "cheese <b>50% off</b> & \"more\" <img src=x onerror=\"document.title='owned'\">"


def test_the_printable_month_shows_notes_as_they_were_typed(ada):
    ada.spend("2024-02-03", "12.50", note=NASTY)
    text = ada.get("/print/2024-02").text
    assert "<b>50%" not in text
    assert "<img" not in text
    assert NASTY in html.unescape(text)


def test_and_names_of_categories(ada):
    name = "<script>alert(1)</script>"
    assert ada.post("/api/categories", {"name": name}).status == 201
    ada.spend("2024-02-03", "1.00", name)
    text = ada.get("/print/2024-02").text
    assert "<script>alert" not in text
    assert name in html.unescape(text)


def test_the_data_itself_stays_as_it_was_typed(ada):
    assert ada.spend("2024-02-03", "12.50", note=NASTY)["note"] == NASTY
    assert ada.get("/api/expenses").json["items"][0]["note"] == NASTY


def test_the_page_shows_notes_as_they_were_typed(page):
    page.locator("#add [name=amount]").fill("12.50")
    page.locator("#add [name=note]").fill(NASTY)
    page.locator("#add button").click()
    page.locator("#expenses tr").wait_for()
    assert page.locator("#expenses .note").text_content() == NASTY
    assert page.locator("#expenses img, #expenses b").count() == 0
    assert page.title() == "Tally"


def test_nothing_runs_in_the_printable_month(page):
    page.locator("#add [name=amount]").fill("12.50")
    page.locator("#add [name=note]").fill(NASTY)
    page.locator("#add button").click()
    page.locator("#expenses tr").wait_for()
    page.locator("#print").click()
    page.locator("td.note").wait_for()
    assert page.locator("td.note").text_content() == NASTY
    assert page.locator("td.note img").count() == 0
