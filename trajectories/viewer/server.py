"""A web server for one person on this machine: what it shows was written by models and tools, and nothing of it runs.

It listens on the loopback interface alone. Whoever opens the address that is printed gets a cookie; without it nothing
is answered, so that neither other users nor pages of other sites can read along. Only GET is known.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from trellis.trajectories.blobs import is_name

COOKIE = "trellis"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
STATIC = {
    "index.html": "text/html; charset=utf-8",
    "viewer.css": "text/css; charset=utf-8",
    **{f"{name}.js": "text/javascript; charset=utf-8" for name in (
        "main", "source", "dom", "text", "run", "episode", "step", "list", "tree", "charts",
    )},
}  # fmt: skip
"""The files of the page, and their types."""
_IMAGES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))
_PAGE = re.compile(r"/(?:runs|run|episode)?")


class NotThere(Exception):
    """What was asked for is not there."""


class Shelf(Protocol):
    """What can be looked at."""

    def answer(self, path: str, query: Mapping[str, str]) -> Any:
        """The JSON document at `/api/{path}`. Raises NotThere. May be called from several threads at a time."""
        ...

    def blob(self, episode: str, name: str) -> bytes:
        """A blob of an episode. Raises NotThere."""
        ...


class Viewer:
    """The server. `address` is for one person: it holds the token."""

    def __init__(self, shelf: Shelf, port: int = 0) -> None:
        """Raises OSError: the port is taken."""
        self.shelf = shelf
        self.token = secrets.token_urlsafe(24)
        self._server = _Server(("127.0.0.1", port), self)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    def serve(self) -> None:
        """For ever, or until `KeyboardInterrupt`, or until another thread calls `shutdown`."""
        self._server.serve_forever(poll_interval=0.2)

    def shutdown(self) -> None:
        self._server.shutdown()

    def stop(self) -> None:
        """After serving: the port is free again."""
        self._server.server_close()

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve in a thread, for as long as the block lasts; yields the address."""
        thread = threading.Thread(target=self.serve, daemon=True)
        thread.start()
        try:
            yield self.address
        finally:
            self.shutdown()
            thread.join()
            self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], viewer: Viewer) -> None:
        self.viewer = viewer
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 60

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        if not self._for_us():
            self._send(HTTPStatus.MISDIRECTED_REQUEST, b"", "text/plain")
        elif "token" in query and self._is_token(query["token"]):
            self.send_response(HTTPStatus.SEE_OTHER)
            self.send_header("Location", parts.path if _PAGE.fullmatch(parts.path) else "/")
            self.send_header("Set-Cookie", f"{self._cookie}={query['token']}; Path=/; HttpOnly; SameSite=Strict")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif not self._known():
            self._send(HTTPStatus.FORBIDDEN, b"open the address that trellis view printed", "text/plain; charset=utf-8")
        else:
            self._answer(unquote(parts.path), query)

    def _answer(self, path: str, query: Mapping[str, str]) -> None:
        shelf = self.server.viewer.shelf
        try:
            if path.startswith("/api/"):
                body = json.dumps(shelf.answer(path.removeprefix("/api/"), query), allow_nan=False, default=str)
                self._send(HTTPStatus.OK, body.encode("utf-8", "replace"), "application/json")
            elif path == "/blob":
                self._image(shelf.blob(query.get("e", ""), query.get("name", "")), query.get("name", ""))
            elif _PAGE.fullmatch(path):
                self._static("index.html")
            else:
                self._static(path.removeprefix("/static/"))
        except NotThere as error:
            self._send(HTTPStatus.NOT_FOUND, str(error).encode("utf-8", "replace"), "text/plain; charset=utf-8")

    def _static(self, name: str) -> None:
        if name not in STATIC:
            raise NotThere(f"there is no {name!r}")
        self._send(HTTPStatus.OK, static(name), STATIC[name])

    def _image(self, data: bytes, name: str) -> None:
        """Raster images alone: whatever else a blob is, a browser might run it."""
        kind = image_type(data)
        if not is_name(name) or kind is None:
            raise NotThere("not an image that is shown")
        self._send(HTTPStatus.OK, data, kind)

    def _for_us(self) -> bool:
        """A page of another site may have its own name point here."""
        return self.headers.get("Host", "") in {
            f"{host}:{self.server.viewer.port}" for host in ("127.0.0.1", "localhost")
        }

    def _known(self) -> bool:
        pairs = (pair.strip().partition("=") for pair in self.headers.get("Cookie", "").split(";"))
        return any(name == self._cookie and self._is_token(value) for name, _, value in pairs)

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self.server.viewer.token.encode())

    @property
    def _cookie(self) -> str:
        return f"{COOKIE}-{self.server.viewer.port}"  # cookies do not tell ports apart

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def static(name: str) -> bytes:
    """A file of the page."""
    return resources.files(__package__).joinpath("static", name).read_bytes()


def image_type(data: bytes) -> str | None:
    """The media type of a raster image; None for everything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _IMAGES if data.startswith(magic)), None)
