"""Who is answered, with what headers, and what is never sent."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from trellis.trajectories.viewer.server import COOKIE, STATIC, NotThere, Viewer, image_type, static

from .conftest import PNG, SVG, Client

BLOBS = {
    "a" * 64: PNG,
    "b" * 64: SVG,
    "c" * 64: b"<!doctype html><script>canary = 1</script>",
    "d" * 64: b"\xff\xd8\xffjpeg",
}


class Shelf:
    """Answers of any kind."""

    def answer(self, path: str, query: Mapping[str, str]) -> Any:
        match path:
            case "echo":
                return dict(query)
            case "nan":
                return {"metric": float("nan"), "surrogate": "\ud800"}
            case "fault":
                raise TypeError("\x1b[31mours")
        raise NotThere(f"there is no {path!r}")

    def blob(self, episode: str, name: str) -> bytes:
        if name not in BLOBS:
            raise NotThere("there is no such blob")
        return BLOBS[name]


@pytest.fixture
def client() -> Iterator[Client]:
    viewer = Viewer(Shelf())
    with viewer.serving():
        yield Client(viewer, cookie_of(viewer))


def cookie_of(viewer: Viewer) -> str:
    return f"{COOKIE}={viewer.cookie}"


def header(answer: HTTPResponse, name: str) -> str:
    return answer.headers.get(name, "")


def link(client: Client) -> str:
    """The address that is printed, below the root."""
    return client.viewer.address.split(client.viewer.root)[1]


def test_the_address_gives_a_cookie_once_and_nothing_else_opens(client: Client) -> None:
    cookie, client.cookie = client.cookie, ""
    for path in ("", "api/echo", "static/main.js", f"blob?name={'a' * 64}", "favicon.ico"):
        assert client(path).status == 403
    token = link(client).removeprefix("?token=")
    for wrong in ("", "x", token[:-1], token + "x", "%ff%00", "\u00e9".encode().hex(), client.viewer.cookie):
        assert client(f"?token={wrong}").status == 403
    assert client(link(client), "HEAD").status == 403
    root = client.viewer.root
    answer = client(link(client))
    assert (answer.status, header(answer, "Location")) == (303, root)
    assert header(answer, "Set-Cookie") == f"{cookie}; Path={root}; HttpOnly; SameSite=Lax"
    assert header(answer, "Cache-Control") == "no-store"
    again = client(link(client))
    assert (again.status, header(again, "Set-Cookie")) == (403, "")
    assert "works once" in again.text  # type: ignore[attr-defined]
    for bad in ("x", f"{COOKIE}=", cookie.replace(COOKIE, "other"), f"{cookie}x", f"{COOKIE}={token}"):
        client.cookie = bad
        assert client("").status == 403
    client.cookie = f"other=1; {cookie}; more=2"
    assert client("").status == 200
    assert header(client(link(client)), "Location") == root  # who is in follows the address again


def test_of_many_who_have_the_address_one_is_let_in() -> None:
    viewer = Viewer(Shelf())
    client = Client(viewer)
    together = threading.Barrier(8)

    def ask(_: int) -> int:
        together.wait()
        return client(link(client)).status

    with viewer.serving(), ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(ask, range(8))) == [303, *[403] * 7]


def test_a_cookie_goes_to_no_other_port(client: Client) -> None:
    """Browsers send a host's cookies to all of its ports, but only below their path, which nobody else can guess."""
    other = Viewer(Shelf())
    assert other.root != client.viewer.root
    assert len(other.root) > 12
    for path in ("/", "/api/echo", "/favicon.ico", f"{other.root}api/echo", f"//evil.example{client.viewer.root}", "*"):
        assert client.at(path).status == 403
    with other.serving():
        assert Client(other, f"{client.cookie}; {cookie_of(other)}")("").status == 200
        assert Client(other, client.cookie)("").status == 403


def test_names_of_other_hosts_are_not_ours(client: Client) -> None:
    port = client.viewer.port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"LocalHost:{port}", f"localhost:{port + 1}", "localhost"):
        assert client("api/echo", Host=host).status == 200
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "",
        f"[::1]:{port}",
        f"127.0.0.1.evil.example:{port}",
        "localhost:x",
        "localhost.evil.example",
        "0.0.0.0",
    ):
        assert client("api/echo", Host=host).status == 421


def test_nothing_is_loaded_into_somebody_elses_page(client: Client) -> None:
    for site, kind, status in (
        ("same-origin", "empty", 200),
        ("none", "document", 200),
        ("cross-site", "document", 200),  # a link that was sent
        ("same-site", "document", 200),
        ("cross-site", "image", 403),
        ("same-site", "empty", 403),  # another port of this host
        ("same-site", "script", 403),
        ("cross-site", "iframe", 403),
    ):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Dest": kind}
        assert client("api/echo", "GET", None, **headers).status == status, headers


