"""`offline/repair` in real worlds: small repositories with one bug each, repaired through the real tools."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trellis.environments.environment import Environment, EnvironmentSpec, Files
from trellis.models.messages import Message, Text, ToolCall, ToolResult, assistant, system, user
from trellis.models.model import GenerateConfig
from trellis.models.offline.repair import Repair
from trellis.models.offline.repair_kinds import KINDS
from trellis.models.offline.repair_localise import mutations, ochiai
from trellis.models.offline.repair_report import scenarios
from trellis.models.offline.repair_source import Source
from trellis.scaffolds.world import perform
from trellis.tools import catalog

LIBRARY = '''\
"""Loans of a small library."""

LOAN_DAYS = 14
FINE_CENTS_A_DAY = 20
MOST_LOANS = 3


class NotAllowed(Exception):
    pass


def due_day(start, renewals=0):
    """Each renewal adds another period."""
    return start + LOAN_DAYS * (1 + renewals)


def is_overdue(start, today):
    """A book may still be returned on its due day."""
    return today > due_day(start)


def fine(start, today):
    """What an overdue book costs, in cents."""
    days = today - due_day(start)
    if days <= 0:
        return 0
    return days * FINE_CENTS_A_DAY


def may_borrow(member, loans):
    """A member may have MOST_LOANS books and must not be blocked."""
    return len(loans) < MOST_LOANS and not member["blocked"]


def page(items, number, size):
    """The page `number`, counted from 1."""
    first = (number - 1) * size
    return items[first:first + size]


def search(books, words):
    """Books whose title has the words, whatever their case."""
    return [book for book in books if words.lower() in book["title"].lower()]


def newest(books, count):
    """The books added last, the newest first."""
    return sorted(books, key=lambda book: book["added"], reverse=True)[:count]


def label(book):
    """Author and title, as on the shelf."""
    return book["author"].strip() + ": " + book["title"].strip()


def by_author(books, author):
    """The books that somebody wrote."""
    return [book for book in books if book["author"].strip() == author]


def average_rating(ratings):
    """The mean of the ratings; None where there are none."""
    if not ratings:
        return None
    return sum(ratings) / len(ratings)
'''

TESTS = """\
import pytest
from library.loans import *

BOOKS = [{"title": t, "author": a, "added": n} for n, (t, a) in enumerate([("Emma", "Austen "), (" Ulysses", "Joyce")])]


def test_due():
    assert due_day(10) == 24
    assert due_day(10, 2) == 52


def test_overdue():
    assert not is_overdue(0, 14)
    assert is_overdue(0, 15)


def test_fine():
    assert [fine(0, day) for day in (3, 14, 15, 20)] == [0, 0, 20, 120]


def test_may_borrow():
    assert may_borrow({"blocked": False}, [1, 2])
    assert not may_borrow({"blocked": False}, [1, 2, 3])
    assert not may_borrow({"blocked": True}, [])


def test_page():
    assert page(list("abcdefg"), 1, 3) == list("abc")
    assert page(list("abcdefg"), 3, 3) == ["g"]


def test_search():
    assert [b["title"] for b in search(BOOKS, "EMMA")] == ["Emma"]
    assert search(BOOKS, "x") == []


def test_newest():
    assert [b["added"] for b in newest(BOOKS, 1)] == [1]


def test_label():
    assert [label(b) for b in BOOKS] == ["Austen: Emma", "Joyce: Ulysses"]


def test_by_author():
    assert by_author(BOOKS, "Austen") == BOOKS[:1]


def test_average():
    assert average_rating([1, 2]) == 1.5
    assert average_rating([]) is None
"""

PROMPT = """\
You work for a small library, whose software is the git repository in the current folder.

# {title}

{body}

