"""What the hidden tests share: people who talk HTTP to the running application, and a browser where there is one."""

import contextlib
import http.cookiejar
import json
import os
import secrets
import shutil
import urllib.error
import urllib.request

import pytest

URL = os.environ["APP_URL"]
PASSWORD = "correct horse"


class Reply:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.text = response.read().decode()

    @property
    def json(self):
        return json.loads(self.text)


class Person:
    """One browser's worth of cookies."""

    def __init__(self, name):
        self.name = name
        self.cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def request(self, method, path, body=None):
        data = body.encode() if isinstance(body, str) else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(URL + path, data, method=method)
        if data is not None:
            request.add_header("Content-Type", "text/csv" if isinstance(body, str) else "application/json")
        try:
            return Reply(self._opener.open(request, timeout=60))
        except urllib.error.HTTPError as error:
            return Reply(error)

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, body=None):
        return self.request("POST", path, body if body is not None else {})

    def patch(self, path, body):
        return self.request("PATCH", path, body)

    def delete(self, path):
        return self.request("DELETE", path)

    def sign_in(self, password=PASSWORD):
        return self.post("/api/login", {"name": self.name, "password": password})

    def spend(self, date, amount, category="Food", note=""):
        reply = self.post("/api/expenses", {"date": date, "amount": amount, "category": category, "note": note})
        assert reply.status == 201, reply.text
        return reply.json

    def categories(self):
        return {item["name"]: item["id"] for item in self.get("/api/categories").json["items"]}


def unique(name):
    return f"{name}-{secrets.token_hex(4)}"


@pytest.fixture
def sign_up():
    """Makes people with an account of their own each."""

    def make(name):
        person = Person(unique(name))
        reply = person.post("/api/signup", {"name": person.name, "password": PASSWORD})
        assert reply.status == 201, reply.text
        return person

    return make


@pytest.fixture
def ada(sign_up):
    return sign_up("ada")


@pytest.fixture(scope="session")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("no Playwright in the grading world")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium in the grading world")
    # The world is the sandbox; Chromium's own needs rights that nothing has in there.
    flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server"]
    with contextlib.ExitStack() as stack:
        try:
            playwright = stack.enter_context(sync_playwright())
            browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        except Exception as error:  # nothing that is tested can cause this
            pytest.skip(f"no browser that starts in the grading world ({str(error).splitlines()[0]})")
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page on which somebody has just signed up."""
    context = browser.new_context(base_url=URL)
    context.set_default_timeout(20_000)  # a busy machine is nobody's mistake
    page = context.new_page()
    page.goto("/")
    page.locator("#sign-in [name=name]").fill(unique("eve"))
    page.locator("#sign-in [name=password]").fill(PASSWORD)
    page.locator("#sign-in [name=signup]").click()
    page.locator("#home").wait_for()
    yield page
    context.close()
