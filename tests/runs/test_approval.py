"""Approval from the command line to the log: rules in files and flags, and questions on a real pseudo-terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from trellis.models.messages import ToolCall
from trellis.runs.approval import QUESTION, described
from trellis.runs.experiment import read
from trellis.runs.results import Key

DEADLINE_S = 60
SUMS = Path(__file__).parent / "parts" / "sums.py"


class Terminal:
    """`trellis` on a pseudo-terminal of its own, as somebody at a keyboard has it. Standard output is a pipe."""

    def __init__(self, folder: Path, *arguments: str, columns: int = 120, **environ: str) -> None:
        self.seen = ""
        self._read = 0
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, columns))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trellis.runs.cli", *arguments],
            cwd=folder, stdin=slave, stderr=slave, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40", **environ},
        )  # fmt: skip
        os.close(slave)

    def wait_for(self, text: str) -> str:
        """Until the terminal shows `text` behind what was waited for before; what stands between."""
        deadline = time.monotonic() + DEADLINE_S
        while (at := self.seen.find(text, self._read)) < 0:
            assert time.monotonic() < deadline, f"waited for {text!r} and saw {self.seen[self._read :]!r}"
            assert self._more(), f"waited for {text!r}; it ended with {self.seen[self._read :]!r}"
        between, self._read = self.seen[self._read : at], at + len(text)
        return between

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def answer(self, text: str) -> str:
        """Wait for the next question, answer it, and return what was shown before it."""
        asked = self.wait_for(QUESTION)
        self.type(f"{text}\n")
        return asked

    def finish(self) -> tuple[int, str]:
        """Exit status and standard output."""
        while self._more():
            pass
        out, _ = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, out

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        os.close(self._master)

    def _more(self) -> bool:
        """Read what there is; False when the process has ended and all is read."""
        ready, _, _ = select.select([self._master], [], [], 0.1)
        if not ready:
            return self.process.poll() is None
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other end is closed
            return False
        self.seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode("utf-8", "replace"))
        return bool(data)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str, columns: int = 120, **environ: str) -> Terminal:
        opened.append(Terminal(tmp_path, *arguments, columns=columns, **environ))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def asker(*more: str, votes: int = 2, limit: int = 1) -> list[str]:
    """Asks `votes` times and runs one command in its world each time."""
    return [
        "run", f"{SUMS}:Sums:world", "--scaffold", f"{SUMS}:Asker", "-S", f"votes={votes}",
        "--model", f"{SUMS}:Adder", "--limit", str(limit), "--env", "local", "--name", "asked", *more,
    ]  # fmt: skip


def the_run(folder: Path) -> Path:
    (found,) = (folder / "runs").glob("*-asked-*")
    return found


def recorded(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = [line for log in sorted(the_run(folder).rglob("trajectory.jsonl")) for line in log.read_text().splitlines()]
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


# --- questions -------------------------------------------------------------------------------------------------------


def test_yes_and_no_with_a_reason(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    at = terminal(*asker("--approve", "shell=ask"))
    first = at.answer("y")
    assert "approval: Asker at Sums:world sum-0, epoch 1, branch main" in first
    assert "branch main\r\n  shell\r\n  command:\r\n  | echo 0 >> steps.txt\r\n" in first
    second = at.answer("n once is enough")
    assert "  | echo 1 >> steps.txt" in second
    status, _ = at.finish()
    assert status == 0
    yes, no = (event["answer"] for event in recorded(tmp_path, "approval.done"))
    assert (yes["allowed"], yes["by"], yes["rule"]) == (True, "user", 1)
    assert (no["allowed"], no["reason"]) == (False, "once is enough")
    results = [event["answer"]["result"] for event in recorded(tmp_path, "act.done")]
    assert results[1]["is_error"] is True
    assert "the user declined this call: once is enough" in results[1]["parts"][0]["text"]
    (line,) = (the_run(tmp_path) / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["score"]["evidence"]["steps"] == "1", "only the first command was run"


def test_what_was_typed_before_and_what_is_no_answer(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    at = terminal(*asker("--approve", "shell=ask", "-M", "delay_s=1", votes=1), SUMS_MARKS=str(tmp_path / "marks"))
    while not (tmp_path / "marks").exists():
        time.sleep(0.001)
    at.type("n typed before the question\n")
    assert "approval:" in at.answer("what?")
    at.answer("")
    at.answer("YES")
    assert at.finish()[0] == 0
    assert recorded(tmp_path, "approval.done")[0]["answer"]["allowed"] is True


def test_always_is_this_exact_call_in_the_whole_run(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    at = terminal(*asker("--approve", "shell:*0 >>*=ask", "--jobs", "1", votes=2, limit=3))
    at.answer("a")
    assert at.finish()[0] == 0
    assert at.seen.count(QUESTION) == 1
    decisions = [event["answer"] for event in recorded(tmp_path, "approval.done")]
    assert [(d["allowed"], d["by"]) for d in decisions] == [(True, "user"), (True, "default")] * 3
    assert len((the_run(tmp_path) / "always-allowed.txt").read_text().split()) == 1


def test_questions_of_parallel_episodes_come_one_after_the_other(
    terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    at = terminal(*asker("--approve", "shell=ask", "--jobs", "3", votes=1, limit=3))
    tasks = set()
    for _ in range(3):
        asked = at.wait_for(QUESTION)
        assert asked.count("approval: ") == 1
        found = re.search(r"sum-\d", asked[asked.index("approval: ") :])
        assert found is not None
        tasks.add(found[0])
        time.sleep(0.4)  # the table is drawn four times a second: not now
        at.type("y\n")
        assert at.wait_for("\r\n") == "y", "nothing is drawn into a question"
    assert tasks == {"sum-0", "sum-1", "sum-2"}
    status, out = at.finish()
    assert status == 0
    assert "score so far" in at.seen
    assert "[y]" not in out


def test_json_and_questions_go_together(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    at = terminal(*asker("--approve", "shell=ask", "--json", votes=1))
    at.answer("y")
    status, out = at.finish()
    assert status == 0
    assert json.loads(out)["outcomes"] == {"completed": 1}


# --- stopping and going on -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", ["q\n", "\x04"])
def test_the_run_can_be_stopped_at_a_question_and_resumed(
    terminal: Callable[..., Terminal], tmp_path: Path, stop: str
) -> None:
    at = terminal(*asker("--approve", "shell=ask", "--jobs", "2", votes=2, limit=2))
    at.answer("y")
    at.wait_for(QUESTION)
    at.type(stop)
    status, _ = at.finish()
    assert status == 1
    assert "stopped at a question of approval; go on with: trellis resume" in at.seen
    assert at.seen.count(QUESTION) == 2
    assert len(recorded(tmp_path, "approval.done")) == 1

    again = terminal("resume", str(the_run(tmp_path)))
    for _ in range(3):
        again.answer("y")
    assert again.finish()[0] == 0
    assert again.seen.count(QUESTION) == 3, "nobody is asked twice"
    assert len(recorded(tmp_path, "approval.done")) == 4


@pytest.mark.kill
def test_nobody_is_asked_twice_after_a_kill(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    at = terminal(*asker("--approve", "shell=ask", votes=3))
    at.answer("n not this one")
    at.answer("a")
    at.wait_for(QUESTION)
    os.killpg(at.process.pid, signal.SIGKILL)
    at.finish()
    again = terminal("resume", str(the_run(tmp_path)))
    assert "echo 2 >> steps.txt" in again.answer("y")
    assert again.finish()[0] == 0
    assert again.seen.count(QUESTION) == 1
    assert [d["answer"]["allowed"] for d in recorded(tmp_path, "approval.done")] == [False, True, True]
    last = json.loads((the_run(tmp_path) / "results.jsonl").read_text().splitlines()[-1])
    assert last["score"]["evidence"]["steps"] == "2", "what was denied was not done when the world was made again"


@pytest.mark.kill
def test_control_c_at_a_question_is_an_interruption(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    at = terminal(*asker("--approve", "shell=ask", votes=1))
    at.wait_for(QUESTION)
    at.process.send_signal(signal.SIGINT)
    status, _ = at.finish()
    assert status == 130
    assert "interrupted; go on with: trellis resume" in at.seen
    assert "Traceback" not in at.seen


def test_waiting_for_an_answer_is_not_the_agents_time(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    at = terminal(*asker("--approve", "shell=ask", "--max-time", "20", votes=1))
    at.wait_for(QUESTION)
    time.sleep(1.5)
    at.type("y\n")
    assert at.finish()[0] == 0
    result = json.loads((the_run(tmp_path) / "results.jsonl").read_text())
    assert result["wall_s"] - result["time_s"] >= 1.4


# --- without a terminal ----------------------------------------------------------------------------------------------


def test_asking_needs_a_terminal(trellis: Callable[..., Any], tmp_path: Path) -> None:
    ran = trellis(*asker("--approve", "python=deny", "--approve", "shell:*x*=ask"))
    assert ran.status == 2
    assert ran.complaint == (
        "trellis: approval rule 2 (tool 'shell', pattern '*x*') says ask, and there is no terminal to ask on: run this "
        "in a terminal, or let the rule say allow or deny"
    )
    assert not (tmp_path / "runs").exists()


def test_denying_needs_none(trellis: Callable[..., Any], tmp_path: Path) -> None:
    ran = trellis(*asker("--approve", "shell:*1 >>*=deny", "--json", votes=3))
    assert ran.status == 0
    (line,) = (the_run(tmp_path) / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["score"]["evidence"]["steps"] == "2"
    assert (
        '[[approval]]\ntool = "shell"\npattern = "*1 >>*"\naction = "deny"'
        in (the_run(tmp_path) / "experiment.toml").read_text()
    )


def test_a_run_that_asks_cannot_be_resumed_without_a_terminal(
    terminal: Callable[..., Terminal], trellis: Callable[..., Any], tmp_path: Path
) -> None:
    at = terminal(*asker("--approve", "shell=ask", votes=1))
    at.answer("q")
    at.finish()
    assert "no terminal to ask on" in trellis("resume", str(the_run(tmp_path))).complaint


# --- rules in files and flags ----------------------------------------------------------------------------------------

FILE = """
benchmarks = ["{sums}:Sums:world"]

