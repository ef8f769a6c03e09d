"""`offline/tabular` with tools: look at the files, write scripts while they get better, hand in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trellis.models.messages import Message, ToolCall, ToolResult
from trellis.models.offline.tabular_coder import Coder, design_of
from trellis.models.offline.tabular_designs import Attempt
from trellis.models.offline.tabular_prompts import failure, last_metric
from trellis.models.offline.tabular_reading import Reading, read

LOOK = """\
find . -name '*.csv' -not -path './.*' | sort | head -n 20
for file in $(find . -name '*.csv' -not -path './.*' | sort | head -n 20); do echo; head -v -n 4 "$file"; done"""
GIVE_UP_AFTER = 4
"""Failures in a row after which another design is tried."""

Act = tuple[str, str, Mapping[str, Any]]
"""A thought, a tool's name (empty for none) and its arguments."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script that was run, as the conversation shows it."""

    code: str
    output: str
    metric: float | None
    """None if the run failed, or saved its predictions elsewhere than it should."""


def act(messages: Sequence[Message], tools: set[str], coder: Coder, *, patience: int, max_scripts: int) -> Act:
    """What to do next, given all that was said and done so far."""
    task = "\n\n".join(message.text for message in messages if message.role in ("system", "user"))
    shown, ran = _history(messages)
    reading = read(task, shown)
    scripts = [s if reading.submission in s.code else replace(s, metric=None) for s in ran]
    runner = "python" if "python" in tools else "shell"
    if runner not in tools:
        return "I can only work on tables with a tool that runs scripts.", "", {}
    if not shown and not scripts and "shell" in tools:
        return "First a look at the data.", "shell", {"command": LOOK}
    if "train" not in reading.tables and "train" not in task and not scripts:
        return _hand_in(tools, "There is no table to learn from here, and that is all I can do.")
    thought, code = _next(scripts, reading, coder, patience, max_scripts)
    if not code:
        return _hand_in(tools, thought)
    return thought, runner, {"code": code, "fresh": True} if runner == "python" else {"command": _heredoc(code)}


def _next(
    scripts: Sequence[Script], reading: Reading, coder: Coder, patience: int, max_scripts: int
) -> tuple[str, str]:
    """A thought and the next script; no script when it is time to hand in."""
    best = _best(scripts, reading)
    tried = [Attempt(d, s.metric) for s in scripts if s.metric is not None and (d := design_of(s.code))]
    if len(scripts) >= max_scripts or (best is not None and _in_vain(scripts, best) >= patience):
        if best is None or scripts[-1].code == best.code:
            return "That is as good as it gets.", ""
        return "The best script once more, so that its predictions are the ones handed in.", best.code
    if scripts and scripts[-1].metric is None:
        if _failures(scripts) % GIVE_UP_AFTER:
            return coder.repair(scripts[-1].code, scripts[-1].output, reading)
        return coder.draft(reading, tried)
    return coder.improve(best.code, reading, tried) if best is not None else coder.draft(reading, tried)


def _history(messages: Sequence[Message]) -> tuple[str, list[Script]]:
    """What other commands showed, and the scripts that were run."""
    calls: dict[str, ToolCall] = {}
    shown, scripts = [], []
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolCall):
                calls[part.id] = part
            elif isinstance(part, ToolResult) and (call := calls.get(part.call_id)):
                code = _script_of(call)
                if code:
                    failed = part.is_error or failure(part.text)
                    scripts.append(Script(code, part.text, None if failed else last_metric(part.text)))
                else:
                    shown.append(part.text)
    return "\n\n".join(shown), scripts


def _script_of(call: ToolCall) -> str:
    if call.name == "python":
        return str(call.arguments.get("code", ""))
    command = str(call.arguments.get("command", ""))
    return command.partition(_HEREDOC)[2].rpartition("\nEOF\n")[0] if command.startswith(_HEREDOC) else ""


_HEREDOC = "cat > solution.py <<'EOF'\n"


def _heredoc(code: str) -> str:
    return f"{_HEREDOC}{code.rstrip()}\nEOF\npython3 solution.py"


def _best(scripts: Sequence[Script], reading: Reading) -> Script | None:
    """The script with the best metric; of equals, the earliest."""
    done = [script for script in scripts if script.metric is not None]
    sign = -1 if reading.metric.lower_is_better else 1
    return max(done, key=lambda script: sign * (script.metric or 0.0), default=None)


def _in_vain(scripts: Sequence[Script], best: Script) -> int:
    """Scripts that ran since the best one without beating it."""
    return sum(script.metric is not None for script in scripts[list(scripts).index(best) + 1 :])


def _failures(scripts: Sequence[Script]) -> int:
    count = 0
    for script in reversed(scripts):
        if script.metric is not None:
            break
        count += 1
    return count


def _hand_in(tools: set[str], thought: str) -> Act:
    return thought, "submit" if "submit" in tools else "", {}
