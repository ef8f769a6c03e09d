"""The driver: the program in a world that holds its browser and does what the host asks, one request after the other.

It speaks in frames (see frames.py), whose payload is a picture. The two pipes it comes with are moved away from 0 and 1
and closed to every other process, so that nothing that is printed and nothing else in the world can speak in its name.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import traceback
from contextlib import suppress
from typing import Any

from trellis.tools.browser.driver.actions import Actions
from trellis.tools.browser.driver.chrome import Chrome, NoBrowser
from trellis.tools.browser.driver.tabs import LOOK_S, Crashed, Mistake, first_line
from trellis.tools.frames import Frames, pack

PR_SET_DUMPABLE = 4
NODES = 1500
"""So many lines of a page are looked at, at most."""


class Driver:
    def __init__(self, sink: int) -> None:
        self._sink = sink
        self._chrome: Chrome | None = None
        self._actions: Actions | None = None

    async def serve(self, reader: asyncio.StreamReader) -> None:
        frames = Frames()
        while data := await reader.read(1 << 16):
            for request, _ in frames.feed(data):
                await self._respond(**request)
        os._exit(0)

    async def _respond(self, id: int, **request: Any) -> None:
        payload = b""
        try:
            answer, payload = await self._answer(**request)
        except Mistake as mistake:
            answer = {"mistake": str(mistake)}
        except NoBrowser as reason:
            answer = {"missing": str(reason)}
        except Exception:
            answer = {"broken": traceback.format_exc()}
        data = memoryview(pack({"id": id, **answer}, payload))
        while data:
            data = data[os.write(self._sink, data) :]

    async def _answer(self, op: str, **fields: Any) -> tuple[dict[str, Any], bytes]:
        if op == "ping":
            if self._chrome is not None:
                await self._chrome.alive()
            return {}, b""
        if op == "start":
            await self._start(**fields)
            return {}, b""
        return await self._act(**fields)

    async def _start(self, script: str, workdir: str, downloads: str, width: int, height: int) -> None:
        self._chrome = Chrome(script, downloads, width, height)
        await self._chrome.start()
        self._actions = Actions(self._chrome, workdir)

    async def _act(
        self, action: str, arguments: dict[str, Any], timeout_s: float, look: bool, only: int | None
    ) -> tuple[dict[str, Any], bytes]:
        from playwright.async_api import Error

        chrome, actions = self._chrome, self._actions
        assert chrome is not None
        assert actions is not None
        mistake, did = "", ""
        try:
            did = await actions.perform(action, arguments, timeout_s)
        except Mistake as error:
            mistake = str(error)
        except Crashed:
            mistake = f"the page crashed during {action}; whether it took effect is unknown"
        except TimeoutError:
            mistake = f"{action} did not end within {timeout_s:g} s and was given up"
        except Error as error:  # what the browser refuses
            mistake = f"{action} failed: {first_line(error)}"
            if "crash" in mistake.lower() or "closed" in mistake.lower():
                mistake = f"the page went away during {action}; whether it took effect is unknown"
        answer: dict[str, Any] = {"did": did, "mistake": mistake}
        answer["page"] = await self._page(chrome, timeout_s, look, only)
        answer["notices"], chrome.notices = chrome.notices, []
        return answer, actions.image if not mistake else b""

    async def _page(self, chrome: Chrome, timeout_s: float, look: bool, only: int | None) -> dict[str, Any]:
        """How things stand after an action, with what is on the page if `look`."""
        await chrome.arrived()
        if look and chrome.asking() is None:
            await chrome.tab.settle(timeout_s)
            await chrome.saved(min(5.0, timeout_s))
            await chrome.arrived()
        seen = None
        if look and chrome.asking() is None:
            seen = await self._look(chrome, only)
        await chrome.arrived()
        tab = chrome.tab
        page: dict[str, Any] = {
            "tab": tab.number,
            "tabs": [await self._describe_tab(one) for one in chrome.tabs],
            "seen": seen,
        }
        asking = chrome.asking()
        if asking is not None:
            dialog = asking.dialogs[0]
            page["dialog"] = {
                "tab": asking.number, "kind": dialog.type, "message": dialog.message, "preset": dialog.default_value,
            }  # fmt: skip
        return page

    async def _look(self, chrome: Chrome, only: int | None) -> dict[str, Any] | None:
        from playwright.async_api import Error

        for attempt in (1, 2, 3):
            tab = chrome.tab
            try:
                if tab.crashed:
                    raise Crashed
                seen: dict[str, Any] | None = await tab.run(tab.look(chrome.next_ref, NODES, only), LOOK_S)
                if seen is not None:
                    chrome.next_ref = seen["next"]
                return seen
            except Crashed:
                await chrome.bury(tab)
            except TimeoutError:
                if await tab.revive():
                    chrome.notices.append("the page's script ran without end; it was stopped")
                else:
                    await chrome.replace(tab, f"the page {tab.page.url} did not answer any more and was closed.")
            except (Mistake, Error):
                only = None
                await asyncio.sleep(0.2 * attempt)
        return None

    async def _describe_tab(self, tab: Any) -> dict[str, Any]:
        if not tab.dialogs and not tab.crashed:
            with suppress(Exception):
                history = await asyncio.wait_for(tab.cdp.send("Page.getNavigationHistory"), 2)
                tab.title = history["entries"][history["currentIndex"]]["title"]
        return {"number": tab.number, "url": tab.page.url, "title": tab.title}


async def _run(source: int, sink: int) -> None:
    reader = asyncio.StreamReader(limit=1 << 24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(source, "rb", 0))
    await Driver(sink).serve(reader)


def main() -> None:
    source, sink = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    sys.stdout = sys.stderr
    asyncio.run(_run(source, sink))
