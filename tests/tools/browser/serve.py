"""Serves the pages that a test wrote into the folder `pages`, and some addresses that misbehave. Runs in the world."""

import socket
import struct
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

resets: list[int] = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(path.query).items()}
        page = Path("pages", path.path.strip("/") + ".html")
        if path.path == "/slow":
            time.sleep(float(query["s"]))
            self.answer(b"<title>Slow</title><p>late but there</p>")
        elif path.path == "/never":
            self.answer(b"<title>Never</title><p>the beginning</p>", end=False)
            time.sleep(60)
        elif path.path == "/reset":
            resets.append(1)
            if len(resets) % 2:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                return
            self.answer(b"<title>Second</title><p>second try</p>")
        elif path.path == "/broken":
            self.send_response(500)
            self.send_header("Content-Length", "20")
            self.end_headers()
            self.wfile.write(b"<h1>It broke</h1>   ")
        elif path.path == "/file":
            self.answer(b"a;b\n1;2\n", kind="text/csv", name=query.get("name", "table.csv"))
        elif page.is_file():
            self.answer(page.read_bytes())
        else:
            self.send_error(404)

    def answer(self, data: bytes, kind: str = "text/html; charset=utf-8", name: str = "", end: bool = True) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if name:
            self.send_header("Content-Disposition", f'attachment; filename="{name}"')
        self.send_header("Content-Length", str(len(data) if end else len(data) + 1000))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is logged."""


server = ThreadingHTTPServer(("127.0.0.1", 8077), Handler)
print("listening", flush=True)
server.serve_forever()
