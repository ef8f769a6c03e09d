# ruff: noqa: E501 - texts that mean ill
"""The viewer in a browser: what people do with it, and trajectories that mean ill."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from trellis.tools.browser.driver.chrome import EXECUTABLES
from trellis.trajectories.viewer.page import write_page
from trellis.trajectories.viewer.server import Viewer
from trellis.trajectories.viewer.shelf import LibraryShelf

from .conftest import PNG, SVG, Logs, Written, shelf_of

pytestmark = [pytest.mark.browser, pytest.mark.hostile, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

WAIT_S = 30


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Any]:
    pytest.importorskip("playwright", reason="no Playwright here: install the extra browser")
    from playwright.async_api import async_playwright

    found = next((path for path in EXECUTABLES if os.access(path, os.X_OK)), None)
    if found is None:
        pytest.skip("no Chromium here: install the package chromium")
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


class Watched:
    """A page, and whatever went wrong in it."""

    def __init__(self, page: Any, origin: str, address: str = "") -> None:
        self.page = page
        self.origin = origin
        self.address = address
        self.wrong: list[str] = []
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("console", self._said)
        page.on("request", lambda request: self._asked(request.url))
        page.on("response", self._answered)
        page.on("popup", lambda popup: self.wrong.append(f"popup: {popup.url}"))
        page.on("download", lambda download: self.wrong.append(f"download: {download.url}"))
        page.on("dialog", self._dialog)

    async def _dialog(self, dialog: Any) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    def _asked(self, url: str) -> None:
        if not url.startswith((self.origin, "data:image/png;base64,", "data:image/svg+xml;base64,")):
            self.wrong.append(f"request: {url[:200]}")

    def _said(self, said: Any) -> None:
        if said.type == "error" and not said.text.startswith("Failed to load resource"):  # see _answered
            self.wrong.append(f"console: {said.text}")

    def _answered(self, response: Any) -> None:
        """What is no raster image is not sent; everything else is there."""
        if response.status >= 400 and not response.url.startswith(f"{self.origin}blob?"):
            self.wrong.append(f"{response.status}: {response.url}")

    async def see(self, selector: str, **options: Any) -> Any:
        found = self.page.locator(selector, **options).first
        try:
            await found.wait_for(timeout=1000 * WAIT_S)
        except Exception as error:
            raise AssertionError((str(error), self.wrong, await self.page.inner_text("body"))) from None
        return found

    async def until(self, expression: str) -> None:
        """Asked again and again from here: the page's policy lets nobody evaluate text in it."""
        deadline = time.monotonic() + WAIT_S
        while not await self.page.evaluate(expression):
            assert time.monotonic() < deadline, (expression, self.wrong)
            await asyncio.sleep(0.03)

    async def nothing_ran(self) -> None:
        assert await self.page.evaluate("window.canary === undefined && Object.prototype.polluted === undefined")
        assert not await self.page.evaluate(
            "[...document.querySelectorAll('script, iframe, object, embed, link, base, form, [onerror], [onload]')]"
            ".filter((e) => e.closest('#app')).length"
        )
        hrefs = await self.page.evaluate("[...document.querySelectorAll('#app a')].map((a) => a.href)")
        assert all(href.startswith(self.origin) for href in hrefs), hrefs
        assert self.wrong == []


@asynccontextmanager
async def opened_at(chromium: Any, shelf: LibraryShelf, place: str = "", **context: Any) -> AsyncIterator[Watched]:
    """The viewer, as a person opens it."""
    viewer = Viewer(shelf)
    with viewer.serving() as address:
        profile = await chromium.new_context(viewport={"width": 1200, "height": 800}, **context)
        watched = Watched(await profile.new_page(), f"http://127.0.0.1:{viewer.port}{viewer.root}", address)
        try:
            await watched.page.goto(address)
            if place:
                await watched.page.goto(f"{watched.origin}episode?e=e{place}")
            yield watched
        finally:
            await profile.close()
    shelf.close()


@asynccontextmanager
async def opened(
    chromium: Any, log: Path, result: Any = None, place: str = "", **context: Any
) -> AsyncIterator[Watched]:
    """The page of a trajectory."""
    async with opened_at(chromium, shelf_of(log, result), place, **context) as watched:
        yield watched


