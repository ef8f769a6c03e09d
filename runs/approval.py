"""Tool calls that somebody at the terminal must approve: one question at a time, whatever runs beside it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from trellis.models.messages import ToolCall
from trellis.models.terminal import at_terminal, behind, columns, forget_typed, read_line
from trellis.runs import text
from trellis.runs.errors import RunStopped, UsageError
from trellis.runs.results import Key
from trellis.scaffolds.approval import Approve, Decision, Policy, Rule

QUESTION = "allow it? [y] yes  [n REASON] no  [a] always, exactly this call  [q] stop the run: "


def need_terminal(rules: Sequence[Rule]) -> None:
    """Raises UsageError: a rule says ask, and there is no terminal to ask on."""
    for number, rule in enumerate(rules, 1):
        if rule.action == "ask" and not at_terminal():
            raise UsageError(
                f"approval rule {number} (tool {rule.tool!r}, pattern {rule.pattern!r}) says ask, and there is no "
                "terminal to ask on: run this in a terminal, or let the rule say allow or deny"
            )


class Approvals:
    """Who decides on the tool calls of a run's episodes."""

    def __init__(
        self,
        rules: Sequence[Rule],
        folder: Path,
        aside: Callable[[], AbstractContextManager[None]],
        turn: asyncio.Lock | None = None,
    ) -> None:
        """`folder` is the run's; what is always allowed is kept there. Within `aside()` nothing else is drawn, and who
        holds `turn` has the terminal."""
        self._rules = rules
        self._kept = folder / "always-allowed.txt"
        self._aside = aside
        self._always = set(self._kept.read_text("utf-8").split()) if self._kept.exists() else set()
        self._turn = turn or asyncio.Lock()
        self._stopped = False

    def of(self, episode: Key) -> Approve | None:
        """None where there are no rules: nothing is decided then, and nothing recorded."""
        return Policy(self._rules, partial(self._ask, episode)) if self._rules else None

    async def _ask(self, episode: Key, call: ToolCall, branch: str) -> Decision:
        """Raises RunStopped: the user stops the run."""
        async with self._turn:
            if self._stopped:
                raise RunStopped("stopped at a question of approval")
            name = _name(call)
            if name in self._always:
                return Decision(True, "always allowed", "user")
            with self._aside():
                word, reason = await _answer(described(episode, call, branch, columns()))
            if word == "q":
                self._stopped = True
                raise RunStopped("stopped at a question of approval")
            if word == "a":
                self._always.add(name)
                with self._kept.open("a", encoding="utf-8") as file:
                    file.write(f"{name}\n")
            return Decision(word != "n", reason, "user")


def described(episode: Key, call: ToolCall, branch: str, width: int) -> str:
    """What is asked about, on a terminal of so many columns. Whatever a model wrote is made visible and stands behind a
    margin, on every line: it can neither steer the terminal nor pass for the question."""
    where = f"{episode.agent} at {episode.benchmark} {episode.task}, epoch {episode.epoch}, branch {branch}"
    lines = ["", f"approval: {text.line(where)}", *behind("  ", text.line(call.name), width)]
    given = dict(call.arguments) or ({"(no JSON object)": call.malformed} if call.malformed else {})
    for name, value in given.items():
        plain = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
        lines += behind("  ", f"{text.line(str(name))}:", width)
        lines += behind("  | ", plain, width)
    return "\n".join(lines)


def _name(call: ToolCall) -> str:
    """Equal for equal calls only. A digest, for a call may hold what must not be kept."""
    content = json.dumps([call.name, dict(call.arguments), call.malformed], sort_keys=True)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


async def _answer(question: str) -> tuple[str, str]:
    """One of y, n, a, q, and what was written behind it. The end of the input stops the run."""
    print(question, file=sys.stderr)
    forget_typed()
    while True:
        line = await read_line(QUESTION)
        if line is None:
            return "q", ""
        word, _, rest = line.strip().partition(" ")
        if word.lower() in ("y", "yes", "n", "no", "a", "always", "q", "quit"):
            return word[0].lower(), rest.strip()
