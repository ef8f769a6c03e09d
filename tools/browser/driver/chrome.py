"""Chromium under Playwright: how it is started, and its tabs, dialogs and downloads kept in order."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from contextlib import suppress
from typing import Any

from trellis.tools.browser.driver.tabs import Mistake, Tab, background

EXECUTABLES = (
    "/usr/lib/chromium/chromium",  # Debian's, without its wrapper, which adds flags for desktops
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
)
BESIDE = "driver/package/.local-browsers"
"""Where Playwright keeps its own build if it is told to keep it with its package, which every world can see."""
FLAGS = (
    "--no-sandbox",  # the world is the sandbox, and forbids the user namespaces of which Chromium would make its own
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--disable-background-networking",
    "--disable-component-update",
    "--component-updater=url-source=http://127.0.0.1:9/",  # some builds ask all the same
    "--disable-domain-reliability",
    "--disable-sync",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-site-isolation-trials",  # every frame of a page answers over one connection
    "--mute-audio",
    "--js-flags=--max-old-space-size=1024",
)
MAX_TABS = 20
ARRIVAL_S = 4.0
PATIENCE = 5
"""So many dialogs in a row are the model's to answer; a page that opens more is stopped."""


class NoBrowser(Exception):
    """There is none here; the text says what is missing."""


