"""Durability of an episode that asks models only: what is recorded is never asked again."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from trellis.environments.environment import Environment
from trellis.models.messages import Message, ToolCall, assistant, user
from trellis.models.model import GenerateConfig, Reply, ToolSpec, Usage
from trellis.scaffolds.episode import Budget, Episode, LimitReached
from trellis.scaffolds.react import ReAct
from trellis.scaffolds.task import Submission, Task
from trellis.trajectories.log import LogError, read
from trellis.trajectories.source import ReplayMismatch

TASK = Task("q1", (user("What is 6 x 7?").parts[0],), environment=None, tools=())


class Echo:
    """Answers with the number of messages, the seed it was given and how often it was asked; fails on demand."""

    name = "test/echo"

    def __init__(self, fail_at: int = -1) -> None:
        self.asked = 0
        self.fail_at = fail_at

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        if self.asked == self.fail_at:
            raise ConnectionError("the provider went away")
        self.asked += 1
        return Reply(assistant(f"{len(messages)} {config.seed}"), usage=Usage(input=10, output=2), cost_usd=0.5)


async def collect(environment: Environment | None, answer: str) -> Submission:
    return Submission(answer)


@asynccontextmanager
async def episode(folder: Path, model: Any, budget: Budget | None = None, name: str = "e1") -> AsyncIterator[Episode]:
    async with Episode.open(
        folder,
        task=TASK,
        tools=(),
        models={"main": model, "judge": model},
        seed=1,
        budget=budget or Budget(),
        collect=collect,
        label="test/e1",
        environment=None,
        header={"episode": name},
    ) as opened:
        yield opened


async def converse(opened: Episode, turns: int) -> list[str]:
    messages = [user("hello")]
    for _ in range(turns):
        messages += [(await opened.generate(messages)).message, user("go on")]
    opened.note("end", turns=turns)
    return [message.text for message in messages]


async def test_what_is_recorded_is_not_asked_again(tmp_path: Path) -> None:
    async with episode(tmp_path / "whole", Echo()) as opened:
        whole = await converse(opened, 6)

    broken = Echo(fail_at=3)
    with pytest.raises(ConnectionError):
        async with episode(tmp_path / "cut", broken) as opened:
            await converse(opened, 6)
    again = Echo()
    budget = Budget()
    async with episode(tmp_path / "cut", again, budget) as opened:
        assert opened.resumed
        assert await converse(opened, 6) == whole
    assert broken.asked + again.asked == 6
    assert (budget.spent_steps, budget.spent_usage.total, budget.spent_cost_usd) == (6, 72, 3.0)

    silent = Echo(fail_at=0)
    async with episode(tmp_path / "cut", silent) as opened:
        assert await converse(opened, 6) == whole
    kinds = [event["kind"] for event in read(tmp_path / "cut" / "trajectory.jsonl")]
    assert kinds.count("note.end") == 1
    assert kinds.count("generate.done") == 6


async def test_branches_answer_from_their_own_recordings_in_whatever_order(tmp_path: Path) -> None:
    async def work(opened: Episode, order: Sequence[str]) -> dict[str, str]:
        said = {}
        for name in order:
            async with opened.branch(name) as branch:
                said[name] = (await branch.generate([user(name)])).text + str(branch.random.random())
        return said

    async with episode(tmp_path, Echo()) as opened:
        first = await work(opened, ["a", "b", "c"])
    assert len(set(first.values())) == 3
    async with episode(tmp_path, Echo(fail_at=0)) as opened:
        assert await work(opened, ["c", "a", "b"]) == first


async def test_a_branch_name_is_used_once(tmp_path: Path) -> None:
    async with episode(tmp_path, Echo()) as opened:
        async with opened.branch("a"):
            pass
        with pytest.raises(ValueError, match="main/a"):
            async with opened.branch("a"):
                pass


async def test_a_program_that_asks_for_something_else_is_stopped(tmp_path: Path) -> None:
    async with episode(tmp_path, Echo()) as opened:
        await converse(opened, 2)
    async with episode(tmp_path, Echo()) as opened:
        with pytest.raises(ReplayMismatch, match="branch main"):
            await opened.generate([user("something else")])


async def test_a_log_of_another_episode_is_refused(tmp_path: Path) -> None:
    async with episode(tmp_path, Echo()):
        pass
    with pytest.raises(LogError, match="belongs to e1, not to e2"):
        async with episode(tmp_path, Echo(), name="e2"):
            pass


async def test_messages_are_written_once_so_the_log_grows_with_the_work(tmp_path: Path) -> None:
    sizes = []
    for turns in (50, 100, 200):
        async with episode(tmp_path / str(turns), Echo()) as opened:
            await converse(opened, turns)
        sizes.append((tmp_path / str(turns) / "trajectory.jsonl").stat().st_size)
    assert sizes[1] / sizes[0] < 2.1
    assert sizes[2] / sizes[1] < 2.1


async def test_history_edits_are_recorded_and_resumed(tmp_path: Path) -> None:
    async def work(opened: Episode) -> str:
        messages = [user("a"), user("b"), user("c")]
        await opened.generate(messages)
        del messages[1]
        messages.append(user("d"))
        return (await opened.generate(messages)).text

    async with episode(tmp_path, Echo()) as opened:
        first = await work(opened)
    begun = [event for event in read(tmp_path / "trajectory.jsonl") if event["kind"] == "generate.begun"]
    assert [(event["keep"], len(event["messages"])) for event in begun] == [(0, 3), (1, 2)]
    async with episode(tmp_path, Echo(fail_at=0)) as opened:
        assert await work(opened) == first


@pytest.mark.parametrize(
    ("budget", "limit"),
    [(Budget(steps=3), "steps"), (Budget(tokens=30), "tokens"), (Budget(cost_usd=1.5), "cost_usd")],
)
async def test_a_spent_budget_stops_the_loop_before_the_next_call(tmp_path: Path, budget: Budget, limit: str) -> None:
    model = Echo()
    async with episode(tmp_path, model, budget) as opened:
        with pytest.raises(LimitReached) as reached:
            await converse(opened, 10)
    assert reached.value.limit == limit
    assert model.asked == 3


async def test_time_spent_before_a_crash_counts_after_it(tmp_path: Path) -> None:
    async with episode(tmp_path, Echo()) as opened:
        await opened.generate([user("a")])
        spent = opened.budget.worked_s
    async with episode(tmp_path, Echo(), Budget(time_s=1e-9)) as opened:
        await opened.generate([user("a")])
        assert opened.budget.worked_s >= spent * 0.9
        with pytest.raises(LimitReached, match="time_s"):
            await opened.generate([user("b")])


async def test_react_answers_a_question_with_its_text(tmp_path: Path) -> None:
    async with episode(tmp_path, Echo()) as opened:
        await ReAct().solve(opened)
        assert opened.submitted is not None
        assert opened.submitted.answer.startswith("2 ")
        assert await opened.finish() == opened.submitted


async def test_a_tool_call_in_a_task_without_tools_is_the_models_mistake(tmp_path: Path) -> None:
    async with episode(tmp_path, Echo()) as opened:
        result = await opened.act(ToolCall("1", "shell", {"command": "ls"}))
        assert result.is_error
        assert "no tool 'shell'" in result.text


async def test_the_judge_is_recorded_and_not_on_the_agents_budget(tmp_path: Path) -> None:
    async with episode(tmp_path, Echo(), Budget(steps=1)) as opened:
        await opened.generate([user("a")])
        verdict = await opened.judge([user("is it right?")])
        assert opened.steps == 1
        assert opened.usage.total == 12
    async with episode(tmp_path, Echo(fail_at=0)) as opened:
        await opened.generate([user("a")])
        assert await opened.judge([user("is it right?")]) == verdict


async def test_now_is_recorded(tmp_path: Path) -> None:
    async with episode(tmp_path, Echo()) as opened:
        first = [opened.now(), opened.now()]
    async with episode(tmp_path, Echo()) as opened:
        assert [opened.now(), opened.now()] == first
