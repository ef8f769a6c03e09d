def test_printing_right_after_signing_up(ada):
    assert ada.get("/print/2024-02").status == 200


def test_printing_after_signing_in_again(ada):
    ada.spend("2024-02-03", "12.50")
    assert ada.post("/api/logout").status == 204
    assert ada.get("/print/2024-02").status == 401
    assert ada.sign_in().status == 200
    assert '<b id="total">12.50</b>' in ada.get("/print/2024-02").text


def test_signing_out_ends_it_everywhere(ada):
    assert ada.get("/api/me").status == 200
    ada.post("/api/logout")
    assert ada.get("/api/me").status == 401
    assert not list(ada.cookies)


def test_strangers_see_nothing(ada):
    ada.cookies.clear()
    assert ada.get("/print/2024-02").status == 401


def test_clicking_on_print(page):
    page.wait_for_function("document.getElementById('total').textContent !== ''")
    page.locator("#print").click()
    page.locator("h1").wait_for()
    assert page.locator("#total").text_content() == "0.00"
