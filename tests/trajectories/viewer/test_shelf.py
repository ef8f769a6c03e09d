"""Trajectories that are opened when they are asked for, also while they grow and are replaced."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from trellis.trajectories.packing import pack
from trellis.trajectories.viewer import shelf as shelves
from trellis.trajectories.viewer.server import NotThere
from trellis.trajectories.viewer.shelf import LibraryShelf

from .conftest import Logs, Written, shelf_of


async def test_what_a_page_asks_for(written: Written) -> None:
    await written.step("I look.", [("shell", {"command": "ls"}, "a.py")])
    written.node(id=0, parent=None, branch="main", stage="draft", metric=0.5, is_buggy=False, best=True, plan="p")
    shelf = shelf_of(written.close(), {"outcome": "completed"})
    assert shelf.answer("first", {})["episode"] == "e"
    overview = shelf.answer("episode", {"e": "e"})
    assert (overview["steps"], overview["result"], overview["live"]) == (1, {"outcome": "completed"}, False)
    assert len(shelf.answer("steps", {"e": "e", "from": "1", "count": "100"})) == 1
    assert shelf.answer("timeline", {"e": "e"})["tools"] == [["shell"]]
    assert shelf.answer("judgements", {"e": "e"}) == []
    assert shelf.answer("opening", {"e": "e", "branch": "main"}) == []
    assert shelf.answer("conversation", {"e": "e", "n": "1"})["before"] == 0
    assert shelf.answer("raw", {"e": "e", "n": "1"})[0]["kind"] == "generate.begun"
    assert shelf.answer("node", {"e": "e", "id": "0"})["plan"] == "p"
    assert shelf.answer("search", {"e": "e", "q": "look"}) == [1]
    text = {"e": "e", "at": "step/1/reply/parts/0/text", "from": "2"}
    assert shelf.answer("text", text) == {"text": "look.", "chars": 7}
    assert shelf.answer("news", {"e": "e", "after": "0"})["ended"] is True
    shelf.close()


async def test_what_is_not_there_is_one_line(written: Written) -> None:
    await written.step()
    shelf = shelf_of(written.close())
    for question in (
        "steps?e=e&from=x&count=1", "steps?e=e", "steps?e=none&from=1&count=1", "steps?e=e&from=-1&count=1",
        f"steps?e=e&count=1&from={'9' * 20}", "steps?e=e&from=%D9%A1&count=1", "raw?e=e&n=7", "conversation?e=e&n=0",
        "node?e=e&id=x", "opening?e=e&branch=none", "text?e=e&at=x&from=0", "nothing?e=e", "episode", "run?run=..",
        "__class__?e=e", "news?e=e",
    ):  # fmt: skip
        path, _, rest = question.partition("?")
        query = dict(parse_qsl(rest))
        with pytest.raises(NotThere) as raised:
            shelf.answer(path, query)
        assert str(raised.value)
        assert "\n" not in str(raised.value)
        assert not str(raised.value).startswith('"')
    for name in ("", "..", "a" * 64, "../trajectory.jsonl"):
        with pytest.raises(NotThere):
            shelf.blob("e", name)
    shelf.close()


async def test_damage_is_one_line_and_what_was_mended_is_read_again(written: Written) -> None:
    await written.step()
    log = written.close()
    whole = log.read_bytes()
    shelf = shelf_of(log)
    for damaged in (b"", b"{}\n", b'{"seq":0}\n' * 3, whole + b"\0\n"):
        log.write_bytes(damaged)
        with pytest.raises(NotThere) as raised:
            shelf.answer("episode", {"e": "e"})
        assert "trajectory.jsonl" in str(raised.value)
    log.write_bytes(whole)
    assert shelf.answer("episode", {"e": "e"})["steps"] == 1
    log.unlink()
    with pytest.raises(NotThere):
        shelf.answer("episode", {"e": "e"})
    shelf.close()


async def test_a_log_that_is_begun_afresh_packed_and_gone_on_with(tmp_path: Path) -> None:
    first = Written(tmp_path / "e")
    await first.step("old one")
    await first.step("old two")
    library = Logs({"e": first.close()}, {})
    shelf = LibraryShelf(library)
    assert shelf.answer("episode", {"e": "e"})["steps"] == 2
    first.path.rename(first.path.with_name("trajectory.1.jsonl"))
    second = Written(tmp_path / "e")
    await second.step("new")
    events = shelf.answer("episode", {"e": "e"})
    assert (events["steps"], events["live"]) == (1, True)
    assert shelf.answer("steps", {"e": "e", "from": "1", "count": "9"})[0]["reply"]["parts"][0]["text"] == "new"
    await second.step("more")
    assert shelf.answer("news", {"e": "e", "after": str(events["events"])})["steps"] == 2
    assert shelf.answer("search", {"e": "e", "q": "more"}) == [2]
    await second.step("yet more")
    assert shelf.answer("search", {"e": "e", "q": "yet"}) == [3]
    second.close()
    pack(second.path)
    library.logs["e"] = second.path.with_name("trajectory.jsonl.zst")
    assert shelf.answer("steps", {"e": "e", "from": "3", "count": "1"})[0]["number"] == 3
    shelf.close()


async def test_waiting_for_news_holds_nobody_up(written: Written) -> None:
    await written.step()
    shelf = shelf_of(written.path)
    events = shelf.answer("episode", {"e": "e"})["events"]
    with ThreadPoolExecutor() as pool:
        news = pool.submit(shelf.answer, "news", {"e": "e", "after": str(events)})
        for _ in range(5):
            assert len(shelf.answer("steps", {"e": "e", "from": "1", "count": "1"})) == 1
        assert not news.done()
        await written.step("More.")
        assert news.result()["steps"] == 2
        ended = pool.submit(shelf.answer, "news", {"e": "e", "after": str(news.result()["events"])})
        written.close()
        assert ended.result()["ended"] is True
    shelf.close()


async def test_many_ask_at_a_time_and_few_files_are_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "KEPT", 2)
    logs = {}
    for name in "abcdef":
        log = Written(tmp_path / name)
        for _ in range(3):
            await log.step(f"said in {name}", [("shell", {"command": name}, "x")])
        logs[name] = log.close()
    shelf = LibraryShelf(Logs(logs, {}))
    together = threading.Barrier(6)

    def ask(name: str) -> None:
        together.wait()
        for number in range(30):
            other = "abcdef"[(number + ord(name)) % 6]
            steps = shelf.answer("steps", {"e": other, "from": "1", "count": "3"})
            assert [step["reply"]["parts"][0]["text"] for step in steps] == [f"said in {other}"] * 3
            assert shelf.answer("search", {"e": other, "q": f"in {other}"}) == [1, 2, 3]

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, "abcdef"))
    open_files = [path for path in Path("/proc/self/fd").iterdir() if str(tmp_path) in _to(path)]
    assert len(open_files) <= 2
    shelf.close()
    assert not [path for path in Path("/proc/self/fd").iterdir() if str(tmp_path) in _to(path)]


def _to(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""