@pytest.fixture
def long(tmp_path: Path) -> Iterator[Written]:
    log = Written(tmp_path / "long")
    yield log
    log.close()


async def steps(log: Written, count: int, start: int = 1) -> None:
    for number in range(start, start + count):
        bad = number % 100 == 50
        await log.step(
            f"Thought {number}.", [("shell", {"command": f"run {number}"}, f"\x1b[32mout {number}\x1b[0m")], error=bad
        )


# --- what people do ---


async def test_steps_filters_search_keys_and_links(chromium: Any, long: Written) -> None:
    await steps(long, 400)
    async with opened(chromium, long.close(), {"outcome": "completed"}) as view:
        await view.see("article[data-step='1']", has_text="Thought 1.")
        assert await view.page.locator("article.step").count() < 60
        assert await view.page.evaluate("document.querySelector('.fg-green').textContent") == "out 1"
        await view.page.keyboard.press("G")
        await view.see("article[data-step='400']", has_text="Thought 400.")
        await view.until("location.hash === '#step=400'")
        await view.page.keyboard.press("k")
        await view.until("location.hash === '#step=399'")
        await view.page.keyboard.press("g")
        await view.see(".item.current article[data-step='1']")
        await view.page.get_by_label("with errors").check()
        await view.until("document.body.innerText.includes('4 of 400 steps')")
        await view.see("article[data-step='350'] .pill.bad")
        await view.page.keyboard.press("/")
        await view.page.keyboard.type("out 377")
        await view.page.keyboard.press("Enter")
        await view.see(".item.hit article[data-step='377']")
        await view.nothing_ran()


async def test_colours_of_a_terminal(chromium: Any, long: Written) -> None:
    out = "\x1b[31;1mred\x1b[22;39m, \x1b[38;5;196mof 256\x1b[0m, \x1b[38;2;1;2;3;44mof all\x1b[m, \x1b[38;9;1mnone\x1b[0m"
    await long.step("I look.", [("shell", {"command": "ls"}, out)])
    async with opened(chromium, long.close()) as view:
        box = await view.see(".output")
        found = await box.locator("span").evaluate_all(
            "(all) => all.map((e) => [e.textContent, e.className, e.style.color])"
        )
        assert await box.inner_text() == "red, of 256, of all, none"
        assert [(text, kind) for text, kind, _ in found] == [
            ("red", "bold fg-red"), ("of 256", ""), ("of all", "bg-blue"), ("none", "bold")
        ]  # fmt: skip
        assert ["255,0,0" in found[1][2], "1,2,3" in found[2][2], found[0][2]] == [True, True, ""]
        await view.nothing_ran()


async def test_a_deep_link_and_what_a_call_sent(chromium: Any, long: Written) -> None:
    await steps(long, 250)
    async with opened(chromium, long.close(), {"outcome": "completed"}, "#step=230") as view:
        card = await view.see(".item.current article[data-step='230']", has_text="Thought 230.")
        await view.until("document.querySelector('article[data-step=\"230\"]').getBoundingClientRect().top < 700")
        await card.get_by_role("button", name="sent").click()
        await view.see("dialog[open] .conversation .message")
        await view.page.keyboard.press("Escape")
        await card.get_by_role("button", name="raw").click()
        await view.see("dialog[open] pre", has_text="generate.begun")
        await view.nothing_ran()


async def test_a_live_episode_grows(chromium: Any, long: Written) -> None:
    await steps(long, 3)
    async with opened(chromium, long.path) as view:
        await view.see("article[data-step='3']")
        await view.see(".pill.live")
        await steps(long, 2, 4)
        await view.see("article[data-step='5']", has_text="Thought 5.")
        await asyncio.to_thread(long.close)
        await view.until("!document.querySelector('.pill.live')")
        await view.nothing_ran()