def test_headers_of_every_answer(client: Client) -> None:
    for path in (
        "",
        "runs",
        "api/echo",
        "api/none",
        "api/fault",
        "static/main.js",
        "nothing",
        f"blob?name={'a' * 64}",
    ):
        answer = client(path)
        policy = header(answer, "Content-Security-Policy")
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert header(answer, "X-Content-Type-Options") == "nosniff"
        assert header(answer, "Referrer-Policy") == "no-referrer"
        assert header(answer, "Cross-Origin-Resource-Policy") == "same-origin"
        assert header(answer, "Cache-Control") == "no-store"
        assert "Python" not in header(answer, "Server")


def test_only_looking(client: Client) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = client("api/echo", method, b"x=1")
        assert (answer.status, header(answer, "Allow")) == (405, "GET, HEAD")
    whole, head = client(""), client("", "HEAD")
    assert header(head, "Content-Length") == header(whole, "Content-Length") == str(len(static("index.html")))
    assert head.text == ""  # type: ignore[attr-defined]


def test_images_are_sent_and_nothing_else_that_is_a_blob(client: Client) -> None:
    answer = client(f"blob?e=x&name={'a' * 64}")
    assert (answer.status, header(answer, "Content-Type")) == (200, "image/png")
    assert header(client(f"blob?name={'d' * 64}"), "Content-Type") == "image/jpeg"
    for name in (
        "b" * 64,
        "c" * 64,
        "e" * 64,
        "A" * 64,
        "a" * 63,
        "../../etc/passwd",
        "%2e%2e%2f",
        "",
        "a" * 64 + "%00",
    ):
        assert client(f"blob?name={name}").status == 404
    assert image_type(b"GIF8x") is None
    assert image_type(b"RIFF0000WEBPVP8 ") == "image/webp"


def test_files_of_the_page_alone(client: Client) -> None:
    for name, kind in STATIC.items():
        answer = client(f"static/{name}")
        assert (answer.status, header(answer, "Content-Type")) == (200, kind)
    beside = ("../server.py", "%2e%2e/server.py", "", "viewer.css/", "/etc/passwd", "main.js%00")
    for path in (*(f"static/{name}" for name in beside), "server.py", "..%2f..%2fetc/passwd"):
        assert client(path).status == 404


def test_questions_that_make_no_sense(client: Client) -> None:
    assert client.text("api/echo?a=1&a=2&b=") == '{"a": "1", "b": ""}'
    assert client.text("api/echo?%ff=%ff%00%f0").isascii()
    assert client.text("api/nothing", 404) == "there is no 'nothing'"
    assert client("api/echo?" + "x=1&" * 1000).status == 200
    with socket.create_connection(("127.0.0.1", client.viewer.port)) as connection:
        connection.sendall(b"GET http://[/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_numbers_that_are_none_and_faults_are_answers_too(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    assert client.text("api/nan") == '{"metric": "NaN", "surrogate": "\\ud800"}'
    assert client.text("api/fault", 500).startswith("the viewer failed here: TypeError")
    assert "\x1b" not in capfd.readouterr().err
    assert client("api/echo").status == 200


def test_a_browser_that_goes_away_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    class Large(Shelf):
        def answer(self, path: str, query: Mapping[str, str]) -> Any:
            return "x" * 50_000_000 if path == "large" else super().answer(path, query)

    viewer = Viewer(Large())
    with viewer.serving():
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", viewer.port)) as connection:
                host = f"127.0.0.1:{viewer.port}"
                cookie, path = cookie_of(viewer), f"{viewer.root}api/large"
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n".encode())
                assert connection.recv(100).startswith(b"HTTP/1.1 200")
        client = Client(viewer, cookie)
        assert client("api/echo").status == 200
    assert capfd.readouterr().err == ""


def test_the_port_is_taken_and_free_again() -> None:
    first = Viewer(Shelf())
    with pytest.raises(OSError):
        Viewer(Shelf(), first.port)
    first.stop()
    again = Viewer(Shelf(), first.port)
    again.stop()


def test_every_file_of_the_page_is_named() -> None:
    folder = Path(__file__).parents[3] / "trajectories" / "viewer" / "static"
    assert {path.name for path in folder.iterdir()} == set(STATIC)


def test_every_module_is_asked_for_at_once() -> None:
    preloaded = re.findall(r'<link rel="modulepreload" href="static/([\w.]+)">', static("index.html").decode())
    assert sorted(preloaded) == sorted(name for name in STATIC if name.endswith(".js"))