class Chrome:
    """The browser of one world."""

    def __init__(self, script: str, downloads: str, width: int, height: int) -> None:
        self.tabs: list[Tab] = []
        self.notices: list[str] = []
        self.next_ref = 1
        self.width, self.height = width, height
        self._script = script
        self._downloads = downloads
        self._current = 0
        self._numbers = 0
        self._saving: dict[asyncio.Task[None], str] = {}
        self._context: Any = None
        self._cdp: Any = None
        self._arriving: list[asyncio.Task[None]] = []
        self._entering = 0
        """Of those, the ones that are let in."""
        self._expected = 0
        """Tabs that pages have opened and that have not arrived yet."""
        self._ours = False

    async def start(self) -> None:
        """Start Chromium.

        Raises:
            NoBrowser: there is none, or it does not start.
        """
        if sys.version_info < (3, 11):  # noqa: UP036 - of the world, which need not be ours
            raise NoBrowser("the browser needs Python 3.11 or later where the world runs")
        try:
            import playwright
            from playwright.async_api import Error, async_playwright
        except ImportError as error:
            raise NoBrowser(
                f"the browser needs the Python package playwright where the world runs ({error}): "
                "install the extra `browser`, or take an image that has it"
            ) from None
        if os.path.isdir(os.path.join(os.path.dirname(playwright.__file__), BESIDE)):  # noqa: PTH112, PTH118, PTH120
            os.environ.setdefault("PLAYWRIGHT_BROWSERS_PATH", "0")
        driver = await async_playwright().start()
        own = os.path.exists(driver.chromium.executable_path)  # noqa: PTH110
        system = next((path for path in EXECUTABLES if os.access(path, os.X_OK)), None)
        if system is None and not own:
            raise NoBrowser(
                "the browser needs Chromium where the world runs: install the package `chromium`, or Playwright's own "
                "build beside its package with `PLAYWRIGHT_BROWSERS_PATH=0 playwright install chromium`"
            )
        try:
            browser = await driver.chromium.launch(
                executable_path=None if own else system,
                headless=True,
                args=list(FLAGS),
                handle_sigint=False,
                timeout=60_000,
            )
        except Error as error:
            raise NoBrowser(f"Chromium does not start: {str(error).strip()[-1500:]}") from None
        browser.on("disconnected", lambda _: os._exit(70))
        self._cdp = await browser.new_browser_cdp_session()
        self._context = await browser.new_context(
            viewport={"width": self.width, "height": self.height},
            accept_downloads=True,
            locale="en-US",
            timezone_id="UTC",
            color_scheme="light",
            reduced_motion="reduce",
        )
        self._context.set_default_timeout(30_000)
        self._context.on("page", self._opened)
        await self.open()

    # --- tabs ---

    @property
    def tab(self) -> Tab:
        return next((tab for tab in self.tabs if tab.number == self._current), self.tabs[-1])

    async def open(self) -> Tab:
        if len(self.tabs) >= MAX_TABS:
            raise Mistake(f"{MAX_TABS} tabs are open, which is the limit: close some first")
        await self._blank()
        return self.tabs[-1]

    def switch(self, number: int) -> None:
        if number not in [tab.number for tab in self.tabs]:
            known = ", ".join(str(tab.number) for tab in self.tabs)
            raise Mistake(f"there is no tab {number}; there are: {known}")
        self._current = number

    async def close(self, number: int) -> None:
        tab = next((tab for tab in self.tabs if tab.number == number), None)
        if tab is None:
            self.switch(number)
            return
        self._forget(tab)
        with suppress(Exception):
            await asyncio.wait_for(tab.page.close(), 5)

    async def arrived(self) -> None:
        """Wait until tabs that were opened can be used, and that there is one."""
        until = time.monotonic() + ARRIVAL_S
        while (self._arriving or self._expected > 0) and time.monotonic() < until:
            if self._arriving:
                await asyncio.wait(set(self._arriving), timeout=ARRIVAL_S)
            else:
                await asyncio.sleep(0.02)
        self._expected = 0
        if not self.tabs:
            await self._blank()
            self.notices.append("the last tab was closed; an empty one took its place")

    async def bury(self, tab: Tab) -> None:
        await self.replace(tab, f"the page {tab.page.url} crashed (perhaps for want of memory).")

    async def alive(self) -> None:
        """Ends this process if Chromium does not answer."""
        try:
            await asyncio.wait_for(self._cdp.send("Browser.getVersion"), 10)
        except Exception:
            os._exit(70)

    async def replace(self, tab: Tab, why: str) -> None:
        """Put an empty tab in the place of one that cannot be used any more."""
        url = tab.page.url
        self.notices.append(f"{why} What was typed there is lost. An empty tab took its place: navigate to {url} again")
        self._forget(tab)
        background(tab.page.close())
        await self._blank()

    async def _blank(self) -> None:
        """A new tab in front, which no page opened."""
        self._ours = True
        try:
            await self._context.new_page()
            while self._arriving:
                await asyncio.wait(set(self._arriving))
        finally:
            self._ours = False
        self._current = self.tabs[-1].number

    def _opened(self, page: Any) -> None:
        self._expected = max(0, self._expected - (not self._ours))
        task = asyncio.ensure_future(self._receive(page, self._ours))
        self._arriving.append(task)
        task.add_done_callback(self._arriving.remove)

    async def _receive(self, page: Any, ours: bool) -> None:
        if not ours and len(self.tabs) + self._entering >= MAX_TABS:
            await page.close()
            self.notices.append("a page wanted to open one tab more than is allowed; it was refused")
            return
        self._numbers += 1
        number = self._numbers
        self._entering += 1  # many may come at once, and none is a tab yet
        try:
            cdp = await self._context.new_cdp_session(page)
            cdp.on("Page.windowOpen", lambda _: self._expect())
            await cdp.send("Page.enable")
            tab = Tab(number, page, cdp, self._script)
            page.on("dialog", lambda dialog: self._asked(tab, dialog))
            page.on("download", self._downloading)
            page.on("crash", lambda _: self._crashed(tab))
            page.on("close", lambda _: self._closed(tab))
            self.tabs.append(tab)
        finally:
            self._entering -= 1
        if not ours:
            self._current = number
            with suppress(Exception):
                await page.wait_for_load_state("domcontentloaded", timeout=3000)
            self.notices.append(f"the page opened tab {number}, which is now in front")

    def _expect(self) -> None:
        """A page said that it opens a tab, which takes a moment."""
        self._expected += 1

    def _forget(self, tab: Tab) -> None:
        if tab in self.tabs:
            at = self.tabs.index(tab)
            self.tabs.remove(tab)
            if self._current == tab.number and self.tabs:
                self._current = self.tabs[max(0, at - 1)].number

    def _closed(self, tab: Tab) -> None:
        tab.closed = True
        if tab in self.tabs:
            self._forget(tab)
            tab.interrupted.set()
            self.notices.append(f"tab {tab.number} closed itself")

    def _crashed(self, tab: Tab) -> None:
        tab.crashed = True
        tab.interrupted.set()

    # --- dialogs ---

    def _asked(self, tab: Tab, dialog: Any) -> None:
        tab.dialogs_in_a_row += 1
        if tab.dialogs_in_a_row > PATIENCE:
            if tab.dialogs_in_a_row == PATIENCE + 1:
                self.notices.append("the page keeps opening dialogs: they are dismissed, and its script was stopped")
            background(self._hush(tab, dialog))
            return
        tab.dialogs.append(dialog)
        tab.interrupted.set()

    async def _hush(self, tab: Tab, dialog: Any) -> None:
        with suppress(Exception):
            background(tab.cdp.send("Runtime.terminateExecution"))
            await asyncio.sleep(0.05)
            await dialog.dismiss()

    def asking(self) -> Tab | None:
        """A tab with a dialog that waits for its answer, the one in front first."""
        return next((tab for tab in [self.tab, *self.tabs] if tab.dialogs), None)

    async def answer(self, tab: Tab, accept: bool, text: str | None, timeout_s: float) -> str:
        dialog = tab.dialogs.popleft()
        if not tab.dialogs:
            tab.interrupted.clear()
        kind, message = dialog.type, dialog.message
        with suppress(Exception):
            if accept:
                await (dialog.accept(text) if text is not None and kind == "prompt" else dialog.accept())
            else:
                await dialog.dismiss()
        with suppress(asyncio.TimeoutError):
            await tab.unblocked(timeout_s)
        return f"{'accepted' if accept else 'dismissed'} the {kind} {message[:200]!r}"

    # --- downloads ---

    def _downloading(self, download: Any) -> None:
        name = re.sub(r"[^\w.,()+ -]", "_", download.suggested_filename).strip(" .")[-100:] or "download"
        task = asyncio.ensure_future(self._save(download, name))
        self._saving[task] = name
        task.add_done_callback(lambda done: self._saving.pop(done, None))

    async def _save(self, download: Any, name: str) -> None:
        stem, dot, ending = name.rpartition(".")
        count, path = 1, os.path.join(self._downloads, name)  # noqa: PTH118
        while os.path.lexists(path):
            count += 1
            path = os.path.join(self._downloads, f"{stem or ending}-{count}{dot}{ending if stem else ''}")  # noqa: PTH118
        try:
            await download.save_as(path)
            size = os.path.getsize(path)  # noqa: PTH202
            self.notices.append(f"downloaded {path} ({size:,} bytes{_beginning(path)})")
        except Exception as error:
            why = str(error).strip().split("\n")[0]
            self.notices.append(f"the download of {name!r} failed: {why}")

    async def saved(self, timeout_s: float) -> None:
        """Wait for downloads that have begun; what takes longer is told when it has ended."""
        if self._saving:
            await asyncio.wait(set(self._saving), timeout=timeout_s)
            for name in self._saving.values():
                self.notices.append(f"{name!r} is still being downloaded; a later result tells where it is")


def _beginning(path: str) -> str:
    """The first words of a file of text: not every agent has another tool to look into it."""
    with open(path, "rb") as file:  # noqa: PTH123
        data = file.read(600)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if error.start < len(data) - 4:
            return ""
        text = data[: error.start].decode()
    return f"; it begins: {text!r}" if text.strip() and "\0" not in text else ""
