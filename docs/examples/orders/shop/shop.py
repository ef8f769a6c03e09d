"""The shop: GET /orders gives the orders, GET /prices what the price service says; POST /orders/<id>/pay pays one."""

import json
import os
import re
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ORDERS = Path("/tmp/orders.json")


class Shop(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/orders":
            self.answer(200, ORDERS.read_bytes())
        elif self.path == "/prices":
            with urllib.request.urlopen(os.environ["PRICES"], timeout=10) as prices:
                self.answer(200, prices.read())
        else:
            self.answer(404, b"{}")

    def do_POST(self) -> None:
        orders = json.loads(ORDERS.read_text())
        wanted = re.fullmatch(r"/orders/(\d+)/pay", self.path)
        found = [order for order in orders if wanted and order["id"] == int(wanted[1])]
        for order in found:
            order["paid"] = True
        ORDERS.write_text(json.dumps(orders))
        self.answer(200 if found else 404, b"{}")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if not ORDERS.exists():  # in a fork it is there already
    ORDERS.write_bytes(Path("/srv/orders.json").read_bytes())
ThreadingHTTPServer(("", 8000), Shop).serve_forever()
