"""A client that calls the application in process and keeps its cookies, like one browser."""

import io
import json
from urllib.parse import urlsplit

from tally.app import create_app


class Response:
    def __init__(self, status, headers, body):
        self.status = int(status.split()[0])
        self.headers = dict(headers)
        self.text = body.decode()

    @property
    def json(self):
        return json.loads(self.text)


class Client:
    def __init__(self, app=None):
        self.app = app or create_app(":memory:", iterations=1)
        self.cookies = {}

    def request(self, method, address, body=None):
        """`body` is sent as JSON, or as it is when it is text."""
        url = urlsplit(address)
        data = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": url.path,
            "QUERY_STRING": url.query,
            "CONTENT_LENGTH": str(len(data)),
            "HTTP_COOKIE": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            "wsgi.input": io.BytesIO(data),
        }
        answer = []
        body = b"".join(self.app(environ, lambda status, headers: answer.extend([status, headers])))
        for name, value in answer[1]:
            if name == "Set-Cookie":
                cookie, _, token = value.partition(";")[0].partition("=")
                self.cookies[cookie] = token
        return Response(*answer, body)

    def get(self, address):
        return self.request("GET", address)

    def post(self, address, body=None):
        return self.request("POST", address, body)

    def patch(self, address, body):
        return self.request("PATCH", address, body)

    def delete(self, address):
        return self.request("DELETE", address)

    def sign_up(self, name="ada", password="correct horse"):
        assert self.post("/api/signup", {"name": name, "password": password}).status == 201
        return self

    def spend(self, date, amount, category="Food", note=""):
        answer = self.post("/api/expenses", {"date": date, "amount": amount, "category": category, "note": note})
        assert answer.status == 201, answer.text
        return answer.json
