"""The browser of one world, from the host's side: its driver, started when first needed and again when it died.

A driver that died before an action began is started anew and the action is then done; an action that had begun is
never repeated.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from trellis.environments.environment import Environment, EnvironmentFault, Process
from trellis.environments.guest.program import pack
from trellis.tools.framed import Framed
from trellis.tools.tool import ToolError

DRIVER = Path(__file__).parent / "driver"
PARTS = ("tabs", "chrome", "navigation", "pictures", "actions", "main")
WIDTH, HEIGHT = 1024, 768
"""The screen, in pixels: what models that work from pictures are used to, and small enough for them."""
START_TIMEOUT_S = 120.0
PING_TIMEOUT_S = 15.0
GRACE_S = 60.0
"""How long after an action's own deadline the driver may take to look at the page and to mend it."""
SERVER = "TRELLIS_BROWSER_SERVER"
"""A variable of the task's environment: the command that serves its pages. It prints a line once it listens."""
SERVER_TIMEOUT_S = 60.0
DOWNLOADS = "downloads"


@functools.cache
def driver_program() -> str:
    """What to run as `python3 -I -c TEXT`, where playwright is installed."""
    return pack(["trellis.tools.frames", *(f"trellis.tools.browser.driver.{part}" for part in PARTS)])


class Died(Exception):
    """The driver's process ended; the text holds the end of its log."""


class Session:
    """Requests to the driver of one world, one at a time."""

    def __init__(self) -> None:
        self._driver: Framed | None = None
        self._server: asyncio.Task[None] | None = None
        """Reads what serves the task's pages, until it ends."""
        self._number = 0
        self.started = 0
        """How many browsers this world has had."""

    async def act(
        self, environment: Environment, fields: Mapping[str, Any], timeout_s: float
    ) -> tuple[dict[str, Any], bytes]:
        """Let the driver do something; its answer, and a picture where there is one.

        Raises:
            ToolError: the browser died meanwhile, or what serves the task's pages did and does not come up again.
            EnvironmentFault: the world is gone, or has no browser.
        """
        await self._serve(environment)
        await self._ensure(environment)
        try:
            return await self._request({"op": "act", "timeout_s": timeout_s, **fields}, timeout_s + GRACE_S)
        except (Died, TimeoutError):
            await self.close()
            raise ToolError(
                f"the browser died during {fields['action']}, perhaps for want of memory; whether it took effect is "
                "unknown. The next action starts a new browser: its tabs, cookies and all that was typed are gone, so "
                "begin with navigate"
            ) from None

    async def close(self) -> None:
        """End the driver; the server of the task's pages runs on."""
        driver, self._driver = self._driver, None
        if driver is not None:
            with suppress(EnvironmentFault):
                await driver.process.close()

    async def _ensure(self, environment: Environment) -> None:
        """A driver that answers."""
        if self._driver is not None:
            try:
                await self._request({"op": "ping"}, PING_TIMEOUT_S)
                return
            except (Died, TimeoutError):
                await self.close()
        for last in (False, True):
            try:
                await self._start(environment)
                return
            except (Died, TimeoutError) as error:
                await self.close()
                if last:
                    raise EnvironmentFault(f"the browser does not start: {error or 'it does not answer'}") from None

    async def _start(self, environment: Environment) -> None:
        workdir = environment.workdir.rstrip("/")
        command = ["python3", "-I", "-c", driver_program()]
        self._driver = Framed(await environment.open_process(command, cwd=environment.workdir))
        answer, _ = await self._request(
            {
                "op": "start",
                "script": (DRIVER / "page.js").read_text("utf-8"),
                "workdir": workdir,
                "downloads": f"{workdir}/{DOWNLOADS}",
                "width": WIDTH,
                "height": HEIGHT,
            },
            START_TIMEOUT_S,
        )
        if "missing" in answer:
            await self.close()
            raise EnvironmentFault(answer["missing"])
        self.started += 1

    async def _serve(self, environment: Environment) -> None:
        """Start what serves the task's pages, and again when it ended."""
        command = environment.spec.env.get(SERVER)
        if not command or (self._server is not None and not self._server.done()):
            return
        blame = EnvironmentFault if self._server is None else ToolError  # it served: who ended it was in the world
        server = await environment.open_process(["bash", "-c", command])
        try:
            async with asyncio.timeout(SERVER_TIMEOUT_S):
                piece = b""
                while b"\n" not in piece:
                    piece = await server.read()
                    if not piece:
                        ended = await server.wait()
                        log = ended.stderr.decode("utf-8", "replace").strip()[-1000:]
                        raise blame(f"the server of the task's pages ended ({SERVER}): {log}")
        except BaseException as error:
            await asyncio.shield(server.close())
            if isinstance(error, TimeoutError):
                raise blame(
                    f"the server of the task's pages printed no line within {SERVER_TIMEOUT_S:g} s ({SERVER})"
                ) from None
            raise
        self._server = asyncio.create_task(_read_on(server))

    async def _request(self, request: dict[str, Any], timeout_s: float) -> tuple[dict[str, Any], bytes]:
        """Raises Died, TimeoutError, EnvironmentFault."""
        driver = self._driver
        assert driver is not None
        self._number += 1
        number = self._number
        async with asyncio.timeout(timeout_s):
            await driver.send({"id": number, **request})
            answer, payload = await _receive(driver)
            while answer.pop("id", None) != number:  # the answer to a call that was cancelled
                answer, payload = await _receive(driver)
        if "broken" in answer:
            raise EnvironmentFault(f"the driver of the browser failed: {answer['broken'].strip()}")
        return answer, payload


async def _receive(driver: Framed) -> tuple[dict[str, Any], bytes]:
    try:
        received = await driver.receive()
    except ValueError:
        raise Died("it talks nonsense") from None
    if received is None:
        ended = await driver.process.wait()
        log = ended.stderr.decode("utf-8", "replace").strip()
        raise Died(log[-1500:] or f"exit code {ended.exit_code}")
    return received


async def _read_on(process: Process) -> None:
    """Until it ends: what it prints is nobody's, but it must not wait for a reader."""
    with suppress(EnvironmentFault):
        while await process.read():
            pass
        await process.wait()
