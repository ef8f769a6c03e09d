"""Carries HTTP between two sealed worlds: tests in the judging world ask, the application in its own world answers."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from trellis.environments.environment import Environment, EnvironmentFault

ANSWER_TIMEOUT_S = 10.0
"""How long the application may take over one request."""
ALL_ANSWERS_S = 60.0
"""How long it may take over all of them; after that, nothing more is asked."""
POLL_TIMEOUT_S = 30.0
RETRY_S = 0.02

_TALK = "exec 3<>/dev/tcp/127.0.0.1/{port} && cat >&3 && exec cat <&3"
_NO_ANSWER = b"HTTP/1.0 504 Gateway Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Bridge:
    """One run of the tests over one started application."""

    application: Environment
    application_port: int
    judge: Environment
    judge_port: int
    died: bool = False
    """The application's world broke while the tests ran."""
    _spent_s: float = field(default=0.0, init=False)

    async def carry(self) -> None:
        """Until the tests are over; ends by itself, or is cancelled."""
        answer = b"0 0\n"
        while True:
            result = await self.judge.exec(_TALK.format(port=self.judge_port), stdin=answer, timeout_s=POLL_TIMEOUT_S)
            if not result.ok:  # not listening yet, or not any more
                await asyncio.sleep(RETRY_S)
                continue
            head, _, request = result.stdout.partition(b"\n")
            number = int(head.split()[0])
            if number < 0:
                return
            response = await self._ask(request) if number else b""
            answer = b"%d %d\n" % (number, len(response)) + response

    async def _ask(self, request: bytes) -> bytes:
        """The application's answer, or one that says that there is none."""
        if self.died or self._spent_s > ALL_ANSWERS_S:
            return _NO_ANSWER
        began = time.monotonic()
        try:
            talk = _TALK.format(port=self.application_port)
            result = await self.application.exec(talk, stdin=request, timeout_s=ANSWER_TIMEOUT_S)
        except EnvironmentFault:
            self.died = True
            return _NO_ANSWER
        finally:
            self._spent_s += time.monotonic() - began
        return result.stdout or _NO_ANSWER