async def test_the_tree_of_a_search(chromium: Any, long: Written) -> None:
    for number in range(4):
        name = f"main/node-{number}"
        long.branch(name)
        await long.step(
            f"plan {number}", [("python", {"code": f"shared\nx = {number}"}, f"metric {number}")], branch=name
        )
        long.node(id=number, parent=number - 1 if number else None, branch=name, stage="improve" if number else "draft",
                  plan=f"plan {number}", metric=number / 4, is_buggy=False, lower_is_better=False, best=True)  # fmt: skip
    async with opened(chromium, long.close(), {"outcome": "completed"}) as view:
        await view.see("article.step")
        await view.page.keyboard.press("t")
        await view.see(".node-details", has_text="x = 3")
        assert await view.page.locator(".node-details .code-number").all_inner_texts() == ["3"]
        await view.page.keyboard.press("k")
        await view.see(".node-details", has_text="x = 2")
        await view.until("location.hash === '#node=2'")
        await view.page.reload()
        await view.see(".node-details", has_text="x = 2")
        await view.page.locator(".node").nth(1).dispatch_event("click")
        details = await view.see(".node-details", has_text="metric 1")
        assert await details.locator(".line.added").all_inner_texts() == ["+x = 1\n"]
        assert await view.page.locator(".edge").count() == 3
        await details.get_by_role("button", name="step 2").click()
        await view.see(".item.current article[data-step='2']")
        await view.nothing_ran()


class Runs(Logs):
    """A run of two agents at four tasks."""

    def first(self) -> Any:
        return {"view": "runs"}

    def runs(self) -> Any:
        return [
            {"run": name, "benchmarks": ["b"], "agents": ["x"], "done": 8, "state": "done"} for name in ("r1", "r2")
        ]

    def run(self, run: str) -> Any:
        names = [(task, agent) for task in "abcd" for agent in ("react", "tree")]
        usage = {"input": 5, "output": 5}
        episodes = [
            {"benchmark": "b", "task": f"task-{task}", "agent": agent, "epoch": 1, "episode": "e", "outcome": "completed",
             "score": {"value": number / 8, "flags": ["peeked"] * (number == 3)}, "steps": 10 - number, "usage": usage,
             "cost_usd": 0.5, "time_s": 3.0}
            for number, (task, agent) in enumerate(names)
        ]  # fmt: skip
        summary: dict[str, Any] = {
            "metrics": {"score": 0.5, "success_rate": 0.5},
            "cost_usd": 4.0,
            "outcomes": {},
            "agents": [],
        }
        return {"run": run, "name": "", "busy": False, "experiment": "", "episodes": episodes,
                "summary": {**summary, "comparisons": []}}  # fmt: skip


async def test_runs_and_a_run_by_keys(chromium: Any, long: Written) -> None:
    await steps(long, 2)
    shelf = LibraryShelf(Runs({"e": long.close()}, {"e": {"outcome": "completed"}}))
    async with opened_at(chromium, shelf) as view:
        press = view.page.keyboard.press
        await view.see("tr.row")
        await press("j")
        await press("j")
        await press("Enter")
        await view.see("h1", has_text="r2")
        assert await view.page.locator(".matrix .square").count() == 8
        assert await view.page.locator(".square.flagged").all_inner_texts() == ["0.38"]
        await view.page.get_by_role("button", name="steps").click()
        await view.page.get_by_role("button", name="steps").click()
        await press("/")
        await view.page.keyboard.type("react task-a")
        await view.until("document.querySelectorAll('tr.row').length === 1")
        await press("Escape")
        await press("?")
        await view.see("dialog[open]", has_text="next, previous row")
        await press("Escape")
        await view.until("!document.querySelector('dialog[open]')")
        await press("j")
        await press("Enter")
        await view.see("article[data-step='2']")
        await press("?")
        await view.see("dialog[open]", has_text="next, previous step")
        await press("Escape")
        await press("u")
        assert await view.see("input[type=search]")
        assert await view.page.locator("tr.row").count() == 1  # as it was left
        await view.page.get_by_label("filter").fill("")
        sorted_by = "[...document.querySelectorAll('tr.row')].map((row) => row.cells[5].textContent).join()"
        assert await view.page.evaluate(sorted_by) == "3,4,5,6,7,8,9,10"
        await press("Escape")
        await press("u")
        await view.see("h1", has_text="Runs")
        await view.page.go_back()
        await view.see("h1", has_text="r2")
        await view.nothing_ran()


async def test_the_address_works_once(chromium: Any, long: Written) -> None:
    await steps(long, 1)
    shelf = shelf_of(long.close())
    async with opened_at(chromium, shelf) as view:
        await view.see("article.step")
        await view.page.goto(view.address)
        await view.see("article.step")
        other = await chromium.new_context()
        stranger = await other.new_page()
        answer = await stranger.goto(view.address)
        assert (answer.status, "works once" in await stranger.inner_text("body")) == (403, True)
        await other.close()
        await view.nothing_ran()


