"""Steps of a trajectory as lines for a terminal. What a model, a tool or a scaffold wrote is made visible, stands
behind a margin and is wrapped to the width, so that it cannot pass for our own words."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from trellis.models.messages import Media, Message, Part, Reasoning, Text, ToolCall, ToolResult
from trellis.models.model import Usage
from trellis.models.terminal import behind
from trellis.runs import text
from trellis.runs.overview import Overview
from trellis.tools.clip import clip
from trellis.trajectories.files import Files
from trellis.trajectories.trajectory import Act, Note, Step

CLIPPED_CHARS = 1_200
"""Of one text, unless it is shown whole."""
NOTE_CHARS = 400
"""Likewise, of a note."""
_PIECE_CHARS = 2_000
"""How much of one line is made fit to be shown at a time: `behind` leaves out the middle of what is very long."""
_NAMED_FILES = 6
REPLY, THOUGHT, RESULT, GIVEN = "  │ ", "  ┆ ", "    │ ", "  « "
CALL, MORE, DIFF = "    → ", "    ⋮ ", "    ╎ "
"""Margins of what others wrote."""


@dataclass(frozen=True)
class Look:
    """How much is shown, and how wide."""

    columns: int
    whole: bool = False
    """No text is clipped."""
    files: Files | None = None
    """Where the differences of changed files are to be shown."""
    given: bool = False
    """What was sent to the model is shown as well."""


def quoted(margin: str, said: str, look: Look, *, first: str = "", limit: int = CLIPPED_CHARS) -> Iterator[str]:
    """The lines of a text behind a margin; `first` stands in its place on the first line."""
    shown = said if look.whole else clip(said, limit)
    room = look.columns - max(len(first), len(margin))
    begin = first or margin
    for line in shown.rstrip("\n").split("\n"):
        for start in range(0, max(1, len(line)), _PIECE_CHARS):
            for piece in behind("", line[start : start + _PIECE_CHARS], room):
                yield begin + piece
                begin = margin


def say(lines: Iterable[str]) -> None:
    """Print lines, with their colours on a terminal unless NO_COLOR is set."""
    colour = False if os.environ.get("NO_COLOR") else None
    for line in lines:
        click.echo(line, color=colour)


def head(about: Overview) -> list[str]:
    """Which episode it was, what became of it, and where it lies."""
    return [
        click.style(text.line(about.name), bold=True),
        text.line(f"{about.ended} · {about.totals}"),
        text.line(_short(about.path)),
    ]


def lines_of(step: Step, look: Look, conversation: Sequence[Message] | None = None) -> Iterator[str]:
    """A step. `conversation` stands for what it was given."""
    yield click.style(title(step), bold=True)
    if conversation is not None or look.given:
        for message in step.given if conversation is None else conversation:
            yield from _message(message, look)
    if step.reply is None:
        why = f"(the conversation was too long: {step.overflow})" if step.overflow else "(cut off)"
        yield from quoted(REPLY, why, look)
    else:
        for part in step.reply.message.parts:
            yield from _part(part, look)
        if step.reply.stop_reason in ("length", "refusal"):
            yield f"  ({step.reply.stop_reason})"
    calls = {act.call.id for act in step.acts}
    for call in step.reply.tool_calls if step.reply else ():
        if call.id not in calls:
            yield from _call(call, look)
            yield "    (not made)"
    yield from happenings(step.acts, step.notes, look)


def happenings(acts: Sequence[Act], notes: Sequence[Note], look: Look) -> Iterator[str]:
    """Tool calls and what else happened, in order."""
    both: list[Act | Note] = [*acts, *notes]
    for each in sorted(both, key=lambda each: each.seq):
        yield from _act(each, look) if isinstance(each, Act) else _note(each, look)


def title(step: Step) -> str:
    """ "step 3 · main:3 · openai/gpt-5 · 1.2k in, 56 out · $0.0012 · 0.4 s"."""
    role = "" if step.role == "main" else f" as {step.role}"
    facts = [f"step {step.number}", f"{step.branch}:{step.turn}", f"{step.model}{role}"]
    if step.kind != "generate":
        facts.append(step.kind)
    if step.reply is not None:
        facts += [tokens(step.reply.usage), text.usd(step.reply.cost_usd), text.seconds(step.reply.latency_s)]
    return text.line(" · ".join(facts))


def tokens(usage: Usage) -> str:
    return f"{text.count(usage.total_input)} in, {text.count(usage.total_output)} out"


def call_text(call: ToolCall) -> str:
    """A tool call as people read it: what a model wrote as it is, all else as JSON."""
    if call.malformed:
        return f"{call.name}\n{call.malformed}"
    arguments = list(call.arguments.items())
    if len(arguments) == 1 and isinstance(arguments[0][1], str):
        return f"{call.name}: {arguments[0][1]}"
    return "\n".join([call.name, *(f"{name}: {_value(value)}" for name, value in arguments)])


def part_text(part: Part) -> str:
    """A part of a message in words."""
    match part:
        case Text(said) | Reasoning(said):
            return said
        case Media(data, media_type):
            return f"[{media_type}, {len(data):,} bytes]"
        case ToolCall():
            return call_text(part)
        case ToolResult(parts=parts):
            return "\n".join(map(part_text, parts))
    raise AssertionError(part)


def facts_of(act: Act) -> str:
    """ "exit 1 · 0.3 s"."""
    if act.result is None:
        return "cut off"
    data = act.result.data
    facts = [f"exit {data['exit_code']}"] if isinstance(data.get("exit_code"), int) else []
    if data.get("timed_out"):
        facts.append("timed out")
    if act.result.is_error:
        facts.append("error")
    if act.ended_at is not None:
        facts.append(text.seconds(act.ended_at - act.begun_at))
    return " · ".join(facts)


def named_files(act: Act, most: int = _NAMED_FILES) -> str:
    """ "a.py (added), b.py, c.py (deleted) and 3 more"."""
    more = len(act.changes[most:]) + act.more_changes
    named = ", ".join(
        text.line(str(change["path"]), 100) + ("" if change["kind"] == "modified" else f" ({change['kind']})")
        for change in act.changes[:most]
    )
    return f"{named} and {more} more" if more else named


def _short(path: Path) -> str:
    """From the current folder, where it lies below that."""
    whole = path.resolve()
    return str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else path)


def _message(message: Message, look: Look) -> Iterator[str]:
    for part in message.parts:
        who = "result" if isinstance(part, ToolResult) else message.role
        yield from quoted(GIVEN, part_text(part), look, first=f"{GIVEN}{who}: ")


def _part(part: Part, look: Look) -> Iterator[str]:
    """Calls of tools are shown where they are made."""
    if not isinstance(part, ToolCall) and (said := part_text(part)):
        yield from quoted(THOUGHT if isinstance(part, Reasoning) else REPLY, said, look)


def _call(call: ToolCall, look: Look) -> Iterator[str]:
    for line in quoted(MORE, call_text(call), look, first=CALL):
        yield click.style(line, fg="cyan")


def _act(act: Act, look: Look) -> Iterator[str]:
    yield from _call(act.call, look)
    if act.result is not None:
        for part in act.result.parts:
            yield from quoted(RESULT, part_text(part), look)
    if facts := facts_of(act):
        yield f"    ({facts})"
    if act.handed_in:
        yield from quoted(MORE, act.handed_in, look, first="    handed in: ")
    if act.changes:
        yield f"    changed: {named_files(act)}"
    if look.files is not None:
        for file in look.files.of(act):
            yield f"    {text.line(file.path)} ({file.kind}{', ' + file.said if file.said else ''})"
            if not file.said:
                yield from coloured(quoted(DIFF, file.hunks, look))


def coloured(lines: Iterable[str]) -> Iterator[str]:
    """The lines of a unified diff behind their margin."""
    for line in lines:
        mark = line[len(DIFF) : len(DIFF) + 1]
        yield click.style(line, fg="green" if mark == "+" else "red") if mark in ("+", "-") else line


def _note(note: Note, look: Look) -> Iterator[str]:
    yield from quoted(MORE, _value(note.data), look, first=f"  * {text.line(note.kind, 40)}: ", limit=NOTE_CHARS)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and set(value) == {"what", "answer"}:  # of a recorded effect
        return " → ".join(_value(value[name]) for name in ("what", "answer"))
    return json.dumps(value, ensure_ascii=False, default=str)
