"""The plans of `offline/repair`: programs that say what to do next and are told what came of it.

A plan is a generator of turns; the results of a turn's tool calls are sent back into it. It knows nothing but what it
was told, so running it over a recorded conversation always leads to the same next turn.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, TypeAlias

from trellis.models.offline.repair_localise import Candidate, Evidence, rank
from trellis.models.offline.repair_order import Survey, Tests, attempt_script, read_attempts, read_survey, survey_script
from trellis.models.offline.repair_prompt import Choice, Request
from trellis.models.offline.repair_proposals import choose
from trellis.models.offline.repair_report import confirmed, reproduction, scenarios
from trellis.models.offline.repair_source import Mutation, Source

READ_AT_ONCE_CHARS = 10_000
READ_MOST_CHARS = 400_000
GUESSES = 20
"""Candidates shown to the tests where none of them fails and the report alone decides."""
ROUNDS = 3
"""How many edits are kept one on top of the other while they help."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is tried."""

    batch: int
    """Candidate edits tried by one tool call."""
    batches: int
    """Batches tried before giving up, in each round."""
    spread: float
    """Noise on the ranking (standard deviation of the logarithm); more when the prompt asks for something different."""


@dataclass(frozen=True, slots=True)
class Act:
    tool: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """What is said, and the tools that are used."""

    says: str
    acts: tuple[Act, ...] = ()


Plan: TypeAlias = Generator[Turn, list[str], None]


def shell(command: str) -> Act:
    return Act("shell", {"command": command})


def python(code: str) -> Act:
    return Act("python", {"code": code, "fresh": True})


SUBMIT = Act("submit", {})


@dataclass(frozen=True, slots=True)
class Fix:
    """An edit, and the tests that still fail with it."""

    mutation: Mutation
    failing: frozenset[str]


@dataclass(frozen=True, slots=True)
class Scene:
    """What looking at the repository has brought to light."""

    tests: Tests
    survey: Survey
    files: dict[str, Source]


def repair(request: Request, effort: Effort, random: Random) -> Plan:
    """Look, rank, try, keep what helps, hand in."""
    scene = yield from _look(request)
    if scene is None:
        yield Turn("The tests cannot be run or there is no Python code to repair: I hand in nothing.", (SUBMIT,))
        return
    for _ in range(0 if request.continues and not scene.survey.failed else ROUNDS):
        fix = yield from _search(request, scene, effort, random)
        if fix is None:
            break
        yield _apply(scene.files[fix.mutation.path], fix)
        if not fix.failing:
            break
        scene = yield from _again(scene, fix)
    yield Turn("The whole visible suite, once more.", (shell(f"PYTHONDONTWRITEBYTECODE=1 {request.test_command}"),))
    yield Turn("This is as far as I can take it.", (SUBMIT,))


# --- looking ---------------------------------------------------------------------------------------------------------

_LIST = "(git ls-files '*.py' || find . -name '*.py' | sed 's|^./||' | sort) 2> /dev/null | xargs -r wc -lc"
_LINE = re.compile(r"^\s*(\d+)\t(.*)$", re.MULTILINE)
_CLIENTS = (
    r"""grep -rhoE '\b\w+\.(get|post|put|patch|delete)\(f?["'"'"']/' --include='*.py' . """
    r"""| sed 's/\..*//' | sort | uniq -c | sort -rn | head -3; """
    r"""grep -rhA2 'pytest.fixture' --include='*.py' . | grep -oE 'def \w+'"""
)


