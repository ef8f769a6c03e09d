"""A web server for one person on this machine: what it shows was written by models and tools, and nothing of it runs.

It listens on the loopback interface alone. The address that is printed works once: whoever opens it gets a cookie, and
without it nothing is answered, so that neither other users nor pages of other sites can read along. Everything lies
below a folder that nobody can guess: a browser sends a host's cookies to all of its ports, which may be other users',
but only below the path that they were given for. Only GET is known.
"""

from __future__ import annotations

import hmac
import re
import secrets
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from trellis.models.terminal import visible
from trellis.trajectories.blobs import is_name
from trellis.trajectories.viewer.documents import encoded

COOKIE = "trellis"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
STATIC = {
    "index.html": "text/html; charset=utf-8",
    "viewer.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **{f"{name}.js": "text/javascript; charset=utf-8" for name in (
        "main", "run", "episode", "tree", "step", "timeline", "charts", "list", "text", "sheet", "source", "dom",
    )},
}  # fmt: skip
"""The files of the page, and their types."""
_IMAGES = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF87a", "image/gif"),
           (b"GIF89a", "image/gif"))  # fmt: skip
PLAIN = "text/plain; charset=utf-8"
_CLOSED = b"open the address that trellis view printed; it works once: for another browser, start trellis view again"
NONE: Mapping[str, str] = {}
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_HOST = re.compile(r"(?:127\.0\.0\.1|localhost)(?::\d+)?", re.IGNORECASE)
"""Of any port: it may be forwarded from another machine's."""
_PAGE = re.compile(r"(?:runs|run|episode)?")


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
    """The server. `address` is for one person, who opens it once: it holds the token."""

    def __init__(self, shelf: Shelf, port: int = 0) -> None:
        """Raises OSError: the port is taken."""
        self.shelf = shelf
        self.root = f"/{secrets.token_urlsafe(9)}/"
        """What all addresses begin with."""
        self.cookie = secrets.token_urlsafe(24)
        """Its value is known to the browser that was let in, and to nobody else."""
        self._token = secrets.token_urlsafe(24)
        self._used = threading.Lock()
        """Taken by the first who has the token, and kept."""
        self._server = _Server(("127.0.0.1", port), self)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.root}?token={self._token}"

    def lets_in(self, token: str) -> bool:
        """Is it the token, for the first time?"""
        return hmac.compare_digest(token.encode(), self._token.encode()) and self._used.acquire(blocking=False)

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
    request_queue_size = 128  # a browser opens several connections at once; of more than wait here it waits for seconds

    def __init__(self, address: tuple[str, int], viewer: Viewer) -> None:
        self.viewer = viewer
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Browsers go away in the middle of an answer."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            _tell_fault()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 60

    def version_string(self) -> str:
        return "trellis"

    def do_GET(self) -> None:
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # nobody reads what follows
        try:
            parts = urlsplit(self.path)
        except ValueError:
            self._send(HTTPStatus.BAD_REQUEST, b"this is no address")
            return
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        viewer = self.server.viewer
        if not _HOST.fullmatch(self.headers.get("Host", "")):  # a page of another site may have its own name point here
            self._send(HTTPStatus.MISDIRECTED_REQUEST, b"this is not for us")
        elif not parts.path.startswith(viewer.root) or self._asked_by_another_page():
            self._send(HTTPStatus.FORBIDDEN, _CLOSED)
        elif self._known() and "token" not in query:
            self._send(*self._answer(unquote(parts.path.removeprefix(viewer.root)), query))
        elif self._known():
            self._send(HTTPStatus.SEE_OTHER, b"", headers={"Location": viewer.root})
        elif self.command == "GET" and viewer.lets_in(query.get("token", "")):
            cookie = f"{COOKIE}={viewer.cookie}; Path={viewer.root}; HttpOnly; SameSite=Lax"
            self._send(HTTPStatus.SEE_OTHER, b"", headers={"Location": viewer.root, "Set-Cookie": cookie})
        else:
            self._send(HTTPStatus.FORBIDDEN, _CLOSED)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.close_connection = True
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, b"nothing can be changed here", headers={"Allow": "GET, HEAD"})

    do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_POST

    def _answer(self, path: str, query: Mapping[str, str]) -> tuple[HTTPStatus, bytes, str]:
        shelf = self.server.viewer.shelf
        try:
            if path.startswith("api/"):
                document = shelf.answer(path.removeprefix("api/"), query)
                return HTTPStatus.OK, encoded(document).encode(), "application/json"
            if path == "blob":
                return self._image(query.get("name", ""), query.get("e", ""))
            return self._static("index.html" if _PAGE.fullmatch(path) else path.removeprefix("static/"))
        except NotThere as error:
            return HTTPStatus.NOT_FOUND, str(error).encode("utf-8", "replace"), PLAIN
        except Exception as error:  # one answer that fails is not the end of the others
            _tell_fault()
            line = f"the viewer failed here: {type(error).__name__}: {error}"
            return HTTPStatus.INTERNAL_SERVER_ERROR, line.encode("utf-8", "replace"), PLAIN

    def _static(self, name: str) -> tuple[HTTPStatus, bytes, str]:
        if name not in STATIC:
            raise NotThere(f"there is no {name!r}")
        return HTTPStatus.OK, static(name), STATIC[name]

    def _image(self, name: str, episode: str) -> tuple[HTTPStatus, bytes, str]:
        """Raster images alone: whatever else a blob is, a browser might run it."""
        if not is_name(name):
            raise NotThere("this is not the name of a blob")
        data = self.server.viewer.shelf.blob(episode, name)
        kind = image_type(data)
        if kind is None:
            raise NotThere("this is not an image that is shown")
        return HTTPStatus.OK, data, kind

    def _asked_by_another_page(self) -> bool:
        """A link may lead here from anywhere; nothing of it is loaded into somebody else's page."""
        origin = self.headers.get("Sec-Fetch-Site", "none")
        return origin not in ("none", "same-origin") and self.headers.get("Sec-Fetch-Dest") != "document"

    def _known(self) -> bool:
        pairs = (pair.strip().partition("=") for pair in self.headers.get("Cookie", "").split(";"))
        cookie = self.server.viewer.cookie.encode()
        return any(name == COOKIE and hmac.compare_digest(value.encode(), cookie) for name, _, value in pairs)

    def _send(self, status: HTTPStatus, body: bytes, kind: str = PLAIN, headers: Mapping[str, str] = NONE) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def _tell_fault() -> None:
    """What went wrong, for whoever started the viewer; what it quotes was written by others."""
    print("\n".join(visible(line) for line in traceback.format_exc().splitlines()), file=sys.stderr)


def static(name: str) -> bytes:
    """A file of the page."""
    return resources.files(__package__).joinpath("static", name).read_bytes()


def image_type(data: bytes) -> str | None:
    """The media type of a raster image; None for everything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for magic, kind in _IMAGES if data.startswith(magic)), None)
