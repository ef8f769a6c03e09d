"""Serves the pages of the tasks on the world's loopback, and keeps a journal of what was asked for and done.

    python3 server.py [PORT]

Prints its address once it listens. The journal, one JSON object a line beside this file, is all that scoring sees.
A page comes with a ticket, without which nothing can be done; started again in a fork, the server goes on from the
journal. Runs in the agent's world: Python 3.8, standard library only.
"""

from __future__ import annotations

import json
import secrets
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import logic  # noqa: E402

JOURNAL = HERE / "journal.jsonl"
LARGEST_BODY_BYTES = 1 << 20
WRAP = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="ticket" content="{ticket}">'
    '<link rel="icon" href="data:,"><link rel="stylesheet" href="/site.css"><script src="/site.js"></script></head>'
    "<body>{body}</body></html>"
)
TYPES = {".js": "text/javascript", ".css": "text/css"}


class Site:
    """The state behind the pages, and its journal."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.state = logic.State()
        self.tickets: dict[str, str] = {}
        if JOURNAL.exists():
            for line in JOURNAL.read_text("utf-8").splitlines():
                self._again(json.loads(line))

    def _again(self, entry: dict[str, Any]) -> None:
        if entry["kind"] == "page":
            self.tickets[entry["ticket"]] = entry["path"].split("/")[0]
        elif entry["kind"] == "deed" and entry["name"] in logic.DEEDS:
            logic.DEEDS[entry["name"]](dict(entry["sent"]), self.state)

    def note(self, **entry: Any) -> None:
        with JOURNAL.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def page(self, path: str, query: dict[str, str], cookie: str) -> tuple[int, str]:
        """Raises KeyError: there is none."""
        name = path.rstrip("/")
        with self.lock:
            if name in logic.PAGES:
                status, body = logic.PAGES[name]({**query, "cookie": cookie}, self.state)
            elif (HERE / "pages" / f"{name}.html").is_file() and "/" not in name:
                status, body = 200, (HERE / "pages" / f"{name}.html").read_text("utf-8")
            else:
                raise KeyError(name)
            ticket = secrets.token_hex(8)
            self.tickets[ticket] = name.split("/")[0]
            self.note(kind="page", path=name, query=query, status=status, ticket=ticket)
        return status, WRAP.replace("{ticket}", ticket).replace("{body}", body)

    def data(self, path: str, query: dict[str, str]) -> Any:
        """Raises KeyError: there is none."""
        found = logic.DATA[path](query, self.state)
        with self.lock:
            self.note(kind="data", path=path, query=query)
        return found

    def do(self, name: str, ticket: str, sent: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            if self.tickets.get(ticket) != name.split("/")[0] or name not in logic.DEEDS:
                self.note(kind="refused", name=name, why="no ticket", sent=sent)
                return {"ok": False, "say": "This does not come from a page of this site."}
            body = dict(sent)
            try:
                answer = logic.DEEDS[name](body, self.state)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                answer = {"ok": False, "say": f"This cannot be read: {error}"}
            if not answer["ok"]:
                self.note(kind="refused", name=name, why="not accepted", sent=sent)
                return answer
            self.note(kind="deed", name=name, sent=sent, body=body)
            if "also" in answer:
                more, about = answer.pop("also")
                self.note(kind="deed", name=more, sent={}, body=about)
            return answer


class Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path, query = parts.path.strip("/"), dict(parse_qsl(parts.query))
        file = HERE / path
        if path in ("site.js", "site.css"):
            self._send(200, file.read_bytes(), TYPES[file.suffix])
        elif path == "picture/code.png":
            self.site.note(kind="data", path=path, query=query)
            self._send(200, logic.picture(), "image/png")
        elif path == "statement/file":
            month = query.get("month", "")
            self.site.note(kind="data", path=path, query=query)
            disposition = {"Content-Disposition": f'attachment; filename="statement-{month}.csv"'}
            self._send(200, logic.statement(month).encode(), "text/csv", disposition)
        elif path in logic.DATA:
            self._json(self.site.data(path, query))
        else:
            try:
                status, text = self.site.page(path, query, self._cookie())
            except KeyError:
                status, text = 404, "<!doctype html><title>Not found</title><h1>Not found</h1>"
            self._send(status, text.encode(), "text/html; charset=utf-8")

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        if size > LARGEST_BODY_BYTES or not self.path.startswith("/do/"):
            self._send(400, b"", "text/plain")
            return
        try:
            sent = json.loads(self.rfile.read(size))
            if not isinstance(sent, dict):
                raise ValueError("no object")
        except ValueError:
            self._send(400, b"", "text/plain")
            return
        answer = self.site.do(self.path[4:], self.headers.get("X-Ticket", ""), sent)
        cookie = answer.pop("cookie", None)
        self._json(answer, {"Set-Cookie": f"session={cookie}; Path=/; HttpOnly"} if cookie else {})

    def _cookie(self) -> str:
        for part in self.headers.get("Cookie", "").split(";"):
            name, _, value = part.strip().partition("=")
            if name == "session":
                return value
        return ""

    def _json(self, found: Any, headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(found).encode(), "application/json", headers or {})

    def _send(self, status: int, data: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """The journal is kept elsewhere."""


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    Handler.site = Site()
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"http://127.0.0.1:{port}/", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
