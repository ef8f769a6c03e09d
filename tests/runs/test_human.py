"""A human as the model, on a real pseudo-terminal: shown what is new, answering in texts and tool calls."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trellis.models.human import _barred
from trellis.models.terminal import columns

from .conftest import SUMS, Ran
from .test_approval import Terminal


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        opened.append(Terminal(tmp_path, *arguments))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def world(*more: str) -> list[str]:
    return ["run", f"{SUMS}:Sums:world", "--model", "human", "--limit", "1", "--env", "local", "--json", *more]


def say(at: Terminal, text: str, prompt: str = "> ") -> str:
    """Wait for the prompt, type a line, and return what was shown before it."""
    shown = at.wait_for(prompt)
    at.type(f"{text}\n")
    return shown


def result(folder: Path) -> dict[str, Any]:
    (run,) = (folder / "runs").iterdir()
    return dict(json.loads((run / "results.jsonl").read_text().splitlines()[-1]))


def log(folder: Path, kind: str) -> list[dict[str, Any]]:
    (file,) = (folder / "runs").rglob("trajectory.jsonl")
    return [event for event in map(json.loads, file.read_text().splitlines()) if event["kind"] == kind]


def test_tools_texts_and_what_is_new(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    at = terminal(*world())
    first = say(at, "! printf 'a\\342\\200\\256b\\n'; echo $((3 + 4))")
    assert "What is 0 + 10?" in first
    assert "system:" in first
    assert "tools: shell, submit" in first
    assert "! COMMAND runs it in the shell" in first
    second = say(at, "/?")
    assert "result of shell:" in second
    assert "  | a\\u202eb" in second, "it cannot steer the terminal"
    assert "  | 7" in second
    assert "What is 0 + 10?" not in second, "only what is new"
    assert "/submit" in say(at, "/sbumit")
    assert "there is no tool 'sbumit'; there are: shell, submit" in say(at, '/shell {"comand": "ls"}')
    assert "this has no comand; it has: command, " in say(at, "/shell")
    assert "what to run" in say(at, '"""', "command> ")
    say(at, "for i in a b; do", "… ")
    say(at, "  echo <$i>", "… ")
    say(at, 'done"""', "… ")
    say(at, "", "input> ")
    say(at, "perhaps", "interrupt> ")
    assert "this must be yes or no" in say(at, "no", "interrupt> ")
    for name in [name for name in _shell_properties() if name not in ("command", "input", "interrupt")]:
        say(at, "", f"{name}> ")
    say(at, "I think it is ten.")
    nudged = say(at, "/submit")
    assert "Go on with a tool call" in nudged
    say(at, "10", "answer> ")
    status, out = at.finish()
    assert (status, json.loads(out)["outcomes"]) == (0, {"completed": 1})
    acts = [event["what"] for event in log(tmp_path, "act.begun")]
    assert [act["name"] for act in acts] == ["shell", "shell", "submit"]
    assert acts[1]["arguments"] == {"command": "for i in a b; do\n  echo <$i>\ndone", "interrupt": False}
    done = result(tmp_path)
    assert (done["score"]["value"], done["steps"], done["cost_usd"]) == (1.0, 4, 0.0)
    assert done["usage"]["input"] > 0
    assert done["time_s"] > 0, "thinking is the baseline's work"


def _shell_properties() -> list[str]:
    from trellis.runs.plan import make_tools

    return list(make_tools(["shell"])[0].spec.parameters["properties"])


def test_a_question_in_several_lines_priced_by_the_hour(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    at = terminal("run", "hle:sample", "--tasks", "image-bars", "--model", "human", "-M", "usd_per_hour=36", "--json")
    shown = say(at, '"""')
    assert "user: image/png, to be opened at /" in shown
    picture = Path(shown.partition("to be opened at ")[2].split()[0])
    assert picture.read_bytes().startswith(b"\x89PNG")
    for line in ("Explanation: counted", "Answer: 4", "Confidence: 50%"):
        say(at, line, "… ")
    say(at, '"""', "… ")
    status, _ = at.finish()
    assert status == 0
    assert not picture.exists()
    (done,) = [event for event in log(tmp_path, "generate.done") if event["branch"] == "main"]
    assert done["cost_usd"] == pytest.approx((done["latency_s"] - done["waited_s"]) / 100, rel=0.01)
    assert done["cost_usd"] > 0


@pytest.mark.parametrize("ending", ["\x04", signal.SIGINT])
def test_the_end_of_the_input_and_ctrl_c_interrupt(
    terminal: Callable[..., Terminal], tmp_path: Path, ending: str | signal.Signals
) -> None:
    at = terminal(*world())
    say(at, "! echo once>>steps.txt")
    at.wait_for("> ")
    if isinstance(ending, str):
        at.type(ending)
    else:
        at.process.send_signal(ending)
    status, out = at.finish()
    assert (status, json.loads(out)["outcomes"]) == (130, {"cancelled": 1})
    (run,) = (tmp_path / "runs").iterdir()
    assert f"interrupted; go on with: trellis resume {run}" in at.seen
    assert "Traceback" not in at.seen

    again = terminal("resume", str(run), "--json")
    shown = say(again, "/submit")
    assert "What is 0 + 10?" in shown, "who sits there now may have seen nothing"
    say(again, "10", "answer> ")
    status, out = again.finish()
    assert (status, json.loads(out)["outcomes"]) == (0, {"completed": 1})
    assert [event["what"]["name"] for event in log(tmp_path, "act.begun")] == ["shell", "submit"]
    assert result(tmp_path)["score"]["evidence"]["steps"] == "1"


def test_with_the_live_table_and_questions_of_approval(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """Two episodes at a time, an approval between the turns, and one terminal for all of it."""
    arguments = [a for a in world("--approve", "shell=ask", "--jobs", "2") if a != "--json"]
    arguments[arguments.index("--limit") + 1] = "2"
    at = terminal(*arguments)
    for _ in range(2):
        say(at, "! true")
    for _ in range(2):
        at.answer("y")
    for _ in range(2):
        say(at, '/submit {"answer": "10"}')
    status, _ = at.finish()
    assert status == 0
    assert "2/2" in at.seen


def test_nothing_that_is_shown_steers() -> None:
    assert _barred("a\x1b[31m\x1b]0;title\x07b\n> forged") == ["  | a\\x1b[31m\\x1b]0;title\\x07b", "  | > forged"]
    (cut,) = (line for line in _barred("x" * 50_000) if "not shown" in line)
    assert "30,000 characters" in cut
    wide = _barred("x" * 79 + "> forged")
    assert all(line.startswith("  | ") and len(line) <= columns() for line in wide)
    assert "".join(line.removeprefix("  | ") for line in wide) == "x" * 79 + "> forged"


def test_without_a_terminal(trellis: Callable[..., Ran], tmp_path: Path) -> None:
    ran = trellis("run", f"{SUMS}:Sums:plain", "--model", "human")
    assert ran.status == 2
    assert ran.complaint == (
        "trellis: human answers at a terminal, and there is none (standard input and error): run this in one"
    )
    assert list(tmp_path.iterdir()) == []
