"""What is different between two requests, for people to read: message by message, tool by tool, setting by setting."""

from __future__ import annotations

import difflib
import json
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from trellis.models.messages import Media, Message, Part, Reasoning, Text, ToolCall, ToolResult, message_to_json
from trellis.models.model import ToolSpec
from trellis.trajectories.redaction import Redaction
from trellis.trajectories.source import Asked, Request

How = Literal["changed", "added", "removed", "moved"]

_WIDTH = 120
"""Longer lines are broken before they are compared, so that a word changed in a long paragraph stands out."""
_PARAGRAPH = 50_000
"""A line that is longer than this is no text: it is broken anywhere, which is fast."""
_WRAP = textwrap.TextWrapper(
    _WIDTH, drop_whitespace=False, replace_whitespace=False, expand_tabs=False, break_on_hyphens=False
)
_UNSET = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was."""

    what: str
    """ "message 3, user", "tool shell: description", "setting temperature"."""
    how: How
    lines: tuple[str, ...] = ()
    """A unified diff: lines begin with "-" (was), "+" (is), " " or "@@"."""


def differences(was: Asked, now: Asked) -> list[Difference]:
    """Everything in which two requests of the same kind differ, in reading order."""
    if isinstance(was, Request) and isinstance(now, Request):
        return [
            *_value("role", was.role, now.role),
            *_messages(was.messages, now.messages),
            *_tools(was.tools, now.tools),
            *_members("setting ", was.config, now.config),
        ]
    assert not isinstance(was, Request)
    assert not isinstance(now, Request)
    found = list(_members("", _flat(was), _flat(now)))
    return sorted(found, key=lambda each: each.how == "removed")  # what another call has of its own comes last


def shown(asked: Asked) -> list[str]:
    """A request by itself: what it says last to a model, or its members."""
    if isinstance(asked, Request):
        return [f"{asked.messages[-1].role}:", *_lines(text_of(asked.messages[-1]))] if asked.messages else []
    return [line for name, value in _flat(asked).items() for line in _named(name, value)]


def text_of(message: Message) -> str:
    """A message as text: what is said, the calls with their arguments, the results; of media what they are."""
    return "\n".join(map(_part, message.parts))


# --- messages ---


def _messages(was: Sequence[Message], now: Sequence[Message]) -> Iterator[Difference]:
    keys = _Keys()
    before, after = [keys(message) for message in was], [keys(message) for message in now]
    start = _common(before, after)
    end = _common(before[start:][::-1], after[start:][::-1])
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    gone: list[int] = []
    come: list[int] = []
    changed: list[tuple[int, int]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        pairs = [(i, j) for i, j in zip(range(a, b), range(c, d), strict=False)]
        same_role = [(i, j) for i, j in pairs if was[start + i].role == now[start + j].role]
        changed += same_role
        gone += sorted(set(range(a, b)) - {i for i, _ in same_role})
        come += sorted(set(range(c, d)) - {j for _, j in same_role})
    found: list[tuple[int, Difference]] = []
    left = defaultdict[str, list[int]](list)
    for i in gone:
        left[old[i]].append(i)
    for j in come[:]:
        if left[new[j]]:
            gone.remove(i := left[new[j]].pop(0))
            come.remove(j)
            name = _name(now, start + j)
            found.append((j, Difference(f"{name} (it was message {start + i + 1} of {len(was)})", "moved")))
    for i, j in changed:
        found.append((j, Difference(_name(now, start + j), "changed", _changed(was[start + i], now[start + j]))))
    for j in come:
        lines = tuple(f"+{line}" for line in _lines(text_of(now[start + j])))
        found.append((j, Difference(_name(now, start + j), "added", lines)))
    for i in gone:
        lines = tuple(f"-{line}" for line in _lines(text_of(was[start + i])))
        found.append((i, Difference(f"{_name(was, start + i)} as recorded", "removed", lines)))
    for _, difference in sorted(found, key=lambda each: each[0]):
        yield difference


class _Keys:
    """What makes two messages the same: all that a log holds of them."""

    def __init__(self) -> None:
        self._redact = Redaction()

    def __call__(self, message: Message) -> str:
        return self._redact(json.dumps(_content(message)))


def _content(message: Message) -> dict[str, Any]:
    return message_to_json(message, lambda data: sha256(data).hexdigest())


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _name(messages: Sequence[Message], index: int) -> str:
    return f"message {index + 1} of {len(messages)}, {messages[index].role}"


def _changed(was: Message, now: Message) -> tuple[str, ...]:
    told = _diff(text_of(was), text_of(now))
    return told or _diff(_json(_content(was)), _json(_content(now)))


def _part(part: Part) -> str:
    match part:
        case Text(text):
            return text
        case Reasoning(text):
            return f"[reasoning]\n{text}"
        case Media(data, media_type):
            return f"[{media_type}, {len(data):,} bytes, {sha256(data).hexdigest()[:12]}]"
        case ToolCall():
            arguments = part.malformed or "\n".join(
                line for name, value in part.arguments.items() for line in _named(name, value)
            )
            return f"[call of {part.name}, {part.id}]\n{arguments}"
        case ToolResult():
            error = ", an error" if part.is_error else ""
            return "\n".join([f"[result of {part.name}, {part.call_id}{error}]", *map(_part, part.parts)])
    raise AssertionError(part)


# --- tools, settings, arguments ---


def _tools(was: Sequence[ToolSpec], now: Sequence[ToolSpec]) -> Iterator[Difference]:
    before, after = {spec.name: spec for spec in was}, {spec.name: spec for spec in now}
    for name, spec in before.items():
        if name not in after:
            yield Difference(f"tool {name}", "removed", tuple(f"-{line}" for line in _lines(spec.description)))
    for name, spec in after.items():
        if name not in before:
            yield Difference(f"tool {name}", "added", tuple(f"+{line}" for line in _lines(spec.description)))
            continue
        yield from _value(f"tool {name}: description", before[name].description, spec.description)
        yield from _value(f"tool {name}: schema", before[name].parameters, spec.parameters)
    if before.keys() == after.keys() and list(before) != list(after):
        yield Difference("order of the tools", "changed", (f"-{', '.join(before)}", f"+{', '.join(after)}"))


def _members(prefix: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    for name in dict.fromkeys((*was, *now)):
        yield from _value(f"{prefix}{name}", was.get(name, _UNSET), now.get(name, _UNSET))


def _value(what: str, was: Any, now: Any) -> Iterator[Difference]:
    if now is _UNSET:
        yield Difference(what, "removed", tuple(f"-{line}" for line in _lines(_shown(was))))
    elif was is _UNSET:
        yield Difference(what, "added", tuple(f"+{line}" for line in _lines(_shown(now))))
    elif _json(was) != _json(now):
        yield Difference(what, "changed", _diff(_shown(was), _shown(now)) or _diff(_json(was), _json(now)))


def _flat(request: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a request, of a tool call its arguments beside the others."""
    if request.get("kind") != "tool_call":
        return dict(request)
    arguments = {f"argument {name}": value for name, value in request["arguments"].items()}
    return {"tool": request["name"], **arguments, "call": request["id"], **_malformed(request)}


def _malformed(request: Mapping[str, Any]) -> dict[str, Any]:
    return {"malformed": request["malformed"]} if request.get("malformed") else {}


def _named(name: str, value: Any) -> list[str]:
    lines = _lines(_shown(value))
    return [f"{name}: {lines[0]}"] if len(lines) == 1 else [f"{name}:", *(f"  {line}" for line in lines)]


# --- text ---


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True, default=dict)


def _lines(text: str) -> list[str]:
    return [piece for line in text.split("\n") for piece in _broken(line)]


def _broken(line: str) -> list[str]:
    if len(line) <= _WIDTH:
        return [line]
    if len(line) <= _PARAGRAPH:
        return _WRAP.wrap(line)
    return [line[start : start + _WIDTH] for start in range(0, len(line), _WIDTH)]


def _diff(was: str, now: str) -> tuple[str, ...]:
    """Empty where they are the same."""
    old, new = _lines(was), _lines(now)
    lines = list(difflib.unified_diff(old, new, n=2, lineterm=""))[2:]
    return tuple(lines[1:] if len(old) == len(new) == 1 else lines)