async def test_light_and_dark(chromium: Any, long: Written) -> None:
    await steps(long, 2)
    async with opened(chromium, long.close(), {"outcome": "completed"}, color_scheme="dark") as view:
        await view.see("article.step")
        ground = "getComputedStyle(document.body).backgroundColor"
        dark = await view.page.evaluate(ground)
        await view.page.keyboard.press("d")
        await view.until(f"{ground} !== '{dark}'")
        await view.page.reload()
        await view.see("article.step")
        assert await view.page.evaluate(ground) != dark
        await view.nothing_ran()


# --- trajectories that mean ill ---

EVIL = (
    "<script>window.canary=1</script><img src=x onerror=window.canary=1>\"'><svg onload=window.canary=1>"
    "</script></pre></textarea></style><!-- {{constructor.constructor('window.canary=1')()}} ${window.canary=1} "
    "javascript:window.canary=1 [x](javascript:window.canary=1) http://evil.example/x \u202eevil\u2066 \u200b\u00ad\ufeff "
    "\x07\x9b31m\x00 \x1b[2J\x1b]8;;http://evil.example\x07link\x1b]8;;\x07 \x1b]52;c;eA==\x07 \x1bP+q\x1b\\ \ud800 \udc00x\r hidden \U000e0041\u180e"
)
NAMES = ("__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "clipped", "then")


async def mean_ill(log: Written) -> Path:
    """Every text of it is hostile."""
    polluting: dict[str, Any] = {name: {"polluted": EVIL, "__proto__": {"polluted": 1}} for name in NAMES}
    evil: dict[str, Any] = {
        EVIL: EVIL,
        "command": EVIL,
        "code": EVIL,
        "old_str": EVIL,
        "new_str": EVIL,
        "input": {"clipped": EVIL},
    }
    changes = [
        log.change(EVIL, EVIL),
        log.change("../../x", EVIL, "before\n"),
        log.change("-".join(NAMES), "+++ a\n@@ <b>\n"),
    ]
    for name in ("main", f"main/{EVIL}", *(f"main/{name}" for name in NAMES), *NAMES):
        if name != "main":
            log.branch(name)
        await log.step(EVIL, [(EVIL, evil, EVIL), ("__proto__", polluting, EVIL)], branch=name, asked=EVIL, think=EVIL,
                       images=[SVG, PNG], changes=changes, data={"exit_code": EVIL, **polluting}, model=EVIL)  # fmt: skip
    log.recorder.once("note.__proto__", "main", data={EVIL: EVIL, **polluting})
    log.recorder.once(f"note.{EVIL}", "main", data=polluting)
    nan = float("nan")
    for id, parent, branch in (
        ("a", "b", "main"),
        ("b", "a", "__proto__"),
        (EVIL, EVIL, EVIL),
        ("__proto__", None, "main"),
        (nan, "a", 7),
    ):
        log.node(id=id, parent=parent, branch=branch, stage=EVIL, plan=EVIL, analysis=EVIL, metric=nan, is_buggy=False,
                 best=True, lower_is_better=EVIL, exec_time_s=EVIL, **{"constructor": EVIL})  # fmt: skip
    log.node(id="n", parent="a", branch="main", stage="draft", metric=0.5, plan={"not": "a text"}, best=False)
    log.node(id="m", parent="n", branch="main", stage="draft", metric=-float("inf"), is_buggy=True)
    log.node(id="o", parent="n", branch="main", stage="__proto__", metric=0.75, plan=["x"])
    return log.close()


@pytest.fixture
def evil(tmp_path: Path) -> Iterator[Written]:
    named = {"benchmark": EVIL, "task": EVIL, "agent": EVIL, "epoch": EVIL}
    log = Written(tmp_path / "evil", named, imported={"format": EVIL, "outcome": EVIL, "score": EVIL}, packages={EVIL: EVIL},
                  fork={"trajectory": EVIL, "episode": named, "at": EVIL})  # fmt: skip
    yield log
    log.close()


RESULT = {
    "outcome": EVIL,
    "score": {"value": 0.5, "flags": [EVIL, "__proto__"], "explanation": EVIL, "evidence": {EVIL: EVIL}},
}


async def look_everywhere(view: Watched, branches: int) -> int:
    """Opens all that can be opened; returns how many nodes were drawn."""
    page = view.page
    await view.see("article[data-step='1']")
    for number in range(1, branches + 1):
        await page.evaluate(f"location.hash = '#step={number}'")
        await view.see(f"article[data-step='{number}'] .act")
        await page.evaluate("document.querySelectorAll('details').forEach((fold) => { fold.open = true; })")
    await view.until("document.querySelectorAll('article .fold[open] .code').length > 0")
    marks = await page.evaluate(
        "[...new Set([...document.querySelectorAll('article .steering')].map((m) => m.textContent))]"
    )
    assert {
        "\\u202e",
        "\\u200b",
        "\\x07",
        "\\x00",
        "\\x9b",
        "\\ud800",
        "\\udc00",
        "\\ufeff",
        "\\x0d",
        "\\u{e0041}",
        "\\u180e",
    } <= set(marks)
    visible = await page.evaluate("document.querySelector('#app').textContent")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202e\u2066\ufeff]", visible)
    assert "<script>window.canary=1</script>" in visible
    nodes = 0
    tabs = page.locator(".tabs button")
    for index in range(await tabs.count()):
        await tabs.nth(index).click()
        await view.until("!document.querySelector('.stage').innerText.match(/^…$/m)")
        for node in range(await page.locator(".node").count()):
            nodes += 1
            await page.locator(".node").nth(node).dispatch_event("click")
            await view.see(".node-details h2")
    await view.nothing_ran()
    return nodes