Reward: $250. Fix the bug, then hand in with submit. The visible tests are run with `python3 -m pytest -q tests`.
"""


@dataclass(frozen=True)
class Bug:
    good: str
    bad: str
    title: str
    body: str = "It is in the title."


BUGS = {
    "operator": Bug("LOAN_DAYS * (1 + renewals)", "LOAN_DAYS * (1 - renewals)", "Renewing a book makes it due earlier"),
    "boundary": Bug("today > due_day(start)", "today >= due_day(start)", "Books count as overdue on their due day"),
    "constant": Bug("LOAN_DAYS = 14", "LOAN_DAYS = 13", "Due days are a day early"),
    "off by one": Bug("(number - 1) * size", "number * size", "The first page is missing from the list"),
    "negation": Bug('not member["blocked"]', 'member["blocked"]', "Blocked members can borrow"),
    "condition": Bug(" and not member", " or not member", "Members can borrow as much as they like"),
    "case": Bug("words.lower() in", "words in", "Search finds nothing in capital letters"),
    "order": Bug(", reverse=True)", ")", "The oldest books are listed as the newest"),
    "strip": Bug('book["author"].strip() +', 'book["author"] +', "Labels have a space before the colon"),
    "wrong key": Bug('book["author"].strip() +', 'book["title"].strip() +', "Labels show the title twice"),
    "swapped": Bug("today - due_day(start)", "due_day(start) - today", "Nobody ever pays a fine"),
    "name": Bug("days * FINE_CENTS_A_DAY", "today * FINE_CENTS_A_DAY", "Fines are far too high"),
    "guard": Bug("    if not ratings:\n        return None\n", "", "A book without ratings crashes"),
    "slice": Bug("items[first:first + size]", "items[first:size]", "Only the first page has books"),
}


def repository(folder: Path, bug: Bug, tests: str = TESTS) -> Path:
    (folder / "library").mkdir(parents=True)
    (folder / "tests").mkdir()
    assert LIBRARY.count(bug.good) == 1
    (folder / "library" / "__init__.py").touch()
    (folder / "library" / "loans.py").write_text(LIBRARY.replace(bug.good, bug.bad))
    (folder / "tests" / "test_loans.py").write_text(tests)
    for command in ("init -q", "add .", "-c user.name=t -c user.email=t@t commit -q -m start"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    return folder


@asynccontextmanager
async def world(source: Path) -> AsyncIterator[Environment]:
    variables = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    spec = EnvironmentSpec(kind="local", files=(Files(str(source), "."),), env=variables)
    environment = await spec.start(label="test/repair")
    try:
        yield environment
    finally:
        await environment.close()


async def converse(
    model: Repair, environment: Environment, opening: Sequence[Message], most_steps: int = 12, seed: int = 1
) -> list[Message]:
    tools = {tool.spec.name: tool for tool in catalog.make(["shell", "edit", "python", "submit"])}
    messages = list(opening)
    for step in range(most_steps):
        config = GenerateConfig(seed=seed + step)
        reply = await model.generate(messages, tools=[tool.spec for tool in tools.values()], config=config)
        messages.append(reply.message)
        for call in reply.tool_calls:
            messages.append((await perform(tools, call, environment))[0].message)
        if any(call.name == "submit" for call in reply.tool_calls):
            return messages
    raise AssertionError(f"not handed in after {most_steps} steps")


async def git(environment: Environment, command: str) -> str:
    return (await environment.exec(f"git {command}", timeout_s=60)).text.strip()


def task(bug: Bug, *more: str) -> list[Message]:
    return [system("You are an engineer."), user(PROMPT.format(title=bug.title, body=bug.body)), *map(user, more)]


def calls(messages: Sequence[Message]) -> list[ToolCall]:
    return [call for message in messages for call in message.tool_calls]


# --- repairing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUGS)
async def test_repairs_what_a_visible_test_shows(tmp_path: Path, name: str) -> None:
    async with world(repository(tmp_path, BUGS[name])) as environment:
        await converse(Repair(), environment, task(BUGS[name]))
        result = await environment.exec("python3 -m pytest -q -p no:cacheprovider tests", timeout_s=60)
        assert result.exit_code == 0, result.text
        assert await git(environment, "diff --name-only") == "library/loans.py"
        assert await git(environment, "status --porcelain") == "M library/loans.py"


async def test_follows_the_report_where_no_test_shows_the_bug(tmp_path: Path) -> None:
    bug = Bug(
        "return today > due_day(start)",
        "return today >= due_day(start)",
        "A book that is returned on its due day counts as overdue",
        "I brought it back exactly on the last day, the day it was due, and it was overdue already.",
    )
    tests = TESTS.replace("    assert not is_overdue(0, 14)\n", "")
    async with world(repository(tmp_path, bug, tests.replace("14, 15, 20)] == [0,", "15, 20)] == ["))) as environment:
        await converse(Repair(), environment, task(bug))
        assert await git(environment, "diff -U0") != ""
        assert bug.good in (await environment.read_file("library/loans.py")).decode()


SERVICE = '''\
"""A till that answers requests."""

import json


class Till:
    def __init__(self):
        self.sales = []

    def answer(self, method, path, body):
        if method == "POST" and path == "/sales":
            self.sales.append(body["cents"])
            return 201, {"id": len(self.sales)}
        if method == "GET" and path == "/total":
            return 200, {"total": self.total(), "count": len(self.sales)}
        if method == "GET" and path == "/mean":
            return 200, {"mean": self.total() / len(self.sales)}
        return 404, {"error": "nothing here"}

    def total(self):
        return sum(self.sales[1:])
'''

SERVICE_CLIENT = """\
import json