def _look(request: Request) -> Generator[Turn, list[str], Scene | None]:
    visible = Tests(request.test_command)
    acts = (shell(_LIST), shell(_CLIENTS), python(survey_script(visible)))
    listing, clients, seen = yield Turn("First the repository and its tests.", acts)
    pieces, told = _pieces(listing), scenarios(request.report)
    where, fixture = _test_folder(listing), _client_fixture(clients)
    extra = f"{where}test_reproduction_of_report.py"
    reproduced = Tests(request.test_command, extra, reproduction(told, fixture)) if told and fixture else None
    reading = tuple(Act("edit", {"command": "view", "path": p, "view_range": [a, b]}) for p, a, b in pieces)
    if not reading:
        return None
    if reproduced is None:
        texts = yield Turn("Now the code.", reading)
    else:
        says = "Now the code, and what the report says, as a test."
        texts = yield Turn(says, (*reading, python(survey_script(reproduced))))
    files, survey = _sources(pieces, texts), read_survey(seen)
    if survey is None or not files:
        return None
    if reproduced is not None and (shown := read_survey(texts[-1])) is not None:
        kept = confirmed(told, shown.failed)
        showing = {t: how for i, s in enumerate(kept) if s.expected for t, how in shown.failed.items() if _names(t, i)}
        if showing:
            tests = Tests(request.test_command, extra, reproduction(kept, fixture))
            return Scene(tests, replace(shown, failed={**survey.failed, **showing}), files)
    return Scene(visible, survey, files)


def _names(test: str, number: int) -> bool:
    return test.endswith(f"::test_expected[{number}]")


def _again(scene: Scene, fix: Fix) -> Generator[Turn, list[str], Scene]:
    """The scene after an edit that helped and left tests failing."""
    mutation = fix.mutation
    source = scene.files[mutation.path]
    changed = Source.read(source.path, source.apply(mutation)) or source
    seen = yield Turn("That helps, and does not help all. Once more.", (python(survey_script(scene.tests)),))
    survey = read_survey(seen[0]) or replace(scene.survey, failed={})
    return Scene(scene.tests, survey, {**scene.files, source.path: changed})


def _sources(pieces: Sequence[tuple[str, int, int]], texts: Sequence[str]) -> dict[str, Source]:
    """The files as they were shown, line by line; a file that was not shown whole is left out."""
    shown: dict[str, list[tuple[int, str]]] = {}
    ends = {path: last for path, _, last in pieces}
    for (path, _, _), text in zip(pieces, texts, strict=False):
        shown.setdefault(path, []).extend((int(number), line) for number, line in _LINE.findall(text))
    whole = {path: [line for _, line in lines] for path, lines in shown.items() if len(lines) == ends[path]}
    read = (Source.read(path, "".join(f"{line}\n" for line in lines)) for path, lines in whole.items())
    return {source.path: source for source in read if source is not None}


def _client_fixture(found: str) -> str:
    """The fixture through which the tests send requests: the name before `.get("/...")` that is a fixture."""
    fixtures = set(re.findall(r"^def (\w+)$", found, re.MULTILINE))
    senders = re.findall(r"^\s*\d+ (\w+)$", found, re.MULTILINE)
    return next((name for name in senders if name in fixtures), "")


def _test_folder(listing: str) -> str:
    tests = [path for path in re.findall(r"([\w./-]+\.py)\s*$", listing, re.MULTILINE) if _is_test(path)]
    nearest = min(tests, key=lambda path: (path.count("/"), not path.endswith("conftest.py"), path), default="")
    return nearest.rpartition("/")[0] + "/" if "/" in nearest else ""


