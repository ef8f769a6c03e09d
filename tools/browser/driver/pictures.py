"""Screenshots, with the references of elements drawn on them."""

from __future__ import annotations

import base64
from contextlib import suppress

from trellis.tools.browser.driver.chrome import Chrome
from trellis.tools.browser.driver.tabs import Element, Mistake, Tab


async def screenshot(chrome: Chrome, tab: Tab, full_page: bool) -> tuple[bytes, str]:
    """A JPEG and what it shows. Marks are drawn on what is on the screen; a full page has none."""
    look = await tab.look(chrome.next_ref, 1500)
    chrome.next_ref = look["next"]
    marks = [] if full_page else await _marks(tab)
    await tab.call("(m) => trellis.mark(m)", marks)
    try:
        shot = {"format": "jpeg", "quality": 80, "optimizeForSpeed": True}
        if full_page:
            size = (await tab.cdp.send("Page.getLayoutMetrics"))["cssContentSize"]
            width, height = min(size["width"], 4000), min(size["height"], 12_000)
            scale = min(1.0, 1568 / max(width, height))
            clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": scale}
            shot.update(clip=clip, captureBeyondViewport=True)
        taken = await tab.cdp.send("Page.captureScreenshot", shot)
    finally:
        with suppress(Exception):
            await tab.call("() => trellis.unmark()")
    image = base64.b64decode(taken["data"])
    if full_page:
        return image, f"the whole page, at {scale:.2f} of its size: coordinates in it are not those of the screen"
    return image, f"the screen, {chrome.width} x {chrome.height} pixels, references as marks"


async def _marks(tab: Tab) -> list[dict[str, float]]:
    marks: list[dict[str, float]] = []
    for frame in await tab.frames():
        with suppress(Mistake):
            found = await tab.call("() => trellis.boxes(150)", frame=frame)
            x, y = await _offset(tab, frame)
            marks += [{**mark, "x": mark["x"] + x, "y": mark["y"] + y} for mark in found]
    return marks


async def _offset(tab: Tab, frame: str) -> tuple[float, float]:
    x = y = 0.0
    owner = await Element(tab, 0, frame, {}).owner(frame)
    while owner is not None:
        frame, handle = owner
        place = await tab.call(
            "(f) => { const r = f.getBoundingClientRect(); return [r.left + f.clientLeft, r.top + f.clientTop]; }",
            handle, frame=frame,
        )  # fmt: skip
        x, y = x + place[0], y + place[1]
        owner = await Element(tab, 0, frame, {}).owner(frame)
    return x, y
