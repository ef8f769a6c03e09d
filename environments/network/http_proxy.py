"""What a program says to an HTTP proxy: `CONNECT host:port`, or a request with an absolute address (http://...)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trellis.environments.network.allow import Place, asked_for

HEAD_END = b"\r\n\r\n"
HEAD_BYTES = 64 << 10
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"

_REQUEST_LINE = re.compile(r"([A-Z]+) (\S+) HTTP/1\.[01]")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)")
_ADDRESS = re.compile(r"http://([^/?#@]*)((?:[/?][^#]*)?)", re.IGNORECASE)
_OF_ONE_HOP = {"connection", "keep-alive", "host", "te", "upgrade"}


class BadRequest(Exception):
    """The program does not speak to this proxy as one does; the text says how it should."""


@dataclass(frozen=True, slots=True)
class Request:
    place: Place
    is_tunnel: bool
    """CONNECT: once it stands, bytes pass as they are."""
    onward: bytes = b""
    """The head as the server must see it."""


def parse(head: bytes) -> Request:
    """Read the head of a request, without its empty line.

    Raises:
        BadRequest: it is malformed, or not for a proxy.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    found = _REQUEST_LINE.fullmatch(first)
    headers = [_HEADER.fullmatch(line) for line in lines]
    if found is None or not all(headers):
        raise BadRequest("this is not an HTTP request")
    method, target = found.groups()
    if method == "CONNECT":
        return Request(_place(target, default_port=""), is_tunnel=True)
    address = _ADDRESS.fullmatch(target)
    if address is None:
        raise BadRequest("this is a proxy: it takes CONNECT host:port, or a request for http://host/...")
    authority, path = address.groups()
    fields = [header.groups() for header in headers if header]
    return Request(_place(authority, default_port="80"), False, _onward(method, authority, path, fields))


def _onward(method: str, authority: str, path: str, fields: list[tuple[str, ...]]) -> bytes:
    """One request on one connection: the next one may be for another host."""
    of_one_hop = _OF_ONE_HOP | {
        name.strip().lower() for field, value in fields if field.lower() == "connection" for name in value.split(",")
    }
    path = path if path.startswith("/") else f"/{path}"
    lines = [f"{method} {path} HTTP/1.1", f"Host: {authority}", "Connection: close"]
    lines += [
        f"{field}: {value}"
        for field, value in fields
        if field.lower() not in of_one_hop and not field.lower().startswith("proxy-")
    ]
    return "\r\n".join(lines).encode("latin-1") + HEAD_END


def _place(authority: str, *, default_port: str) -> Place:
    host, colon, port = authority.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = authority, default_port
    try:
        return asked_for(host, port)
    except ValueError as error:
        raise BadRequest(f"{authority!r} is not host:port ({error})") from None


def refusal(status: int, text: str) -> bytes:
    """A whole response that says one line, in its head as well: many programs show nothing else."""
    line = re.sub(r"[^\x20-\x7e]", "?", text)
    body = f"{line}\n".encode()
    head = (
        f"HTTP/1.1 {status} {line}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    )
    return head.encode() + b"\r\n" + body
