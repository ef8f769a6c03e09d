"""Rules of approval, and what an episode makes of the decisions."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from trellis.environments.environment import Environment, EnvironmentSpec
from trellis.models.messages import Text, ToolCall
from trellis.scaffolds.approval import Approve, Decision, Policy, Rule, texts
from trellis.scaffolds.episode import Budget, Episode, LimitReached
from trellis.scaffolds.task import Submission, Task
from trellis.tools import catalog
from trellis.trajectories.log import read
from trellis.trajectories.source import ReplayMismatch

SPEC = EnvironmentSpec(kind="local")


class Person:
    """Somebody who is asked: answers in turn, and remembers what about."""

    def __init__(self, *answers: Decision, delay_s: float = 0.0) -> None:
        self._answers = list(answers)
        self._delay_s = delay_s
        self.asked: list[tuple[str, str]] = []

    async def __call__(self, call: ToolCall, branch: str) -> Decision:
        self.asked.append((branch, call.name))
        await asyncio.sleep(self._delay_s)
        return self._answers.pop(0)


YES, NO = Decision(True, by="user"), Decision(False, "too dear.", by="user")
ASK = Rule(tool="shell", action="ask")


async def collect(environment: Environment | None, answer: str) -> Submission:
    return Submission(answer)


@asynccontextmanager
async def episode(folder: Path, approve: Approve | None, budget: Budget | None = None) -> AsyncIterator[Episode]:
    async with Episode.open(
        folder,
        task=Task("t", (Text("do it"),), environment=SPEC),
        tools=catalog.make(["shell", "submit"]),
        models={},
        seed=1,
        budget=budget or Budget(),
        collect=collect,
        label="test/approval",
        environment=SPEC,
        header={"episode": "e1"},
        approve=approve,
    ) as opened:
        yield opened


def events(folder: Path, kind: str) -> list[Mapping[str, Any]]:
    return [event for event in read(folder / "trajectory.jsonl") if event["kind"] == kind]


# --- rules -----------------------------------------------------------------------------------------------------------


async def decided(rules: Sequence[Rule], name: str, arguments: Mapping[str, Any], malformed: str = "") -> Decision:
    return await Policy(rules)(ToolCall("1", name, arguments, malformed), "main")


async def test_the_first_rule_that_matches_counts_and_what_none_matches_is_allowed() -> None:
    rules = [
        Rule(tool="shell", pattern="*--dry-run*", action="allow"),
        Rule(tool="shell", pattern="*rm -rf*", action="deny", reason="nothing is removed"),
        Rule(tool="mcp_*", action="deny"),
    ]
    assert await decided(rules, "shell", {"command": "rm -rf /x --dry-run"}) == Decision(True, "", "rule", 1)
    assert await decided(rules, "shell", {"command": "cd x &&\nrm -rf y\n"}) == Decision(
        False, "nothing is removed", "rule", 2
    )
    assert await decided(rules, "shell", {"command": "ls"}) == Decision(True)
    assert await decided(rules, "python", {"code": "rm -rf"}) == Decision(True)
    assert (await decided(rules, "mcp_mail", {})).allowed is False


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("*", True),
        ("ls", True),
        ("l", False),
        ("deep", True),
        ("120", True),
        ("true", True),
        ("null", True),
        ("1[0-9]0", True),
        ("command", False),
        ("LS", False),
        ("*ls*deep*", False),
    ],
)
async def test_a_pattern_is_matched_against_each_text_of_the_arguments(pattern: str, matches: bool) -> None:
    call = {"command": "ls", "more": [{"x": "deep"}], "timeout_s": 120, "flag": True, "none": None}
    assert (await decided([Rule(pattern=pattern, action="deny")], "any", call)).allowed is not matches


async def test_arguments_that_are_no_json_are_matched_as_they_were_written() -> None:
    rules = [Rule(pattern='*"rm -rf*', action="deny")]
    assert not (await decided(rules, "shell", {}, malformed='{"command": "rm -rf /')).allowed
    assert list(texts(ToolCall("1", "shell", {}))) == []


@pytest.mark.parametrize("wrong", [{"action": "maybe"}, {"action": "ask", "tools": "x"}, {"action": "ask", "tool": ""}])
def test_a_wrong_rule_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Rule.model_validate(wrong)


# --- in an episode ---------------------------------------------------------------------------------------------------


async def test_a_denied_call_is_told_and_never_reaches_the_world(tmp_path: Path) -> None:
    rules = [Rule(tool="shell", pattern="touch*", action="deny", reason="this repository is read-only")]
    async with episode(tmp_path, Policy(rules)) as opened:
        denied = await opened.use("shell", command="touch file")
        assert denied.is_error
        assert denied.text == (
            "this call is not allowed here: this repository is read-only. Nothing was done: find another way, or go on "
            "without it."
        )
        assert (await opened.use("shell", command="ls -A")).text == "(no output)"
    first, second = (event["answer"] for event in events(tmp_path, "approval.done"))
    assert (first["allowed"], first["by"], first["rule"]) == (False, "rule", 1)
    assert (second["allowed"], second["by"], second["rule"]) == (True, "default", None)
    assert len(events(tmp_path, "act.done")) == 2


async def test_an_episode_of_denied_calls_starts_no_world(tmp_path: Path) -> None:
    async with episode(tmp_path, Policy([Rule(action="deny")])) as opened:
        await opened.use("shell", command="touch file")
        await opened.use("submit", answer="42")
        assert opened.submitted is None
        assert not opened._world.touched
        assert opened._world._environment is None


async def test_nothing_is_recorded_where_nothing_decides(tmp_path: Path) -> None:
    async with episode(tmp_path, None) as opened:
        await opened.use("shell", command="ls")
    assert not events(tmp_path, "approval.begun")


async def test_nobody_is_asked_twice_and_what_was_denied_is_not_done_when_the_world_is_rebuilt(tmp_path: Path) -> None:
    person = Person(YES, NO, YES)

    async def work(opened: Episode) -> list[str]:
        return [
            (await opened.use("shell", command="echo one >> f")).text,
            (await opened.use("shell", command="echo two >> f")).text,
        ]

    async with episode(tmp_path, Policy([ASK], person)) as opened:
        said = await work(opened)
    assert said[1].startswith("the user declined this call: too dear. Nothing was done")
    async with episode(tmp_path, Policy([ASK], person)) as opened:
        assert await work(opened) == said
        assert len(person.asked) == 2
        assert (await opened.use("shell", command="cat f")).text == "one"
    assert person.asked == [("main", "shell")] * 3
    assert not events(tmp_path, "divergence")


async def test_a_decision_without_its_act_is_not_asked_again(tmp_path: Path) -> None:
    person = Person(NO)
    async with episode(tmp_path, Policy([ASK], person)) as opened:
        said = await opened.use("shell", command="echo")
    log = tmp_path / "trajectory.jsonl"
    log.write_text("".join(f"{line}\n" for line in log.read_text().splitlines() if '"act.' not in line))
    lines = log.read_text().splitlines()
    assert any('"approval.done"' in line for line in lines)
    async with episode(tmp_path, Policy([ASK], person)) as opened:
        assert (await opened.use("shell", command="echo")).text == said.text
    assert len(person.asked) == 1


async def test_a_question_that_was_cut_off_is_asked_again(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        async with episode(tmp_path, Policy([ASK], Person(YES, delay_s=60))) as opened, asyncio.timeout(0.1):
            await opened.use("shell", command="echo hi")
    person = Person(YES)
    async with episode(tmp_path, Policy([ASK], person)) as opened:
        assert (await opened.use("shell", command="echo hi")).text == "hi"
    assert len(person.asked) == 1


async def test_another_call_than_the_one_that_was_asked_about_is_a_mismatch(tmp_path: Path) -> None:
    async with episode(tmp_path, Policy([ASK], Person(YES))) as opened:
        await opened.use("shell", command="echo one")
    with pytest.raises(ReplayMismatch):
        async with episode(tmp_path, Policy([ASK], Person(YES))) as opened:
            await opened.use("shell", command="echo two")


async def test_branches_are_asked_about_by_name(tmp_path: Path) -> None:
    person = Person(YES, NO)
    async with episode(tmp_path, Policy([ASK], person)) as opened:
        await opened.use("shell", command="echo one > f")
        async with opened.branch("twig") as twig:
            assert (await twig.use("shell", command="cat f")).is_error
    assert person.asked == [("main", "shell"), ("main/twig", "shell")]


async def test_waiting_is_not_the_agents_time_also_after_a_resume(tmp_path: Path) -> None:
    person = Person(YES, YES, delay_s=0.5)
    budget = Budget(time_s=100.0)
    async with episode(tmp_path, Policy([ASK], person), budget) as opened:

        async def ask(name: str) -> None:
            async with opened.branch(name) as branch:
                await branch.use("shell", command="echo")

        await asyncio.gather(ask("a"), ask("b"))
        assert 0.5 <= budget.waited_s < 0.95, "two that wait at the same time wait once"
        assert budget.worked_s < budget.clock() - 0.5 + 0.01
        waited = budget.waited_s
    again = Budget(time_s=100.0)
    async with episode(tmp_path, Policy([ASK], person), again) as opened:
        await ask("a")
        await ask("b")
        assert again.waited_s == pytest.approx(waited, abs=1e-5)


async def test_time_stands_still_while_somebody_is_asked(tmp_path: Path) -> None:
    budget, person = Budget(time_s=100.0), Person(YES, delay_s=0.4)
    async with episode(tmp_path, Policy([ASK], person), budget) as opened:
        asking = asyncio.create_task(opened.use("shell", command="echo"))
        while not person.asked:
            await asyncio.sleep(0.01)
        before = budget.worked_s
        await asyncio.sleep(0.2)
        assert not asking.done()
        assert budget.worked_s == pytest.approx(before, abs=0.01)
        await asking


async def test_a_spent_budget_asks_nobody(tmp_path: Path) -> None:
    person = Person()
    async with episode(tmp_path, Policy([ASK], person), Budget(time_s=0.001)) as opened:
        await asyncio.sleep(0.01)
        with pytest.raises(LimitReached):
            await opened.use("shell", command="echo")
    assert not person.asked


async def test_a_rule_that_asks_nobody_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rule 1 says ask"):
        await decided([Rule(action="ask")], "shell", {})
