"""`trellis replay --recorded`: what it prints, keeps, and says of wrong usage."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Trellis = Callable[..., Any]


def test_the_command(trellis: Trellis, sums: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = tmp_path / "marks"
    monkeypatch.setenv("SUMS_MARKS", str(marks))
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Asker", "--model", f"{sums}:Adder",
                  "-M", "error_rate=0", "--limit", "2", "--json")  # fmt: skip
    run, asked = Path(ran.document["run"]).name, marks.read_text()

    same = trellis("replay", run, "--recorded")
    assert same.status == 0
    assert same.out.splitlines()[-1] == "2 of 2 episodes the same"
    assert marks.read_text() == asked, "no model was asked"

    changed = trellis("replay", f"{run}/sum-1", "--recorded", "-S", "votes=4")
    assert changed.status == 1
    said = "after step 3 (main:3): now a call of the model, where the record goes on with a submission (event "
    assert said in changed.out
    assert "    user:" in changed.out

    document = trellis("replay", run, "--recorded", "-S", "votes=2", "--json").document
    assert document["same"] is False
    first = document["episodes"][0]
    assert (first["steps"], first["same"], first["change"]["how"], first["change"]["step"]) == (2, False, "gone", 3)

    saved = trellis("replay", f"{run}/sum-1", "--recorded", "--save", "kept/x.jsonl")
    assert saved.out.startswith("wrote kept/x.jsonl (3 steps, 0 tool calls, ")
    assert trellis("replay", "kept/x.jsonl", "--recorded").status == 0

    saved = trellis("replay", f"{run}/sum-1", "--recorded", "-S", "votes=2", "--save", "kept/y.jsonl")
    assert saved.status == 0, saved.err
    assert trellis("replay", "kept/y.jsonl", "--recorded").status == 0, (
        "what is kept says which options it was made with"
    )


def test_other_code_by_its_path(trellis: Trellis, sums: str, tmp_path: Path) -> None:
    ran = trellis("run", f"{sums}:Sums:plain", "--model", f"{sums}:Adder", "--limit", "1", "--json")
    code = "from trellis.scaffolds.react import ReAct\nclass Mine(ReAct):\n    prompt: str = 'Be \\x1b[31mquick.'\n"
    Path("mine.py").write_text(code)
    changed = trellis("replay", ran.document["run"], "--recorded", "--scaffold", "./mine.py:Mine")
    assert changed.status == 1
    assert "    -Answer the question that follows.\n    +Be \\x1b[31mquick.\n" in changed.out
    Path("broken.py").write_text(f"{code}    async def solve(self, episode):\n        raise ValueError('oh')\n")
    broken = trellis("replay", ran.document["run"], "--recorded", "--scaffold", "./broken.py:Mine")
    assert broken.status == 1
    assert "the program failed: ValueError: oh" in broken.out
    assert "broken.py" in broken.out
    document = trellis("replay", ran.document["run"], "--recorded", "--scaffold", "./broken.py:Mine", "--json").document
    assert document["episodes"][0]["error"] == "ValueError: oh"
    unsaved = trellis(
        "replay", ran.document["run"], "--recorded", "--scaffold", "./broken.py:Mine", "--save", "x.jsonl"
    )
    assert (unsaved.status, Path("x.jsonl").exists()) == (1, False)
    assert "nothing was written" in unsaved.complaint


def test_a_fork_is_replayed_with_what_it_was_told(trellis: Trellis, sums: str) -> None:
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Asker", "--model", f"{sums}:Adder",
                  "--limit", "1", "--json")  # fmt: skip
    forked = trellis("fork", ran.document["run"], "--at", "1", "--message", "Think twice.", "-n", "2", "--json")
    assert trellis("replay", forked.document["run"], "--recorded").status == 0
    assert trellis("replay", f"{forked.document['run']}/sum-0/Asker@1/2", "--recorded", "--save", "x.jsonl").status == 0
    assert "Think twice." in Path("x.jsonl").read_text()
    assert trellis("replay", "x.jsonl", "--recorded").status == 0


def test_wrong_usage_is_one_line(trellis: Trellis, sums: str) -> None:
    ran = trellis("run", f"{sums}:Sums:plain", "--model", f"{sums}:Adder", "--limit", "2", "--json")
    run = ran.document["run"]
    assert "do not fit into one file" in trellis("replay", run, "--recorded", "--save", "x.jsonl").complaint
    log = f"{run}/episodes/Sums.plain/sum-0/react/1"
    assert "ends with .jsonl" in trellis("replay", log, "--recorded", "--save", "x.json").complaint
    assert "belongs to a run" in trellis("replay", log, "--recorded", "--save", f"{log}/trajectory.jsonl").complaint
    assert "no option nonsense" in trellis("replay", log, "--recorded", "-S", "nonsense=1").complaint
    Path("empty.jsonl").write_text("")
    assert "not a trajectory" in trellis("replay", "empty.jsonl", "--recorded").complaint
    Path("nothing").mkdir()
    assert "no trajectory" in trellis("replay", "nothing", "--recorded").complaint
