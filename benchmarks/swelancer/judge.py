"""The program of the judging world: runs hidden tests against an application that lives in another world.

It is copied into that world and run as a script, so it imports nothing of Trellis. Tests (and a browser) speak HTTP to
a port of this process. The host fetches each request from a second port, has it answered by the application, and
brings the answer back. So nothing that the application does can reach the tests, their process or the verdict; all
that crosses is HTTP.

On the second port, one exchange per connection: the host sends `<number> <length>\\n` and the answer to that request
(number 0: none), and gets the next request in the same form (number 0: none yet; -1: the tests are over).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

ANSWER_TIMEOUT_S = 60.0
POLL_S = 5.0
END_S = 2.0
GATEWAY_TIMEOUT = b"HTTP/1.0 504 Gateway Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Relay:
    """Requests of the tests on their way to the host, and its answers on their way back."""

    def __init__(self) -> None:
        self._requests: queue.Queue[tuple[int, bytes]] = queue.Queue()
        self._answers: dict[int, queue.Queue[bytes]] = {}
        self._numbers = itertools.count(1)
        self._told = threading.Event()

    def serve_test(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError):
            connection.settimeout(ANSWER_TIMEOUT_S)
            request = read_request(connection)
            if request is None:
                return
            number, answer = next(self._numbers), queue.Queue[bytes]()
            self._answers[number] = answer
            self._requests.put((number, request))
            try:
                connection.sendall(answer.get(timeout=ANSWER_TIMEOUT_S))
            except queue.Empty:
                connection.sendall(GATEWAY_TIMEOUT)
            finally:
                self._answers.pop(number, None)

    def serve_host(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError), connection.makefile("rb") as incoming:
            connection.settimeout(ANSWER_TIMEOUT_S)
            number, length = map(int, incoming.readline().split())
            body = incoming.read(length)
            waiting = self._answers.get(number)
            if waiting is not None:
                waiting.put(body)
            try:
                number, request = self._requests.get(timeout=POLL_S)
            except queue.Empty:
                number, request = 0, b""
            connection.sendall(b"%d %d\n" % (number, len(request)) + request)
            if number == -1:
                self._told.set()

    def end(self) -> None:
        """Tell the host that the tests are over."""
        self._requests.put((-1, b""))
        self._told.wait(END_S)


def read_request(connection: socket.socket) -> bytes | None:
    """One whole request that asks for the connection to be closed after it; None if the peer hangs up before."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(1 << 16)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    fields = [line for line in lines if line.split(b":")[0].strip().lower() not in (b"connection", b"keep-alive")]
    length = next((int(f.split(b":")[1]) for f in fields if f.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        more = connection.recv(1 << 16)
        if not more:
            return None
        body += more
    return b"\r\n".join([first, *fields, b"Connection: close", b"", body])


def listen(port: int, serve: Callable[[socket.socket], None]) -> None:
    """Raises OSError when the port is taken."""
    server = socket.create_server(("127.0.0.1", port), backlog=64)

    def accept() -> None:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


class Report:
    """A pytest plugin that notes how each test ended. Tests with a browser run last, and only if all others passed."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}
        self.reasons: dict[str, str] = {}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items.sort(key=lambda item: "page" in item.fixturenames)

    def pytest_runtest_setup(self, item: Any) -> None:
        if "page" in item.fixturenames and "failed" in self.outcomes.values():
            import pytest

            pytest.skip("the HTTP part has failed already")

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            if self.outcomes.get(report.nodeid) != "failed":
                self.outcomes[report.nodeid] = report.outcome
            if report.outcome != "passed":
                text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
                self.reasons[report.nodeid] = text[-1500:]


def main() -> None:
    """Read the order `{"tests", "app_port", "host_port"}` from standard input; print the verdict as a line of JSON."""
    order = json.load(sys.stdin)
    relay = Relay()
    listen(order["host_port"], relay.serve_host)
    listen(order["app_port"], relay.serve_test)
    os.environ["APP_URL"] = f"http://127.0.0.1:{order['app_port']}"
    import pytest

    report = Report()
    with contextlib.redirect_stdout(sys.stderr):
        code = pytest.main(["-p", "no:cacheprovider", "--tb=short", "-q", order["tests"]], plugins=[report])
    relay.end()
    print(json.dumps({"exit_code": int(code), "outcomes": report.outcomes, "reasons": report.reasons}), flush=True)
    os._exit(0)  # threads of abandoned connections may still wait


if __name__ == "__main__":
    main()