async def test_nothing_that_was_written_runs(chromium: Any, evil: Written) -> None:
    log = await mean_ill(evil)
    async with opened(chromium, log, RESULT) as view:
        assert await look_everywhere(view, 9) == 8
        await view.page.locator(".tabs button").first.click()
        await view.page.keyboard.press("/")
        await view.page.keyboard.insert_text("<img src=x onerror")
        await view.page.keyboard.press("Enter")
        await view.see(".item.hit")
        card = await view.see("article.step")
        await card.get_by_role("button", name="sent").click()
        await view.see("dialog[open] .message")
        await view.page.keyboard.press("Escape")
        await card.get_by_role("button", name="raw").click()
        await view.see("dialog[open] pre", has_text="generate.begun")
        await view.nothing_ran()


async def test_nor_in_a_page_that_stands_alone(chromium: Any, evil: Written, tmp_path: Path) -> None:
    shelf = shelf_of(await mean_ill(evil), RESULT)
    write_page(shelf, tmp_path / "page.html")
    shelf.close()
    profile = await chromium.new_context(offline=True)
    view = Watched(await profile.new_page(), (tmp_path / "page.html").as_uri())
    await view.page.goto(view.origin)
    assert await look_everywhere(view, 9) == 8
    assert await view.page.evaluate(
        "[...document.images].every((image) => /^data:image\\/png|^$/.test(image.getAttribute('src')))"
    )
    await profile.close()


async def test_lines_of_fifty_megabytes(chromium: Any, long: Written) -> None:
    line = "x" * 50_000_000
    await long.step("large", [("shell", {"command": "ls"}, line)])
    await long.step(line, [])
    async with opened(chromium, long.close(), {"outcome": "completed"}) as view:
        card = await view.see("article[data-step='1']")
        assert len(await view.page.evaluate("document.body.textContent")) < 500_000
        await card.get_by_role("button", name="Show more").click()
        await view.until("document.querySelector('article[data-step=\"1\"] .output').textContent.length === 1020000")
        await view.page.evaluate("location.hash = '#step=2'")
        await view.see("article[data-step='2'] .more", has_text="50,000,000 characters")
        await view.nothing_ran()


async def test_ten_thousand_branches_and_nodes(chromium: Any, long: Written) -> None:
    for number in range(10_000):
        long.branch(f"main/{number}")
    await steps(long, 2)
    async with opened(chromium, long.close(), {"outcome": "completed"}) as view:
        await view.see("article[data-step='1']")
        await view.until("document.querySelectorAll('option').length === 10002")
        await view.nothing_ran()
