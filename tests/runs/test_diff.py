"""`trellis diff`: trajectories side by side, as text, as a page and as JSON."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from trellis.models.messages import assistant, user
from trellis.models.model import GenerateConfig, Reply, Usage
from trellis.trajectories.recorder import Recorder

Trellis = Callable[..., Any]
Write = Callable[..., Any]

LOOK = ("I look.", [("shell", {"command": "ls"}, "a.py")])
EDIT = ("I edit.", [("edit", {"path": "a.py", "old": "1", "new": "2"}, "done")])
TEST = ("I test.", [("shell", {"command": "pytest"}, "1 passed")])
HAND_IN: Any = ("Done.", [("submit", {}, "handed in")])


@pytest.mark.parametrize(
    ("other", "where", "what", "lines"),
    [
        ([LOOK, ("I patch.", EDIT[1]), HAND_IN], (2, 2), "reply", ["-I edit.", "+I patch."]),
        (
            [LOOK, ("I edit.", [("edit", {"path": "a.py", "old": "1", "new": "3"}, "done")]), HAND_IN],
            (2, 2), "call", ["-new: 2", "+new: 3"],
        ),
        ([LOOK, ("I edit.", [(*EDIT[1][0][:2], "failed")]), HAND_IN], (2, 2), "result", ["-done", "+failed"]),
        ([LOOK, EDIT, TEST, HAND_IN], (None, 3), "step", []),
        ([LOOK, HAND_IN], (2, None), "step", []),
    ],
)  # fmt: skip
async def test_the_first_divergence(
    trellis: Trellis, write_log: Write, tmp_path: Path, other: Any, where: Any, what: str, lines: list[str]
) -> None:
    logs = [
        str(await write_log(tmp_path / name, steps)) for name, steps in (("a", [LOOK, EDIT, HAND_IN]), ("b", other))
    ]
    document = trellis("diff", *logs, "--json").document
    (comparison,) = document["comparisons"]
    first = comparison["first_divergence"]
    assert (first["what"], (first["a"], first["b"])) == (what, where)
    assert [line for line in first["diff"].splitlines() if line[0] in "+-"] == lines
    shown = trellis("diff", *logs).out
    assert "the same task" in shown
    assert ("only one of them makes it" if what == "step" else f"the {what} differs") in shown
    assert all(line in shown for line in lines)


async def test_trajectories_that_are_the_same(trellis: Trellis, write_log: Write, tmp_path: Path) -> None:
    change = {"path": "a.py", "kind": "modified", "mode": 0o100644, "size": 1, "sha256": "", "text": False}
    logs = [str(await write_log(tmp_path / name, [LOOK, EDIT, TEST, HAND_IN], changes=[change])) for name in "ab"]
    shown = trellis("diff", *logs).out
    assert "A and B: 4 the same\n  no step differs\n" in shown
    assert "1-4    1-4  4 steps the same" in shown
    assert trellis("diff", *logs, "--full").out.count("changed: a.py") == 4
    document = trellis("diff", *logs, "--json").document
    assert document["comparisons"][0]["first_divergence"] is None
    assert document["steps"]["A"][0]["changed_files"] == ["a.py"]
    other = str(await write_log(tmp_path / "c", [LOOK, HAND_IN], task="another", changes=[change]))
    shown = trellis("diff", *logs, other).out
    assert "these are different tasks" in shown
    assert "A and C: 2 the same, 2 only in A" in shown
    assert shown.count("changed: a.py") == 4
    assert re.search(r"C: when each step was, and what it cost\n +1 │ *█", shown)


async def test_what_may_differ_when_a_call_is_made_again_is_no_difference(
    trellis: Trellis, write_log: Write, tmp_path: Path
) -> None:
    tests = [("I test.", [("shell", {"command": "pytest"}, f"{passed} passed in {took}s")])
             for passed, took in ((3, 0.61), (3, 0.45), (4, 0.45))]  # fmt: skip
    logs = [str(await write_log(tmp_path / str(number), [step])) for number, step in enumerate(tests)]
    shown = trellis("diff", *logs).out
    assert "A and B: 1 the same\n  no step differs" in shown
    assert "A and C: 1 the same done, another result" in shown


async def search(folder: Path, names: dict[int, str], said: dict[int, str]) -> str:
    """Nodes, each made on a branch of its own."""
    recorder = Recorder(folder, {"episode": {"benchmark": "b", "task": "t", "agent": "tree", "epoch": 1}})
    for node, branch in names.items():

        async def reply(node: int = node) -> Reply:
            return Reply(assistant(said[node]), "stop", Usage(), None, 0.0)

        await recorder.generate(branch, "main", "m", [user("go")], (), GenerateConfig(), reply)
        recorder.once("note.node", "main", data={"id": node, "branch": branch})
    recorder.close()
    return str(folder)


async def test_branches_of_searches_are_aligned_by_node(trellis: Trellis, tmp_path: Path) -> None:
    a = await search(tmp_path / "a", {0: "main/x", 1: "main/y", 2: "main/only"}, {0: "one", 1: "two", 2: "three"})
    b = await search(tmp_path / "b", {1: "main/x", 0: "main/z"}, {0: "one", 1: "zwei"})
    (comparison,) = trellis("diff", a, b, "--json").document["comparisons"]
    rows = [(branch["a"], branch["b"], [row["row"] for row in branch["rows"]]) for branch in comparison["branches"]]
    assert rows == [
        ("main/x", "main/z", ["same"]),
        ("main/y", "main/x", ["changed"]),
        ("main/only", None, ["only_a"]),
    ]
    assert (comparison["first_divergence"]["a"], comparison["first_divergence"]["b"]) == (2, 1)
    assert "main/y | main/x" in trellis("diff", a, b).out


async def test_branches_that_have_nothing_in_common_are_aligned_step_by_step(trellis: Trellis, tmp_path: Path) -> None:
    a = await search(tmp_path / "a", {0: "main/x", 1: "main/y"}, {0: "one", 1: "two"})
    b = await search(tmp_path / "b", {7: "attempt-1", 8: "attempt-2"}, {7: "two", 8: "three"})
    (comparison,) = trellis("diff", a, b, "--json").document["comparisons"]
    rows = [(row["row"], row["a"], row["b"]) for branch in comparison["branches"] for row in branch["rows"]]
    assert rows == [("only_a", 1, None), ("same", 2, 1), ("only_b", None, 2)]


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


async def test_what_others_wrote_steers_neither_terminal_nor_page(
    trellis: Trellis, write_log: Write, hostile: str, tmp_path: Path
) -> None:
    change = {"path": hostile, "kind": "added", "mode": 0o100644, "size": 3, "sha256": "", "text": False}
    logs = [
        str(await write_log(tmp_path / name, [(f"{hostile}{name}", [(hostile, {hostile: name}, hostile)])] * 2,
                            task=hostile, agent=hostile, changes=[change], branch="main/" + hostile))
        for name in "ab"
    ]  # fmt: skip
    shown = trellis("diff", *logs).out
    page = tmp_path / "page.html"
    assert trellis("diff", *logs, "--html", str(page)).out == f"page: {page}\n"
    for text in (shown, page.read_text("utf-8")):
        steering = [c for c in text if c not in "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
        assert steering == []
    assert not [line for line in shown.splitlines() if line.startswith(("step 9", "<img"))]
    tags = _Tags()
    tags.feed(page.read_text("utf-8"))
    assert not tags.tags & {"script", "img", "iframe", "link", "object"}
    assert not {name for name in tags.attributes if name.startswith("on") or name in ("href", "src")}
    assert "default-src 'none'" in page.read_text("utf-8")


async def test_a_long_comparison_is_cut_on_a_terminal(trellis: Trellis, write_log: Write, tmp_path: Path) -> None:
    steps = [(f"s{n}", [("shell", {"command": f"echo {n}"}, str(n))]) for n in range(300)]
    others = [(f"s{n}", [("shell", {"command": f"echo {n}"}, f"other {n}")]) for n in range(300)]
    logs = [str(await write_log(tmp_path / "a", steps)), str(await write_log(tmp_path / "b", others))]
    shown = trellis("diff", *logs).out
    assert "... and 180 more rows: --full shows all" in shown
    assert len(shown.splitlines()) < 250
    assert trellis("diff", *logs, "--full").out.count("[result]") == 300


async def test_wrong_usage_is_one_line(trellis: Trellis, write_log: Write, tmp_path: Path) -> None:
    log = str(await write_log(tmp_path / "a", [LOOK]))
    assert "two trajectories or more" in trellis("diff", log).complaint
    assert "is no trajectory" in trellis("diff", log, "nowhere").complaint
    assert "No such file" in trellis("diff", log, log, "--html", str(tmp_path / "no" / "page.html")).complaint
