"""What can be done with a page: one method per action, each returns what it did in words."""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import suppress
from typing import Any

from trellis.tools.browser.driver.chrome import Chrome
from trellis.tools.browser.driver.navigation import Navigation
from trellis.tools.browser.driver.pictures import screenshot
from trellis.tools.browser.driver.tabs import Element, Mistake, Tab

SPARE_S = 2.0
TYPED_BY_KEY = 400
"""Longer texts are put in at once instead of key by key."""


class Actions:
    """Bound to one browser. Arguments were checked by the host; `left()` is what remains of the call's time."""

    def __init__(self, chrome: Chrome, workdir: str) -> None:
        self._chrome = chrome
        self._workdir = workdir
        self._until = 0.0
        self._navigation = Navigation(chrome, self.left)
        self.image: bytes = b""

    def left(self) -> float:
        return max(0.1, self._until - time.monotonic())

    async def perform(self, action: str, arguments: dict[str, Any], timeout_s: float) -> str:
        """Do it.

        Raises:
            Mistake: it cannot be done, the text says why.
            asyncio.TimeoutError, Crashed: the page did not answer, or died.
        """
        self._until = time.monotonic() + timeout_s
        self.image = b""
        chrome = self._chrome
        await chrome.arrived()
        if chrome.tab.crashed:
            await chrome.bury(chrome.tab)
        asking = chrome.asking()
        if action == "dialog":
            if asking is None:
                raise Mistake("no dialog is open")
            return await chrome.answer(asking, arguments["accept"], arguments.get("text"), timeout_s)
        if action in ("tabs", "close_tab", "switch_tab", "console", "network"):
            return str(await getattr(self, f"_{action}")(chrome.tab, **arguments))
        if asking is not None:
            dialog = asking.dialogs[0]
            raise Mistake(
                f"a dialog ({dialog.type}) is open and holds the page up, answer it first with the action dialog "
                f"(it says {dialog.message[:500]!r})"
            )
        tab = chrome.tab
        tab.dialogs_in_a_row = 0
        tab.interrupted.clear()
        doer = self._navigation if hasattr(self._navigation, action) else self
        name = action if doer is self._navigation else f"_{action}"
        work = getattr(doer, name)(tab, **arguments)
        done = await tab.run(work, timeout_s + SPARE_S)  # what knows its own deadline says more about it
        if done is None:
            return f"{action} was begun, and {'the tab closed' if tab.closed else 'a dialog opened'}"
        return str(done)

    # --- the mouse ---

    async def _place(
        self, tab: Tab, ref: int | None, x: float | None, y: float | None, enabled: bool = True
    ) -> tuple[float, float, str]:
        """Where something is on the screen, and how to speak of it."""
        if ref is None:
            assert x is not None
            assert y is not None
            if not (0 <= x < self._chrome.width and 0 <= y < self._chrome.height):
                raise Mistake(
                    f"x={x:g}, y={y:g} is not on the screen, which has {self._chrome.width} x {self._chrome.height} "
                    "pixels: scroll first"
                )
            return x, y, f"x={x:g}, y={y:g}"
        element = await tab.element(ref)
        at_x, at_y = await element.point(self.left(), enabled=enabled)
        return at_x, at_y, f"{await element.describe()} [e{ref}]"

    async def _click(
        self, tab: Tab, ref: int | None = None, x: float | None = None, y: float | None = None,
        button: str = "left", clicks: int = 1,
    ) -> str:  # fmt: skip
        if ref is not None and await (await tab.element(ref)).call("(e) => trellis.kindOf(e)") in ("select", "option"):
            raise Mistake("options of a native list are chosen with the action select, not by clicks")
        at_x, at_y, what = await self._place(tab, ref, x, y)
        tab.chooser = None
        await tab.page.mouse.click(at_x, at_y, button=button, click_count=clicks)
        times = {1: "", 2: "double-", 3: "triple-"}[clicks]
        side = "" if button == "left" else f" with the {button} button"
        done = f"{times}clicked {what}{side}"
        await asyncio.sleep(0.02)
        if tab.chooser is not None:
            done += "; it asks for a file: use the action upload with this reference"
        return done

    async def _hover(self, tab: Tab, ref: int | None = None, x: float | None = None, y: float | None = None) -> str:
        at_x, at_y, what = await self._place(tab, ref, x, y, enabled=False)
        await tab.page.mouse.move(at_x, at_y)
        return f"the mouse is over {what}"

    async def _drag(
        self, tab: Tab, ref: int | None = None, x: float | None = None, y: float | None = None,
        to: int | None = None, to_x: float | None = None, to_y: float | None = None,
    ) -> str:  # fmt: skip
        if to is not None:  # both ends have to be on the screen at once
            await self._place(tab, to, None, None, enabled=False)
        from_x, from_y, what = await self._place(tab, ref, x, y)
        if to is not None:
            end_x, end_y, where = await self._place(tab, to, None, None, enabled=False)
            if ref is not None:
                again_x, again_y, _ = await self._place(tab, ref, None, None)
                if (again_x, again_y) != (from_x, from_y):
                    from_x, from_y = again_x, again_y
                    end_x, end_y, where = await self._place(tab, to, None, None, enabled=False)
        else:
            end_x, end_y, where = await self._place(tab, None, to_x, to_y)
        mouse = tab.page.mouse
        await mouse.move(from_x, from_y)
        await mouse.down()
        try:
            step = 6 if end_y >= from_y else -6
            await mouse.move(from_x, from_y + step)
            await mouse.move(end_x, end_y, steps=12)
            await mouse.move(end_x, end_y)
        finally:
            await mouse.up()
        return f"dragged {what} to {where}"

    async def _scroll(self, tab: Tab, direction: str, ref: int | None = None) -> str:
        dx, dy = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}[direction]
        if ref is None:
            done = await tab.call("(x, y) => trellis.scroll(null, x, y)", dx, dy)
        else:
            done = await (await tab.element(ref)).call("(e, x, y) => trellis.scroll(e, x, y)", dx, dy)
        what = "the page" if done["page"] else f"what holds e{ref}"
        if done["moved"]:
            return f"scrolled {what} {direction}"
        return f"{what} cannot be scrolled further {direction}"

    # --- the keyboard, and fields ---

    async def _type(self, tab: Tab, text: str, ref: int | None = None) -> str:
        keyboard = tab.page.keyboard
        if ref is None:
            await self._keys(keyboard, text)
            return "typed where the focus is"
        element = await tab.element(ref)
        kind = await element.call("(e) => trellis.kindOf(e)")
        what = f"{await element.describe()} [e{ref}]"
        if kind == "set":
            await element.point(self.left())
            done = await element.call("(e, t) => trellis.setValue(e, t)", text)
            if "refused" in done:
                raise Mistake(f"a {done['refused']} field does not take {text!r}: {_form(done)}")
            return f"set {what} to {text!r}"
        if kind not in ("text", "editable", "keys"):
            instead = {
                "select": "choose with the action select",
                "option": "choose with the action select and the list's reference",
                "file": "use the action upload",
                "read-only": "it is read-only",
                "none": "click it, or find the field itself",
            }[kind]
            raise Mistake(f"{what} takes no text: {instead}")
        await self._focus(element)
        await element.call("(e) => trellis.focusEnd(e)")
        if kind != "keys":
            await keyboard.press("Delete")
        await self._keys(keyboard, text)
        return f"typed into {what}" if text else f"emptied {what}"

    async def _focus(self, element: Element) -> None:
        at_x, at_y = await element.point(self.left())
        await element.tab.page.mouse.click(at_x, at_y)

    async def _keys(self, keyboard: Any, text: str) -> None:
        if len(text) > TYPED_BY_KEY:
            await keyboard.insert_text(text)
        else:
            await keyboard.type(text)

    async def _press(self, tab: Tab, key: str, ref: int | None = None) -> str:
        from playwright.async_api import Error

        if ref is not None:
            element = await tab.element(ref)
            await element.call("(e) => trellis.focus(e)")
        for one in key.split():
            try:
                await tab.page.keyboard.press(one)
            except Error as error:
                if "Unknown key" in str(error):
                    raise Mistake(
                        f"there is no key {one!r}; keys are called Enter, Tab, Escape, Space, Backspace, ArrowDown, "
                        "PageUp, F1, a, Control+a; several are separated by blanks"
                    ) from None
                raise
        return f"pressed {key}"

    async def _select(self, tab: Tab, ref: int, values: list[str]) -> str:
        element = await tab.element(ref)
        what = f"{await element.describe()} [e{ref}]"
        if await element.call("(e) => trellis.kindOf(e)") != "select":
            raise Mistake(f"{what} is no native list: click it, then click the option that appears")
        await element.point(self.left())
        done = await element.call("(e, v) => trellis.choose(e, v)", values)
        if "missing" in done:
            more = "" if done["count"] <= 40 else f" and {done['count'] - 40} more"
            raise Mistake(f"{what} has no option {done['missing']!r}; it has: {json.dumps(done['options'])}{more}")
        if "disabled" in done:
            raise Mistake(f"the option {done['disabled']!r} of {what} is disabled")
        if "single" in done:
            raise Mistake(f"{what} takes one option only")
        return f"chose {', '.join(map(repr, done['chosen']))} in {what}"

    async def _upload(self, tab: Tab, ref: int, paths: list[str]) -> str:
        files = [self._own_file(path) for path in paths]
        element = await tab.element(ref)
        what = f"{await element.describe()} [e{ref}]"
        if await element.call("(e) => trellis.kindOf(e)") == "file":
            if len(files) > 1 and not await element.call("(e) => e.multiple"):
                raise Mistake(f"{what} takes one file only")
            await tab.cdp.send("DOM.setFileInputFiles", {"files": files, **element.object})
        else:
            at_x, at_y = await element.point(self.left())
            tab.chooser = None
            await tab.page.mouse.click(at_x, at_y)
            until = time.monotonic() + min(3.0, self.left())
            while tab.chooser is None and time.monotonic() < until:
                await asyncio.sleep(0.03)
            if tab.chooser is None:
                raise Mistake(f"{what} was clicked and asked for no file: use the reference of the file field")
            if len(files) > 1 and not tab.chooser.is_multiple():
                raise Mistake(f"{what} takes one file only")
            await tab.chooser.set_files(files)
        return f"gave {', '.join(paths)} to {what}"

    def _own_file(self, path: str) -> str:
        """A file below the workdir; hidden folders hold what is not the model's to give away."""
        # Plain calls: this may run before pathlib is loaded.
        real = os.path.realpath(os.path.join(self._workdir, path))  # noqa: PTH118
        below = os.path.relpath(real, os.path.realpath(self._workdir))
        if below.startswith("..") or any(part.startswith(".") for part in below.split("/")):
            raise Mistake(f"{path}: only files of the workdir {self._workdir} can be uploaded, and no hidden ones")
        if not os.path.isfile(real):  # noqa: PTH113
            raise Mistake(f"{path}: there is no such file")
        return real

    # --- waiting and looking ---

    async def _snapshot(self, tab: Tab, ref: int | None = None) -> str:
        if ref is not None:
            await tab.element(ref)
        return "looked at the page" if ref is None else f"looked at e{ref}"

    async def _wait(
        self,
        tab: Tab,
        text: str | None = None,
        ref: int | None = None,
        gone: bool = False,
        seconds: float | None = None,
    ) -> str:
        from playwright.async_api import Error

        if text is None and ref is None:
            if seconds is not None:
                await asyncio.sleep(min(seconds, self.left()))
                return f"waited {seconds:g} s"
            try:
                await tab.page.wait_for_load_state("networkidle", timeout=self.left() * 1000)
            except Error:
                return "the page still loads something"
            return "the page has loaded"
        what = repr(text) if text is not None else f"e{ref}"
        while True:
            there = await (self._text_shown(tab, text) if text is not None else self._element_ready(tab, ref or 0))
            if there != gone:
                return f"{what} is {'gone' if gone else 'there'}"
            if self.left() <= 0.2:
                state = "still there" if gone else "not there"
                raise Mistake(f"waited for {what}, which is {state}: take a snapshot, or wait longer with timeout_s")
            await asyncio.sleep(0.1)

    async def _text_shown(self, tab: Tab, text: str) -> bool:
        for frame in await tab.frames():
            with suppress(Mistake):
                if await tab.call("(t) => trellis.findText(t)", text, frame=frame):
                    return True
        return False

    async def _element_ready(self, tab: Tab, ref: int) -> bool:
        try:
            await (await tab.element(ref)).point(0.2)
        except Mistake:
            return False
        return True

    async def _evaluate(self, tab: Tab, script: str) -> str:
        # The rules of a console: await at the top, and names that may be declared again.
        asked = {
            "expression": script, "awaitPromise": True, "replMode": True, "userGesture": True,
            "allowUnsafeEvalBlockedByCSP": True,
        }  # fmt: skip
        answer = _value(await tab.cdp.send("Runtime.evaluate", asked))
        if "objectId" in answer:
            whole = {
                "objectId": answer["objectId"], "functionDeclaration": "async function () { return await this; }",
                "awaitPromise": True, "returnByValue": True,
            }  # fmt: skip
            answer = {**answer, **_value(await tab.cdp.send("Runtime.callFunctionOn", whole))}
        if "value" in answer:
            return json.dumps(answer["value"], ensure_ascii=False, indent=1)
        return _quoted(answer.get("unserializableValue") or answer.get("description") or answer["type"])

    async def _console(self, tab: Tab) -> str:
        return (
            "\n".join(f"{kind}: {_quoted(text)}" for kind, text in list(tab.console)[-50:]) or "(the console is empty)"
        )

    async def _network(self, tab: Tab) -> str:
        return "\n".join(list(tab.network)[-50:]) or "(no requests so far)"

    async def _tabs(self, tab: Tab) -> str:
        return "listed the tabs"

    async def _switch_tab(self, tab: Tab, number: int) -> str:
        self._chrome.switch(number)
        await self._chrome.tab.page.bring_to_front()
        return f"tab {number} is in front"

    async def _close_tab(self, tab: Tab, number: int | None = None) -> str:
        number = number or tab.number
        await self._chrome.close(number)
        await self._chrome.arrived()
        return f"closed tab {number}"

    async def _screenshot(self, tab: Tab, full_page: bool = False) -> str:
        self.image, said = await screenshot(self._chrome, tab, full_page)
        return said


def _value(answer: dict[str, Any]) -> dict[str, Any]:
    """The result of a script. Raises Mistake: it threw something."""
    if "exceptionDetails" in answer:
        details = answer["exceptionDetails"]
        raise Mistake(
            f"the script failed: {_quoted(details.get('exception', {}).get('description') or details['text'])}"
        )
    result: dict[str, Any] = answer["result"]
    return result


def _quoted(words: Any) -> str:
    """A page's own words, which so cannot pass for lines of ours."""
    return json.dumps(str(words)[:2000], ensure_ascii=False)


def _form(done: dict[str, Any]) -> str:
    wanted = {
        "date": "write 2026-03-31",
        "time": "write 17:05",
        "datetime-local": "write 2026-03-31T17:05",
        "month": "write 2026-03",
        "week": "write 2026-W13",
        "color": "write #a1b2c3",
        "range": f"it became {done['became']}; keep to its limits and steps",
    }
    return wanted[done["refused"]]