[environment]
kind = "local"

[[agents]]
scaffold = "{sums}:Asker"
model = "{sums}:Adder"

[[approval]]
tool = "shell"
pattern = "*rm -rf*"
action = "{action}"
reason = "nothing is removed here"
"""


def test_rules_stand_in_an_experiment_and_survive_being_written(tmp_path: Path) -> None:
    path = tmp_path / "e.toml"
    path.write_text(FILE.format(sums=SUMS, action="deny"))
    experiment = read(path)
    (rule,) = experiment.approval
    assert (rule.tool, rule.pattern, rule.action, rule.reason) == (
        "shell", "*rm -rf*", "deny", "nothing is removed here",
    )  # fmt: skip
    path.write_text(experiment.to_toml())
    assert read(path).approval == experiment.approval


def test_flags_come_before_the_rules_of_a_file(trellis: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "asked.toml"
    path.write_text(FILE.format(sums=SUMS, action="deny"))
    assert trellis("run", str(path), "--approve", "*:a=b=allow", "--limit", "1", "--json").status == 0
    rules = read(the_run(tmp_path) / "experiment.toml").approval
    assert [(rule.tool, rule.pattern, rule.action) for rule in rules] == [
        ("*", "a=b", "allow"), ("shell", "*rm -rf*", "deny"),
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", ["shell", "shell=maybe", "shell:x", "=", ""])
def test_a_wrong_flag_is_one_line(trellis: Callable[..., Any], wrong: str) -> None:
    assert trellis(*asker("--approve", wrong)).complaint == (
        f"trellis: --approve {wrong}: write TOOL=ACTION or TOOL:PATTERN=ACTION, with allow, deny or ask at the end"
    )


def test_a_wrong_rule_in_a_file_is_one_line(trellis: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "e.toml"
    path.write_text(FILE.format(sums=SUMS, action="maybe"))
    assert trellis("run", str(path)).complaint == (
        f"trellis: {path}, line 14: approval.0.action: Input should be 'allow', 'deny' or 'ask'"
    )
    path.write_text(FILE.format(sums=SUMS, action="ask").replace("reason", "because"))
    assert "line 15: approval.0.because: no such setting (known: action, pattern, reason, tool)" in (
        trellis("run", str(path)).complaint
    )


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_a_call_can_neither_steer_the_terminal_nor_pass_for_the_question() -> None:
    key = Key("b", "t\x1b[2J", "a", 1)
    evil = ToolCall("1", "shell\r\x1b[8m", {"command": f"x\x1b[2K\r\u202e\n{QUESTION}y\n", "n": 1})
    shown = described(key, evil, "main", 200)
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert "\u202e" not in shown
    assert f"\n  | {QUESTION}y" in shown
    assert "\n  n:\n  | 1" in shown


def test_a_long_argument_is_cut_with_a_notice_and_arguments_that_are_none_are_shown() -> None:
    key = Key("b", "t", "a", 1)
    assert "[... 30,000 characters are not shown ...]" in described(
        key, ToolCall("1", "f", {"x": "y" * 50_000}), "main", 200_000
    )
    assert '  | {"x": ' in described(key, ToolCall("1", "f", {}, malformed='{"x": '), "main", 80)


@pytest.mark.parametrize("filling", ["x", "\N{CJK UNIFIED IDEOGRAPH-65E5}", "\t"])
def test_a_long_line_does_not_leave_its_margin(filling: str) -> None:
    """A terminal goes on at its edge, where only a question stands."""
    long = filling * 300 + QUESTION
    shown = described(Key("b", "t", "a", 1), ToolCall("1", "f" + long, {long: long, "n": "\n\n"}), "main", 40)
    for line in shown.split("\n")[2:]:
        assert line.startswith("  ")
        assert cell_len(line) <= 40
        assert "\t" not in line
    pieces = re.findall(r"^  \| (.*)", shown, re.MULTILINE)
    assert "".join(pieces).rstrip() == long.expandtabs().rstrip()
    assert shown.endswith("\n  n:\n  | \n  | \n  | ")


def test_lines_are_as_long_as_the_terminal_is_wide(terminal: Callable[..., Terminal]) -> None:
    at = terminal(*asker("--approve", "shell=ask", votes=1), columns=16)
    assert "\r\n  | echo 0 >> st\r\n  | eps.txt\r\n" in at.answer("y")
    assert at.finish()[0] == 0
