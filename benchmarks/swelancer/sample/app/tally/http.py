"""Requests, responses and routes over WSGI."""

import json
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl

MAX_BODY_BYTES = 1_000_000


class HttpError(Exception):
    """Ends a request with this status and a JSON body that says why."""

    def __init__(self, status, message, fields=None, headers=()):
        super().__init__(message)
        self.status = status
        self.message = message
        self.fields = fields or {}
        self.headers = tuple(headers)

    def response(self):
        body = {"error": self.message}
        if self.fields:
            body["fields"] = self.fields
        return json_response(body, self.status, headers=self.headers)


@dataclass
class Request:
    method: str
    path: str
    query: dict
    cookies: dict
    body: bytes = b""
    user: dict | None = None

    @classmethod
    def from_environ(cls, environ):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if length > MAX_BODY_BYTES:
            raise HttpError(413, "the request is too large")
        return cls(
            method=environ["REQUEST_METHOD"],
            path=environ.get("PATH_INFO", "/").encode("latin-1").decode("utf-8", "replace"),
            query=dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True)),
            cookies=read_cookies(environ.get("HTTP_COOKIE", "")),
            body=environ["wsgi.input"].read(length) if length else b"",
        )

    def json(self):
        try:
            data = json.loads(self.body or b"{}")
        except ValueError:
            raise HttpError(400, "the body is not JSON") from None
        if not isinstance(data, dict):
            raise HttpError(400, "the body must be a JSON object")
        return data


@dataclass
class Response:
    status: int = 200
    body: bytes = b""
    content_type: str = "application/json; charset=utf-8"
    headers: list = field(default_factory=list)

    def send(self, start_response):
        headers = [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
            ("X-Content-Type-Options", "nosniff"),
            *self.headers,
        ]
        start_response(f"{self.status} {HTTPStatus(self.status).phrase}", headers)
        return [self.body]


def json_response(data, status=200, headers=()):
    return Response(status, json.dumps(data).encode() + b"\n", headers=list(headers))


def no_content(headers=()):
    return Response(204, headers=list(headers))


def read_cookies(header):
    try:
        return {name: morsel.value for name, morsel in SimpleCookie(header).items()}
    except CookieError:
        return {}


class Router:
    """Finds the handler of a method and a path such as `/api/expenses/{id}`."""

    def __init__(self):
        self._routes = []

    def add(self, method, pattern, handler, public=False):
        names = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)
        self._routes.append((method, re.compile(names), handler, public))

    def find(self, method, path):
        """The handler, its arguments, and whether it is open to everybody. Raises HttpError 404 or 405."""
        allowed = []
        for route_method, pattern, handler, public in self._routes:
            match = pattern.fullmatch(path)
            if match and route_method == method:
                return handler, match.groupdict(), public
            if match:
                allowed.append(route_method)
        if allowed:
            raise HttpError(405, f"{method} is not possible here", headers=[("Allow", ", ".join(sorted(set(allowed))))])
        raise HttpError(404, "there is nothing at this address")


def whole_number(text, what):
    """A number from a path or a query. Raises HttpError 400."""
    if not re.fullmatch(r"\d{1,9}", text):
        raise HttpError(400, f"{what} must be a whole number")
    return int(text)
