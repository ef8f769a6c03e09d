"""Steps, expectations and observations that stand in a bug report in a form that a machine can read.

Requests (`POST /path {json}`, alone in backticks or as `> POST ...` in a block, with `< 201` for an answer), then
"Expected: ..." and "Actual: ..." with fragments of JSON, statuses, dates or quoted texts. Prose is not understood: a
report whose steps are told in prose gives no scenario, or one that does not show what was seen, and is dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Any

_REQUEST = re.compile(r"\b(GET|POST|PUT|PATCH|DELETE) (/[^\s`]*)(?: (\{.*\}|\[.*\]))?\s*$")
_CODE = re.compile(r"`([^`\n]+)`")
_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
_STATUS = re.compile(r"\bstatus (\d{3})\b")
_DAY = re.compile(r"(?<![\w/=-])\d{4}-\d{2}(?:-\d{2})?(?![\w-])")
_QUOTED = re.compile(r"(?<![\w`:{,\[(])\"([^\"`\n]{2,60})\"")
_EXPECTED = re.compile(r"^[*_# ]*expected\b[^:\n]*:[*_]*", re.IGNORECASE | re.MULTILINE)
_ACTUAL = re.compile(r"^[*_# ]*(?:actual(?:ly)?|instead|got|observed)\b[^:\n]*:[*_]*", re.IGNORECASE | re.MULTILINE)
_SHOULD = re.compile(
    r"`(GET /[^`]+)` should (?:list|contain|show|have|give|return) ([^\n]+?)(?:\.\s|\.?$)", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Step:
    method: str
    path: str
    body: Any = None
    status: int | None = None
    """The answer's status as the report has it."""
    checked: bool = False
    """Is what comes back to be compared with what is expected?"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an answer must look like."""

    status: int | None = None
    json: tuple[dict[str, Any], ...] = ()
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.status or self.json or self.has)


@dataclass(frozen=True, slots=True)
class Scenario:
    steps: tuple[Step, ...]
    expected: Wanted
    actual: Wanted = field(default_factory=Wanted)

    def to_json(self) -> dict[str, Any]:
        return {
            "steps": [asdict(step) for step in self.steps],
            "expected": asdict(self.expected) if self.expected else None,
            "actual": asdict(self.actual) if self.actual else None,
        }


def scenarios(report: str) -> list[Scenario]:
    """What the report tells to do, expects and has seen; empty where it tells nothing that can be done."""
    found = []
    expected = _EXPECTED.search(report)
    if expected is not None:
        rest = report[expected.end() :]
        actual = _ACTUAL.search(rest)
        wanted = _wanted(rest[: actual.start()] if actual else _paragraph(rest))
        seen = _wanted(_paragraph(rest[actual.end() :])) if actual else Wanted()
        steps = _steps(report[: expected.start()]) or _page(_paragraph(rest))
        if steps and wanted:
            wanted = replace(wanted, lacks=tuple(w for w in seen.has if not any(w in good for good in wanted.has)))
            own = {step.path for step in steps}
            found.append(Scenario(steps, _without(wanted, own), _without(seen, own)))
    for request, what in _SHOULD.findall(report):
        steps, wanted = _steps(f"`{request}`"), _wanted(what)
        if steps and wanted:
            found.append(Scenario(steps, wanted))
    return [scenario for scenario in found if not any("{" in step.path for step in scenario.steps)]


def reproduction(found: Sequence[Scenario], fixture: str) -> str:
    """The pytest file that plays them."""
    listed = json.dumps([scenario.to_json() for scenario in found])
    return f"{_source()}\n\nFIXTURE = {fixture!r}\nSCENARIOS = json.loads({listed!r})\n"


def confirmed(found: Sequence[Scenario], failed: Collection[str]) -> list[Scenario]:
    """The scenarios which show the bug, to judge by the names of the tests that failed: what is expected does not come,
    and what was seen comes, if that is told. Only the expectations are kept; of the other scenarios nothing, so that
    the tests keep their numbers."""

    def shows(number: int) -> bool:
        return any(t.endswith(f"::test_expected[{number}]") for t in failed) and not any(
            t.endswith(f"::test_actual[{number}]") for t in failed
        )

    return [replace(s, expected=s.expected if shows(i) else Wanted(), actual=Wanted()) for i, s in enumerate(found)]


@cache
def _source() -> str:
    return resources.files("trellis.models.offline").joinpath("repair_scenario.py").read_text("utf-8")


# --- reading ---------------------------------------------------------------------------------------------------------


def _steps(text: str) -> tuple[Step, ...]:
    """The requests in a text. Those of its last line that has any are the ones that are looked at."""
    steps, groups = list[Step](), list[int]()
    blocks = {line for block in _BLOCK.findall(text) for line in block.splitlines()}
    for number, line in enumerate(text.splitlines()):
        if line in blocks and (answer := re.fullmatch(r"<\s*(\d{3})\b.*", line)) and steps:
            steps[-1] = replace(steps[-1], status=int(answer[1]))
        pieces = [line.removeprefix(">").strip()] if line in blocks else _CODE.findall(line)
        for piece in pieces:
            if request := _REQUEST.match(piece):
                steps.append(Step(request[1], request[2], _json(request[3] or "null")))
                groups.append(number)
    return tuple(replace(step, checked=group == groups[-1]) for step, group in zip(steps, groups, strict=True))


def _page(text: str) -> tuple[Step, ...]:
    """The page that an expectation is about: a path in backticks at its beginning."""
    about = re.match(r"\s*(?:that )?`(/[^\s`]*)`", text)
    return (Step("GET", about[1], checked=True),) if about else ()


def _wanted(text: str) -> Wanted:
    status, fragments, words = None, list[dict[str, Any]](), list[str]()
    if found := _STATUS.search(text):
        status = int(found[1])
    for piece in _CODE.findall(text):
        if re.fullmatch(r"\d{3}", piece) or re.fullmatch(r"\d{3} \{.*\}", piece):
            status = status or int(piece[:3])
            piece = piece[3:].strip()
        value = _json(piece) if piece.startswith("{") else _json("{" + piece + "}") if piece.startswith('"') else None
        if isinstance(value, dict):
            fragments.append(value)
        elif piece.startswith("/"):
            words.append(piece)
    prose = _CODE.sub(" ", text)
    words += _QUOTED.findall(prose) + _DAY.findall(prose)
    return Wanted(status, _joined(fragments), tuple(dict.fromkeys(words)))


def _joined(fragments: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Single members belong to one object; whole objects stay apart."""
    single = {key: value for fragment in fragments if len(fragment) == 1 for key, value in fragment.items()}
    return (*([single] if single else []), *(fragment for fragment in fragments if len(fragment) > 1))


def _without(wanted: Wanted, paths: set[str]) -> Wanted:
    """The path that was asked for is not what the answer must have."""
    return replace(wanted, has=tuple(word for word in wanted.has if word not in paths))


def _paragraph(text: str) -> str:
    return text.strip().partition("\n\n")[0]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
