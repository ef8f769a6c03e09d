"""What the viewer costs: its answers about a long episode, and the page in Chromium: time to the first screen, to the
end, elements in the document, and frames while it scrolls. Times are of the wall, the best of three for answers."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from log import STEPS, episode, row

from trellis.runs.folder import RunFolder
from trellis.runs.library import RunLibrary
from trellis.tools.browser.driver.chrome import EXECUTABLES
from trellis.trajectories.disk import LOG, is_held
from trellis.trajectories.viewer.page import write_page
from trellis.trajectories.viewer.server import Viewer
from trellis.trajectories.viewer.shelf import LibraryShelf

FRAMES = """async () => {
  const scroller = document.querySelector('.steps');
  const times = [];
  let before = performance.now();
  for (let i = 0; i < 240; i++) {
    scroller.scrollTop += 400;
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - before);
    before = performance.now();
  }
  times.sort((a, b) => a - b);
  return [times[120], times[228], times[239]];
}"""


class Library:
    """One trajectory."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def first(self) -> dict[str, Any]:
        return {"view": "episode", "episode": "e", "run": None}

    def runs(self) -> list[Any]:
        return []

    def run(self, run: str) -> dict[str, Any]:
        raise KeyError(run)

    def log(self, episode: str) -> Path:
        return self._log

    def result(self, episode: str) -> None:
        return None

    def live(self, episode: str) -> bool:
        return is_held(self._log)


def took(work: Callable[[], Any]) -> str:
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return f"{1e3 * min(times):.0f} ms"


def answers(log: Path) -> None:
    def fresh(path: str, **query: str) -> Callable[[], None]:
        def ask() -> None:
            shelf = LibraryShelf(Library(log))
            shelf.answer(path, {"e": "e", **query})
            shelf.close()

        return ask

    row("open and overview", took(fresh("episode")))
    row("open and the first 100 steps", took(fresh("steps", **{"from": "1", "count": "100"})))
    shelf = LibraryShelf(Library(log))
    shelf.answer("episode", {"e": "e"})
    for what, path, query in (
        ("the last 100 steps", "steps", {"from": str(STEPS - 99), "count": "100"}),
        ("what the last call sent", "conversation", {"n": str(STEPS)}),
        ("a search that finds nothing", "search", {"q": "no such words"}),
    ):
        asked = {"e": "e", **query}
        row(what, took(lambda path=path, asked=asked: shelf.answer(path, asked)))
    begun = time.perf_counter()
    shelf.answer("timeline", {"e": "e"})
    row("timeline, the first time", f"{1e3 * (time.perf_counter() - begun):.0f} ms", took_again(shelf))
    begun = time.perf_counter()
    page = write_page(shelf, log.with_name("page.html"))
    row("one page", f"{time.perf_counter() - begun:.1f} s", f"{page.size / 1e6:.1f} MB, {page.left_out} left out")
    shelf.close()


def took_again(shelf: LibraryShelf) -> str:
    return f"again {took(lambda: shelf.answer('timeline', {'e': 'e'}))}"


def serve(log: Path, from_run: bool, told: Connection) -> None:
    """As `trellis view` does: a trajectory is opened before its address is told, one of a run when it is asked for."""
    run = RunFolder(log.parents[5])
    shelf = LibraryShelf(RunLibrary(run.path.parent, **({"run": run} if from_run else {"log": log})))
    if not from_run:
        shelf.answer("episode", {"e": shelf.answer("first", {})["episode"]})
    viewer = Viewer(shelf)
    told.send(viewer.address)
    viewer.serve()


@contextmanager
def served(log: Path, *, from_run: bool = False) -> Iterator[str]:
    """The viewer in a process of its own, as users have it: what drives the browser here takes none of its time."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(log, from_run, theirs))
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


async def browser(log: Path) -> None:
    from playwright.async_api import async_playwright

    found = next(path for path in EXECUTABLES if os.access(path, os.X_OK))
    async with async_playwright() as driver:
        chromium = await driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        step = "article[data-step='1'] .act"
        with served(log, from_run=True) as address:
            page = await chromium.new_page(viewport={"width": 1200, "height": 800})
            await page.goto(address)
            await page.locator("tr.row").wait_for()
            begun = time.perf_counter()
            await page.locator("tr.row").click()
            await page.locator(step).wait_for()
            row("first screen, from its run's table", f"{1e3 * (time.perf_counter() - begun):.0f} ms")
        with served(log) as address:
            page = await chromium.new_page(viewport={"width": 1200, "height": 800})
            begun = time.perf_counter()
            await page.goto(address)
            await page.locator(step).wait_for()
            row("first screen, at its own address", f"{1e3 * (time.perf_counter() - begun):.0f} ms")
            await page.locator("canvas.timeline").wait_for()
            begun = time.perf_counter()
            await page.keyboard.press("G")
            await page.locator(f"article[data-step='{STEPS}'] .act").wait_for()
            row("jump to the end", f"{1e3 * (time.perf_counter() - begun):.0f} ms")
            await page.keyboard.press("g")
            await page.locator(step).wait_for()
            median, late, worst = await page.evaluate(FRAMES)
            row("a frame while it scrolls", f"{median:.1f} ms", f"95 %: {late:.1f} ms, worst {worst:.1f} ms")
            elements = await page.evaluate("document.querySelectorAll('*').length")
            row("elements in the document", str(elements))
        await chromium.close()


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        log = Path(name) / "runs/long/episodes/perf/steps/looker/1" / LOG
        asyncio.run(episode(log.parent, STEPS))
        (log.parents[5] / "results.jsonl").touch()  # which makes it a run
        row(f"a log of {STEPS:,} steps", f"{log.stat().st_size / 1e6:.1f} MB")
        answers(log)
        asyncio.run(browser(log))


if __name__ == "__main__":
    main()
