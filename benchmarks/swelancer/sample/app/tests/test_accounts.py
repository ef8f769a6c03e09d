from client import Client

from tally.app import create_app


def test_sign_up_opens_a_session(client):
    assert client.get("/api/me").json == {"name": "ada"}


def test_without_a_session_nothing_is_shown():
    answer = Client().get("/api/expenses")
    assert (answer.status, answer.json) == (401, {"error": "please sign in"})


def test_sign_in_and_out(client):
    client.post("/api/logout")
    assert client.get("/api/me").status == 401
    assert client.post("/api/login", {"name": "ada", "password": "wrong horse"}).status == 401
    assert client.post("/api/login", {"name": "Ada", "password": "correct horse"}).status == 200
    assert client.get("/api/me").json == {"name": "ada"}


def test_names_are_unique(client):
    other = Client(client.app)
    assert other.post("/api/signup", {"name": "ADA", "password": "12345678"}).status == 409


def test_short_passwords_are_refused():
    answer = Client().post("/api/signup", {"name": "ada", "password": "short"})
    assert answer.status == 400
    assert answer.json["fields"] == {"password": "must have at least 8 characters"}


def test_sessions_end():
    now = [0.0]
    client = Client(create_app(":memory:", iterations=1, clock=lambda: now[0])).sign_up()
    now[0] = 13 * 86400
    assert client.get("/api/me").status == 200
    now[0] = 15 * 86400
    assert client.get("/api/me").status == 401


def test_guessing_is_stopped(client):
    for _ in range(5):
        assert client.post("/api/login", {"name": "ada", "password": "guess"}).status == 401
    answer = client.post("/api/login", {"name": "ada", "password": "correct horse"})
    assert (answer.status, answer.headers["Retry-After"]) == (429, "900")