def _pieces(listing: str) -> list[tuple[str, int, int]]:
    """The ranges of lines to be read of each file: code, not tests; small enough that no output is cut."""
    found, total = list[tuple[str, int, int]](), 0
    for line in listing.splitlines():
        match = re.fullmatch(r"\s*(\d+)\s+(\d+)\s+([\w./-]+\.py)", line)
        if match is None or _is_test(match[3]) or int(match[1]) == 0:
            continue
        lines, size = int(match[1]), int(match[2])
        total += size
        if total > READ_MOST_CHARS:
            break
        at_once = max(1, lines * READ_AT_ONCE_CHARS // max(size, 1))
        found += [(match[3], first, min(first + at_once - 1, lines)) for first in range(1, lines + 1, at_once)]
    return found


def _is_test(path: str) -> bool:
    *folders, name = path.split("/")
    return (
        name.startswith("test_") or name in ("conftest.py", "setup.py") or any("test" in folder for folder in folders)
    )


# --- trying ----------------------------------------------------------------------------------------------------------


def _search(request: Request, scene: Scene, effort: Effort, random: Random) -> Generator[Turn, list[str], Fix | None]:
    failing = frozenset(scene.survey.failed)
    evidence = Evidence(request.report, scene.survey.counts, len(failing), scene.survey.frames)
    spread = effort.spread * (3 if request.different else 1)
    ranked = _usable(rank(list(scene.files.values()), evidence, random, spread), scene.files, request)
    # A guess needs few candidates: the first to which no test objects is taken.
    size, batches = (effort.batch, effort.batches) if failing else (min(GUESSES, effort.batch), 1)
    ranked = itertools.islice(ranked, request.fruitless * size * batches, None)
    best: Fix | None = None
    for number in range(batches):
        batch = [c.mutation for c in itertools.islice(ranked, size)]
        if not batch:
            break
        script = attempt_script(scene.tests, [[m] for m in batch], failing)
        result = yield Turn(_reasoning(failing, number, batch), (python(script),))
        for mutation, still in zip(batch, read_attempts(result[0]), strict=False):
            if still is not None and _helps(still, failing) and (best is None or len(still) < len(best.failing)):
                best = Fix(mutation, still)
        if best is not None and not best.failing:
            break
    return best


def _helps(still: frozenset[str], failing: frozenset[str]) -> bool:
    """Fewer tests fail and no other ones; where none failed, none may."""
    return still < failing if failing else not still


def _reasoning(failing: frozenset[str], number: int, batch: Sequence[Mutation]) -> str:
    listed = "\n".join(f"- {m.path}:{m.line} {m.kind}" for m in batch[:5])
    if failing:
        return (
            f"Failing: {', '.join(sorted(failing))}. Batch {number + 1} of edits, the likeliest first:\n{listed}\n- ..."
        )
    return f"No test shows the bug: the likeliest edit that no test objects to will have to do.\n{listed}\n- ..."


def _usable(ranked: Sequence[Candidate], files: Mapping[str, Source], request: Request) -> Iterator[Candidate]:
    """Candidates that parse and that no earlier attempt has made."""
    for candidate in ranked:
        source = files[candidate.mutation.path]
        added = {line.strip() for line in candidate.mutation.after.splitlines() if line.strip()}
        added -= {line.strip() for line in source.before(candidate.mutation).splitlines()}
        if any(added and added <= lines for lines in request.tried):
            continue
        if Source.read(source.path, source.apply(candidate.mutation)) is not None:
            yield candidate


def _apply(source: Source, fix: Fix) -> Turn:
    """The edit as one exact replacement, with as many lines around it as make it unique."""
    mutation = fix.mutation
    first, last, lines = mutation.first, mutation.last, source.lines
    while source.text.count(old := "".join(lines[first - 1 : last])) > 1 and (first, last) != (1, len(lines)):
        first, last = max(1, first - 1), min(len(lines), last + 1)
    new = "".join(lines[first - 1 : mutation.first - 1]) + mutation.after + "".join(lines[mutation.last : last])
    arguments = {"command": "str_replace", "path": mutation.path, "old_str": old, "new_str": new}
    says = f"{mutation.path}, line {mutation.line}, {mutation.kind}: this is what I change."
    return Turn(says, (Act("edit", arguments),))


# --- choosing among proposals ----------------------------------------------------------------------------------------


def manage(choice: Choice) -> Plan:
    """Write down the proposal that reads best, and hand in."""
    chosen, reasons = choose(choice)
    decision = json.dumps({choice.key: chosen})
    act = Act("edit", {"command": "create", "path": choice.file, "file_text": decision + "\n"})
    yield Turn(f"Proposal {chosen}: {reasons}.", (act,))
    yield Turn("Decided.", (Act("submit", {"answer": str(chosen)}),))