import pytest
from till import Till


class Answer:
    def __init__(self, status, data):
        self.status_code, self.text = status, json.dumps(data)


class Client:
    def __init__(self):
        self.till = Till()

    def get(self, path):
        return Answer(*self.till.answer("GET", path, None))

    def post(self, path, json=None):
        return Answer(*self.till.answer("POST", path, json))


@pytest.fixture
def client():
    return Client()
"""

SERVICE_TESTS = """\
def test_unknown(client):
    assert client.get("/").status_code == 404
"""

SERVICE_REPORT = """\
The day's total is too low.

1. `POST /sales {"cents": 250}`
2. `POST /sales {"cents": 100}`
3. `GET /total`

Expected: `"total": 350` and `"count": 2`

Actual: `"total": 100` and `"count": 2`
"""


def service(folder: Path) -> Path:
    (folder / "tests").mkdir(parents=True)
    (folder / "till.py").write_text(SERVICE)
    (folder / "tests" / "conftest.py").write_text(SERVICE_CLIENT)
    (folder / "tests" / "test_till.py").write_text(SERVICE_TESTS)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run(["git", "add", "."], cwd=folder, check=True)
    return folder


async def test_makes_a_test_of_the_requests_in_a_report(tmp_path: Path) -> None:
    async with world(service(tmp_path)) as environment:
        messages = await converse(Repair(), environment, task(Bug("", "", "Wrong total", SERVICE_REPORT)))
        assert "test_reproduction_of_report.py::test_expected[0]" in "".join(m.text for m in messages)
        check = "from till import Till; t = Till(); t.sales = [250, 100]; print(t.total())"
        assert (await environment.exec(["python3", "-c", check], timeout_s=60)).text == "350\n"
        assert await git(environment, "status --porcelain") == "A  tests/conftest.py\nA  tests/test_till.py\nAM till.py"


async def test_candidates_leave_no_trace(tmp_path: Path) -> None:
    """All tests fail for a reason that no edit helps: the files are as before, times included."""
    (tmp_path / "code.py").write_text("def f(x):\n    return x + 1\n")
    (tmp_path / "test_code.py").write_text("from code import f\n\ndef test_f():\n    assert f(1) == 'never'\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    async with world(tmp_path) as environment:
        before = (await environment.exec("stat -c '%n %Y %s' *.py; ls -A . | grep -v cache", timeout_s=60)).text
        opening = [user("`f` is wrong. Run `python3 -m pytest -q`.")]
        messages = await converse(Repair(batch=20, batches=2), environment, opening)
        assert (await environment.exec("stat -c '%n %Y %s' *.py; ls -A . | grep -v cache", timeout_s=60)).text == before
    assert not any(call.name == "edit" and call.arguments["command"] != "view" for call in calls(messages))


async def test_a_test_that_hangs_with_a_candidate_is_stopped() -> None:
    """In a fork with a deadline, of its own process group."""
    from trellis.models.offline import repair_world

    def hang() -> dict[str, Any]:
        time.sleep(60)
        return {}

    result = repair_world.in_fork(hang, timeout_s=0.3)
    assert result["error"] == "the tests did not end in time"


# --- a pure function of the conversation -----------------------------------------------------------------------------


async def test_a_recorded_conversation_always_gets_the_same_answers(tmp_path: Path) -> None:
    bug = BUGS["boundary"]
    async with world(repository(tmp_path, bug)) as environment:
        messages = await converse(Repair(), environment, task(bug))
    tools = [tool.spec for tool in catalog.make(["shell", "edit", "python", "submit"])]
    for i, message in enumerate(messages):
        if message.role == "assistant":
            # The seed of a later call does not matter: the conversation carries the first one.
            seed = 1 if i == 2 else 99
            again = await Repair().generate(messages[:i], tools=tools, config=GenerateConfig(seed=seed))
            assert again.message == message
            assert again.usage.input > 0
            assert again.cost_usd == 0.0


async def test_what_another_did_before_it_is_no_turn_of_its_plan() -> None:
    """A fork goes on from the calls of other models."""
    tools = [tool.spec for tool in catalog.make(["shell", "edit", "python", "submit"])]
    opening = task(BUGS["boundary"])
    theirs = ToolCall("call_1", "shell", {"command": "ls"})
    before = [assistant("Let me see.", theirs), ToolResult("call_1", "shell", (Text("library tests"),)).message]
    own, after = [
        await Repair().generate(messages, tools=tools, config=GenerateConfig(seed=1))
        for messages in (opening, [*opening, *before])
    ]
    assert [(call.name, call.arguments) for call in after.message.tool_calls] == [
        (call.name, call.arguments) for call in own.message.tool_calls
    ]


async def test_what_was_tried_is_not_tried_again(tmp_path: Path) -> None:
    bug = BUGS["boundary"]
    tried = (
        "Attempt 1: 90% of the visible tests pass.\n```diff\n-    return today >= due_day(start)\n"
        "+    return today > due_day(start)\n```\n\nTry something different from what was tried."
    )
    async with world(repository(tmp_path, bug)) as environment:
        await converse(Repair(), environment, task(bug, tried))
        assert bug.good not in (await environment.read_file("library/loans.py")).decode()


async def test_an_attempt_that_passes_all_tests_is_left_as_it_is(tmp_path: Path) -> None:
    bug = BUGS["boundary"]
    fixed = Bug(bug.good, bug.good, bug.title)
    history = "Attempt 1: 100% of the visible tests pass.\n```diff\n+    return today > due_day(start)\n```\n\nGo on."
    async with world(repository(tmp_path, fixed)) as environment:
        await converse(Repair(), environment, task(fixed, history))
        assert await git(environment, "status --porcelain") == ""


@pytest.mark.parametrize("text", ["What is the capital of France?", "Predict y from train.csv."])
async def test_hands_in_at_once_what_it_does_not_understand(text: str) -> None:
    tools = [tool.spec for tool in catalog.make(["shell", "submit"])]
    reply = await Repair().generate([user(text)], tools=tools, config=GenerateConfig(seed=1))
    assert [(call.name, dict(call.arguments)) for call in reply.tool_calls] == [("submit", {})]
    assert (await Repair().generate([user(text)])).stop_reason == "stop"


async def test_a_repository_without_python_is_handed_in_unchanged(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text("int main() { return 1; }\n")
    async with world(tmp_path) as environment:
        messages = await converse(Repair(), environment, [user("It returns 1. Tests: `python3 -m pytest -q`")])
    assert calls(messages)[-1].name == "submit"


# --- proposals -------------------------------------------------------------------------------------------------------

ISSUE = """\
The second page of the list shows the last entry of the first page again.

