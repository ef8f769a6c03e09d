"""Going somewhere: what becomes of it when a page is slow, broken, a file, or in a hurry to go elsewhere itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from trellis.tools.browser.driver.chrome import Chrome
from trellis.tools.browser.driver.tabs import Mistake, Tab

RESET = ("ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "ERR_NETWORK_CHANGED", "ERR_CONNECTION_CLOSED")
ADVICE = {
    "ERR_CONNECTION_REFUSED": "nothing listens there",
    "ERR_NAME_NOT_RESOLVED": "there is no such host, or this world has no network",
    "ERR_INTERNET_DISCONNECTED": "this world has no network beyond its own servers",
    "ERR_ADDRESS_UNREACHABLE": "this world has no network beyond its own servers",
    "ERR_TUNNEL_CONNECTION_FAILED": "the network policy does not allow this host",
    "ERR_PROXY_CONNECTION_FAILED": "the network policy's proxy does not answer",
    "ERR_UNSAFE_PORT": "browsers refuse this port",
}


class Navigation:
    """The actions that load a page; `left()` is what remains of the call's time, in seconds."""

    def __init__(self, chrome: Chrome, left: Callable[[], float]) -> None:
        self._chrome = chrome
        self.left = left

    async def navigate(self, tab: Tab, url: str) -> str:
        before = tab.page.url
        done = await self._go(tab, lambda: self._goto(tab, url))
        if tab.page.url == before != url and "went elsewhere" in done:
            # The old page keeps loading itself again: it has to be stopped before anything else can come.
            await tab.cdp.send("Emulation.setScriptExecutionDisabled", {"value": True})
            try:
                await self._go(tab, lambda: self._goto(tab, "about:blank"))
            finally:
                await tab.cdp.send("Emulation.setScriptExecutionDisabled", {"value": False})
            done = await self._go(tab, lambda: self._goto(tab, url))
        return done

    async def open_tab(self, tab: Tab, url: str | None = None) -> str:
        opened = await self._chrome.open()
        if url is None:
            return f"opened tab {opened.number}"
        done = await opened.run(self._go(opened, lambda: self._goto(opened, url)), self.left())
        return f"opened tab {opened.number}; {done or 'a dialog opened there'}"

    async def _goto(self, tab: Tab, url: str) -> Any:
        return await tab.page.goto(url, wait_until="domcontentloaded", timeout=self.left() * 1000)

    async def back(self, tab: Tab) -> str:
        return await self._through_history(tab, tab.page.go_back, "back")

    async def forward(self, tab: Tab) -> str:
        return await self._through_history(tab, tab.page.go_forward, "forward")

    async def _through_history(self, tab: Tab, go: Any, where: str) -> str:
        history = await tab.cdp.send("Page.getNavigationHistory")
        at, count = history["currentIndex"], len(history["entries"])
        if (where == "back" and at == 0) or (where == "forward" and at == count - 1):
            raise Mistake(f"there is no page to go {where} to in this tab")
        return await self._go(tab, lambda: go(wait_until="domcontentloaded", timeout=self.left() * 1000))

    async def reload(self, tab: Tab) -> str:
        return await self._go(tab, lambda: tab.page.reload(wait_until="domcontentloaded", timeout=self.left() * 1000))

    async def _go(self, tab: Tab, go: Any) -> str:
        from playwright.async_api import Error

        for attempt in (1, 2):
            try:
                response = await go()
                break
            except Error as error:
                text = str(error)
                if "Timeout" in text:
                    return (
                        f"the page did not finish loading within the time given; what is there so far is below. "
                        f"(Now at {tab.page.url})"
                    )
                if attempt == 1 and any(reset in text for reset in RESET):
                    continue
                if "Download is starting" in text or ("ERR_ABORTED" in text and self._chrome._saving):
                    return "that address is a file: it is downloaded, the page stays as it was"
                if "ERR_ABORTED" in text or "interrupted by another navigation" in text:
                    return f"the page went elsewhere while it loaded; now at {tab.page.url}"
                raise Mistake(_unreachable(text)) from None
        with suppress(Error):
            await tab.page.wait_for_load_state("load", timeout=min(4.0, self.left()) * 1000)
        if response is not None and response.status >= 400:
            return f"the server answered with HTTP {response.status} {response.status_text}"
        return f"now at {tab.page.url}"


def _unreachable(text: str) -> str:
    first = text.strip().split("\n")[0]
    code = next((word.strip(",;") for word in first.replace("net::", " ").split() if word.startswith("ERR_")), "")
    advice = ADVICE.get(code)
    return f"the page cannot be loaded: {code or first[:200]}" + (f" ({advice})" if advice else "")
