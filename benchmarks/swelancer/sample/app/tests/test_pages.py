from client import Client


def test_the_page(client):
    answer = Client().get("/")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "/static/app.js" in answer.text
    assert Client().get("/static/app.js").headers["Content-Type"] == "text/javascript; charset=utf-8"


def test_no_other_files():
    for name in ("nothing.js", "..%2fapp.py", "app.py"):
        assert Client().get(f"/static/{name}").status == 404


def test_the_printable_month(client):
    client.spend("2024-02-03", "12.50", note="market")
    text = client.get("/print/2024-02").text
    assert "<h1>February 2024</h1>" in text
    assert '<b id="total">12.50</b>' in text
    assert 'href="/print/2024-01"' in text
    assert client.get("/print/soon").status == 404