# Proposals

### Proposal 4
Hide the first row of each page in the browser for now.

### Proposal 7
**Root cause.** `page()` in `lists.py` begins at `number * size - 1`, so that each page but the first begins with the
last entry of the page before it. **Change.** Begin at `(number - 1) * size`. Tests for the first, second and last page.

### Proposal 9
Rewrite the list with endless scrolling.

# Your decision

Write `{"selected_proposal_id": <number>}` to the file `decision.json`, then hand in.
"""


async def test_chooses_a_proposal_and_writes_the_decision_down(tmp_path: Path) -> None:
    async with world(tmp_path) as environment:
        await converse(Repair(), environment, [user(ISSUE)], 2)
        assert json.loads(await environment.read_file("decision.json")) == {"selected_proposal_id": 7}


# --- its parts -------------------------------------------------------------------------------------------------------


def test_ochiai() -> None:
    # ef / sqrt((ef + nf) * (ef + ep)); here 2 of 2 failing tests and 6 passing ones: 2 / sqrt(2 * 8).
    assert ochiai(2, 6, 2) == 0.5
    assert ochiai(0, 3, 2) == 0.0
    assert ochiai(1, 0, 1) == 1.0


def test_reads_steps_and_expectations() -> None:
    [scenario] = scenarios(SERVICE_REPORT)
    assert [(s.method, s.path, s.body, s.checked) for s in scenario.steps] == [
        ("POST", "/sales", {"cents": 250}, False),
        ("POST", "/sales", {"cents": 100}, False),
        ("GET", "/total", None, True),
    ]
    assert scenario.expected.json == ({"total": 350, "count": 2},)
    assert scenario.actual.json == ({"total": 100, "count": 2},)


def test_reads_a_block_of_requests_and_a_status() -> None:
    report = '```http\n> POST /a {}\n< 201\n> GET /a\n```\n\nExpected: status 200, `{"b": 1}`\n\nActual: `500`\n'
    [scenario] = scenarios(report)
    assert [(s.method, s.status) for s in scenario.steps] == [("POST", 201), ("GET", None)]
    assert (scenario.expected.status, scenario.actual.status) == (200, 500)


@pytest.mark.parametrize(
    "prose", ["It is wrong.", "1. Open the page\n\nExpected: it works", "`GET /a/{id}`\n\nExpected: `404`\n"]
)
def test_prose_gives_no_scenario(prose: str) -> None:
    assert scenarios(prose) == []


def test_every_mutation_of_the_library_is_an_edit_of_it() -> None:
    source = Source.read("loans.py", LIBRARY)
    assert source is not None
    found = mutations((source,), frozenset({14}))
    parsed = [Source.read("loans.py", source.apply(m)) for m in found]
    assert sum(p is not None for p in parsed) > 0.95 * len(found)
    assert all(m.kind in KINDS for m in found)
    assert {m.kind for m in found} > {"boundary", "arithmetic", "number", "swapped arguments", "missing guard", "order"}


def test_text_that_is_not_ascii_is_edited_in_the_right_place() -> None:
    source = Source.read("m.py", 'def f(naïve, café):\n    return "é" * (naïve < café)\n')
    assert source is not None
    changed = {source.apply(m) for m in mutations((source,), frozenset()) if m.kind == "boundary"}
    assert changed == {'def f(naïve, café):\n    return "é" * (naïve <= café)\n'}
