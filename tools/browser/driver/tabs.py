"""A tab as the driver sees it: the page, its frames' isolated worlds in which `page.js` runs, and what it waits for."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

SLOW_KINDS = {"document", "xhr", "fetch", "script", "stylesheet"}
"""Requests that are waited for before a page counts as quiet."""
LOOK_S = 10.0
"""How long a page may take to let itself be looked at, before its script counts as stuck."""
QUIET_S = 3.0
LOG_LENGTH = 200


_TASKS: set[asyncio.Task[Any]] = set()


def background(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Let something go on beside; nobody asks how it ended."""
    task = asyncio.ensure_future(work)
    _TASKS.add(task)
    task.add_done_callback(_TASKS.discard)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


class Mistake(Exception):
    """The model's: its text says what to do instead."""


class Crashed(Exception):
    """The page's process is gone."""


class Tab:
    """One page, numbered for the model."""

    def __init__(self, number: int, page: Any, cdp: Any, script: str) -> None:
        self.number = number
        self.page = page
        self.cdp = cdp
        self.dialogs: deque[Any] = deque()
        self.dialogs_in_a_row = 0
        self.console: deque[tuple[str, str]] = deque(maxlen=LOG_LENGTH)
        self.network: deque[str] = deque(maxlen=LOG_LENGTH)
        self.chooser: Any = None
        self.title = ""
        self.crashed = self.closed = False
        self.interrupted = asyncio.Event()
        """Set by a dialog, a crash or the end of the page: whoever waits for the page has to stop waiting."""
        self._script = script
        self._blocked: set[asyncio.Task[Any]] = set()
        self._under_way: dict[int, float] = {}
        self._installed: set[int] = set()
        self._frame_of: dict[int, str] = {}
        page.on("request", self._begun)
        page.on("requestfinished", self._finished)
        page.on("requestfailed", self._failed)
        page.on("console", lambda message: self.console.append((message.type, message.text)))
        page.on("pageerror", lambda error: self.console.append(("uncaught", str(error))))
        page.on("filechooser", self._choosing)

    # --- waiting ---

    async def run(self, work: Any, timeout_s: float) -> Any:
        """Await `work`, unless a dialog opens or the page closes or crashes meanwhile.

        None is returned after a dialog, which holds the work up until it is answered, or when the page closed itself.

        Raises:
            asyncio.TimeoutError: it took longer than `timeout_s`.
        """
        task = asyncio.ensure_future(work)
        interrupted = asyncio.ensure_future(self.interrupted.wait())
        try:
            await asyncio.wait({task, interrupted}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            interrupted.cancel()
        if task.done():
            return task.result()
        if self.crashed:
            self._abandon(task)
            raise Crashed
        if self.closed:
            self._abandon(task)
            return None
        if self.dialogs:
            self._blocked.add(task)
            task.add_done_callback(self._unblocked)
            return None
        self._abandon(task)
        raise TimeoutError

    async def unblocked(self, timeout_s: float) -> None:
        """Wait for what a dialog held up; another dialog may come."""
        if self._blocked:
            await self.run(asyncio.wait(set(self._blocked)), timeout_s)

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        task.cancel()

    def _unblocked(self, task: asyncio.Task[Any]) -> None:
        self._blocked.discard(task)
        task.cancelled() or task.exception()

    async def settle(self, timeout_s: float) -> None:
        """Wait until nothing loads any more, for `QUIET_S` at most."""
        until = time.monotonic() + min(QUIET_S, timeout_s)
        await asyncio.sleep(0.06)
        quiet = 0
        while quiet < 2 and time.monotonic() < until and not self.interrupted.is_set():
            quiet = quiet + 1 if not self._under_way else 0
            await asyncio.sleep(0.04)

    # --- talking to page.js ---

    async def call(self, function: str, *arguments: Any, frame: str | None = None, by_value: bool = True) -> Any:
        """Call a JavaScript function in the isolated world of a frame (the main frame, if none is given). Arguments
        that are `{"objectId": ...}` are objects there.

        Raises:
            Mistake: the frame is gone, or the page is made so that it cannot be dealt with.
            Crashed: the page is gone.
        """
        from playwright.async_api import Error

        try:
            frame = frame or await self.main_frame()
            made = await self.cdp.send("Page.createIsolatedWorld", {"frameId": frame, "worldName": "trellis"})
            context = made["executionContextId"]
            if context not in self._installed:
                await self.cdp.send("Runtime.evaluate", {"expression": self._script, "contextId": context})
                self._installed.add(context)
            answer = await self._function(function, arguments, context, by_value)
            if "trellis is not defined" in str(answer.get("exceptionDetails", "")):  # a number that was used before
                await self.cdp.send("Runtime.evaluate", {"expression": self._script, "contextId": context})
                answer = await self._function(function, arguments, context, by_value)
        except Error as error:
            if self.crashed or "crash" in str(error).lower():
                raise Crashed from None
            raise Mistake(f"the page changed while it was looked at ({first_line(error)}): try again") from None
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            why = str(details.get("exception", {}).get("description") or details["text"]).split("\n")[0][:200]
            raise Mistake(f"the page hinders what is asked of it ({why}): try another way")
        return answer["result"].get("value") if by_value else answer["result"]

    async def _function(self, function: str, arguments: tuple[Any, ...], context: int, by_value: bool) -> Any:
        packed = [a if isinstance(a, dict) and "objectId" in a else {"value": a} for a in arguments]
        return await self.cdp.send(
            "Runtime.callFunctionOn",
            {
                "functionDeclaration": function,
                "executionContextId": context,
                "arguments": packed,
                "returnByValue": by_value,
                "awaitPromise": True,
            },
        )

    async def main_frame(self) -> str:
        tree = await self.cdp.send("Page.getFrameTree")
        return str(tree["frameTree"]["frame"]["id"])

    async def frames(self) -> list[str]:
        """Of the frame tree, parents first."""
        tree = await self.cdp.send("Page.getFrameTree")
        found: list[str] = []

        def walk(node: Any) -> None:
            found.append(node["frame"]["id"])
            for child in node.get("childFrames", ()):
                walk(child)

        walk(tree["frameTree"])
        return found

    async def element(self, number: int) -> Element:
        """Raises Mistake: there is no such element any more."""
        if number in self._frame_of:
            frame = self._frame_of[number]
            try:
                found = await self.call("(n) => trellis.element(n)", number, frame=frame, by_value=False)
            except Mistake:
                found = {}
            if found.get("objectId"):
                return Element(self, number, frame, {"objectId": found["objectId"]})
            raise Mistake(f"e{number} is not on the page any more: take a new snapshot and use a reference from it")
        raise Mistake(f"there is no e{number} in this tab: use a reference from its last snapshot")

    # --- looking ---

    async def look(self, first: int, nodes: int, only: int | None = None) -> dict[str, Any]:
        """What is on the page, frames included; `first` is the first number for elements that have none yet."""
        limits = {"nodes": nodes, "ms": 2500}
        frame = self._frame_of.get(only or 0) or await self.main_frame()
        if only:
            await self.element(only)
        seen: dict[str, Any] = await self.call(
            "(n, l, o) => trellis.snapshot(n, l, o)", first, limits, only or 0, frame=frame
        )
        self._claim(seen["nodes"], frame)
        limits["nodes"] -= _count(seen["nodes"])
        await self._fill_frames(seen, seen["nodes"], limits, depth=1)
        return seen

    async def _fill_frames(self, seen: dict[str, Any], nodes: Any, limits: Any, depth: int) -> None:
        for node in nodes:
            if node.get("frame") and node.get("ref"):
                child = await self._frame_inside(node["ref"])
                if child is None or depth > 4 or limits["nodes"] <= 0:
                    continue
                try:
                    inner = await self.call("(n, l) => trellis.snapshot(n, l, 0)", seen["next"], limits, frame=child)
                except Mistake:
                    continue
                self._claim(inner["nodes"], child)
                node["children"] = inner["nodes"]
                seen["next"] = inner["next"]
                seen["left"] += inner["left"]
                limits["nodes"] -= _count(inner["nodes"])
                await self._fill_frames(seen, inner["nodes"], limits, depth + 1)
            else:
                await self._fill_frames(seen, node.get("children", ()), limits, depth)

    async def _frame_inside(self, number: int) -> str | None:
        try:
            element = await self.element(number)
            described = await self.cdp.send("DOM.describeNode", element.object)
        except Exception:  # the frame went away meanwhile
            return None
        frame = described["node"].get("frameId")
        return str(frame) if frame else None

    def _claim(self, nodes: Any, frame: str) -> None:
        for node in nodes:
            if node.get("ref"):
                self._frame_of[node["ref"]] = frame
            self._claim(node.get("children", ()), frame)

    async def revive(self) -> bool:
        """Stop a script that runs without end. Does the page answer again?"""
        try:
            await asyncio.wait_for(self.cdp.send("Runtime.terminateExecution"), 3)
            await asyncio.wait_for(self.call("() => 1"), 4)
        except Exception:
            return False
        return True

    # --- events ---

    def _begun(self, request: Any) -> None:
        if request.resource_type in SLOW_KINDS:
            self._under_way[id(request)] = time.monotonic()

    def _finished(self, request: Any) -> None:
        self._under_way.pop(id(request), None)
        background(self._log(request))

    async def _log(self, request: Any) -> None:
        try:
            response = await asyncio.wait_for(request.response(), 5)
        except Exception:
            response = None
        status = response.status if response else "?"
        self.network.append(f"{request.method} {request.url[:300]} {status} ({request.resource_type})")

    def _failed(self, request: Any) -> None:
        self._under_way.pop(id(request), None)
        self.network.append(f"{request.method} {request.url[:300]} failed: {request.failure} ({request.resource_type})")

    def _choosing(self, chooser: Any) -> None:
        self.chooser = chooser


class Element:
    """An element that has a reference."""

    def __init__(self, tab: Tab, number: int, frame: str, handle: dict[str, str]) -> None:
        self.tab = tab
        self.number = number
        self.frame = frame
        self.object = handle

    async def call(self, function: str, *arguments: Any) -> Any:
        return await self.tab.call(function, self.object, *arguments, frame=self.frame)

    async def describe(self) -> str:
        return said(await self.call("(e) => trellis.describe(e)"))

    async def point(self, timeout_s: float, *, enabled: bool = True) -> tuple[float, float]:
        """Where on the screen the mouse reaches it.

        Raises:
            Mistake: nowhere; the text says why.
        """
        wait_ms = min(2.0, timeout_s) * 1000
        found = await self.call("(e, w, n) => trellis.point(e, w, n)", wait_ms, enabled)
        frame = self.frame
        while "problem" not in found:
            owner = await self.owner(frame)
            if owner is None:
                return found["x"], found["y"]
            frame, handle = owner
            found = await self.tab.call(
                "(f, x, y) => trellis.throughFrame(f, x, y)", handle, found["x"], found["y"], frame=frame
            )
        raise Mistake(f"e{self.number} cannot be reached with the mouse: {self._because(found)}")

    def _because(self, found: dict[str, Any]) -> str:
        problem = found["problem"]
        if problem == "covered":
            by = found["by"]
            cover = f"{said(by)}" if isinstance(by, dict) else "something else"
            ref = f" [e{by['ref']}]" if isinstance(by, dict) and by.get("ref") else ""
            return f"{cover}{ref} covers it; close or move that first, or scroll"
        return {
            "gone": "it is not on the page any more; take a new snapshot",
            "invisible": "it is not visible (no size or hidden); something else may have to be opened first",
            "disabled": "it is disabled; something else may have to be filled in first",
            "moving": "it keeps moving; wait, then try again",
            "outside": "it lies outside of what can be scrolled into view",
        }[problem]

    async def owner(self, frame: str) -> tuple[str, dict[str, str]] | None:
        """The frame around a frame, and the element in it that holds the inner one."""
        tree = await self.tab.cdp.send("Page.getFrameTree")
        parents: dict[str, str] = {}

        def walk(node: Any) -> None:
            for child in node.get("childFrames", ()):
                parents[child["frame"]["id"]] = node["frame"]["id"]
                walk(child)

        walk(tree["frameTree"])
        if frame not in parents:
            return None
        made = await self.tab.cdp.send("Page.createIsolatedWorld", {"frameId": parents[frame], "worldName": "trellis"})
        owner = await self.tab.cdp.send("DOM.getFrameOwner", {"frameId": frame})
        resolved = await self.tab.cdp.send(
            "DOM.resolveNode",
            {"backendNodeId": owner["backendNodeId"], "executionContextId": made["executionContextId"]},
        )
        return parents[frame], {"objectId": resolved["object"]["objectId"]}


def said(described: Any) -> str:
    """An element in words, from `describe` of page.js."""
    if not isinstance(described, dict):
        return "nothing"
    name = described["name"] or described["id"]
    return f"{described['role']} {name[:80]!r}" if name else str(described["role"])


def _count(nodes: Any) -> int:
    return sum(1 + _count(node.get("children", ())) for node in nodes)


def first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200]
