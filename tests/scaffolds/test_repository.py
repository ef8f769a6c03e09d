"""The search over edited repositories: real bursts in forks of a real world."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from trellis.environments.environment import Environment, EnvironmentSpec
from trellis.models.messages import Message, Text, ToolCall
from trellis.models.model import GenerateConfig, Model, ToolSpec
from trellis.models.offline.repair import Repair
from trellis.models.scripted import Line, Scripted
from trellis.scaffolds.episode import Budget, Episode, LimitReached
from trellis.scaffolds.task import Submission, Task
from trellis.scaffolds.tree.repository import RepositoryTree
from trellis.tools import catalog
from trellis.trajectories.log import read

SETUP = """\
printf 'def fee(days):\\n    return days - 2\\n\\n\\ndef late(days):\\n    return days > 14\\n' > shop.py
mkdir tests && cat > tests/test_shop.py <<'END'
from shop import fee, late

def test_fee(): assert fee(3) == 6
def test_no_fee(): assert fee(0) == 0
def test_late(): assert not late(14)
def test_very_late(): assert late(15)
END
printf '__pycache__\\n.pytest_cache\\n' > .gitignore
git init -q && git add . && git -c user.name=t -c user.email=t@t commit -q -m start
"""
SPEC = EnvironmentSpec(kind="local", setup=SETUP, env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})
COMMAND = "python3 -m pytest -q tests"
PROMPT = f"Fees are wrong: they should be two for each day. The tests are run with `{COMMAND}`."
RIGHT, WORSE, HALF = "days * 2", "1 / 0", "days * 2 - 6 + 6 * (days > 0)"
"""Pass 4, 2 and 3 of the 4 tests; the untouched repository passes 2."""


async def collect(environment: Environment | None, answer: str) -> Submission:
    assert environment is not None
    return Submission(answer, {"shop.py": await environment.read_file("shop.py")})


@asynccontextmanager
async def episode(
    folder: Path, model: Model, budget: Budget | None = None, facts: Mapping[str, Any] | None = None
) -> AsyncIterator[Episode]:
    async with Episode.open(
        folder,
        task=Task("shop", (Text(PROMPT),), environment=SPEC, facts=facts or {"test_command": COMMAND}),
        tools=catalog.make(["shell", "edit", "python", "submit"]),
        models={"main": model},
        seed=3,
        budget=budget or Budget(),
        collect=collect,
        label=f"test/{folder.name}",
        environment=SPEC,
        header={"episode": "e1"},
    ) as opened:
        yield opened


class Coder:
    """Writes its next body of `fee` in one step and hands in in the next; remembers what it was told."""

    def __init__(self, *bodies: str) -> None:
        self.bodies = list(bodies)
        self.told: list[str] = []

    def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSpec], config: GenerateConfig) -> Line:
        if messages[-1].role == "tool":
            return ToolCall("s", "submit", {})
        self.told.append("\n".join(message.text for message in messages))
        body = self.bodies[len(self.told) - 1]
        return ToolCall(
            "e", "shell", {"command": f"cd /; sed -i 's|return days [-*].*|return {body}|' $OLDPWD/shop.py"}
        )


def scripted(say: Callable[..., Line]) -> Scripted:
    return Scripted([say] * 100)


def nodes(folder: Path) -> list[dict[str, Any]]:
    return [event["data"] for event in read(folder / "trajectory.jsonl") if event["kind"] == "note.node"]


async def test_drafts_then_goes_on_from_the_best_and_hands_it_in(tmp_path: Path) -> None:
    coder = Coder(HALF, "days - 2", RIGHT)
    async with episode(tmp_path, scripted(coder)) as opened:
        await RepositoryTree(max_nodes=5, debug_prob=0).solve(opened)
        submission = await opened.finish()
    found = nodes(tmp_path)
    assert [(n["stage"], n["parent"], n["metric"], n["is_buggy"]) for n in found] == [
        ("draft", None, 0.75, False),
        ("draft", None, None, True),  # it changed nothing
        ("improve", 0, 1.0, False),  # and no node can do better: the search ends
    ]
    assert b"return days * 2\n" in submission.files["shop.py"]
    assert "Attempt 1: 75% of the visible tests pass" in coder.told[1]
    assert "something different" in coder.told[1]
    assert f"+    return {HALF}" in coder.told[2]
    assert "Attempt 2: changed nothing." in coder.told[2]
    assert "test_no_fee" in coder.told[2]
    assert "test_fee" not in coder.told[0]


async def test_a_new_file_is_a_change(tmp_path: Path) -> None:
    decide = [ToolCall("d", "shell", {"command": "echo 1 > 'my decision'"}), ToolCall("s", "submit", {})]
    async with episode(tmp_path, Scripted([decide])) as opened:
        await RepositoryTree(max_nodes=1).solve(opened)
    assert [(n["is_buggy"], n["metric"]) for n in nodes(tmp_path)] == [(False, 0.5)]


async def test_what_a_worse_node_hands_in_does_not_count(tmp_path: Path) -> None:
    async with episode(tmp_path, scripted(Coder(HALF, WORSE))) as opened:
        await RepositoryTree(max_nodes=2).solve(opened)
        assert HALF.encode() in (await opened.finish()).files["shop.py"]
    assert [n["metric"] for n in nodes(tmp_path)] == [0.75, 0.5]


async def test_parallel_nodes_are_committed_in_order_and_told_of_nothing(tmp_path: Path) -> None:
    coder = Coder(WORSE, HALF)
    async with episode(tmp_path, scripted(coder)) as opened:
        await RepositoryTree(max_nodes=2, parallel=2).solve(opened)
        assert HALF.encode() in (await opened.finish()).files["shop.py"]
    assert [(n["id"], n["branch"]) for n in nodes(tmp_path)] == [(0, "main/node-0"), (1, "main/node-1")]
    assert not any("Attempt" in told for told in coder.told)


async def test_what_a_burst_achieved_before_the_budget_was_spent_is_handed_in(tmp_path: Path) -> None:
    async with episode(tmp_path, scripted(Coder(HALF, RIGHT)), Budget(steps=1)) as opened:
        with pytest.raises(LimitReached, match="steps"):
            await RepositoryTree().solve(opened)
        assert HALF.encode() in (await opened.finish()).files["shop.py"]


async def test_a_recorded_search_needs_neither_model_nor_world(tmp_path: Path) -> None:
    async def solve(model: Scripted) -> Submission:
        async with episode(tmp_path, model) as opened:
            await RepositoryTree(max_nodes=3, debug_prob=0).solve(opened)
            return await opened.finish()

    first = await solve(scripted(Coder(HALF, "days - 2", RIGHT)))
    assert await solve(Scripted([])) == first


async def test_the_offline_model_repairs_within_it(tmp_path: Path) -> None:
    async with episode(tmp_path, Repair(), Budget(steps=30)) as opened:
        await RepositoryTree().solve(opened)
        submission = await opened.finish()
    assert b"days * 2" in submission.files["shop.py"] or b"2 * days" in submission.files["shop.py"]


@pytest.mark.parametrize(
    ("facts", "budget", "line"),
    [({"kind": "repository"}, Budget(steps=5), "test_command"), ({"test_command": COMMAND}, Budget(), "without end")],
)
async def test_a_search_that_cannot_be_is_refused(
    tmp_path: Path, facts: dict[str, Any], budget: Budget, line: str
) -> None:
    async with episode(tmp_path, Scripted([]), budget, facts) as opened:
        with pytest.raises(ValueError, match=line):
            await RepositoryTree().solve(opened)
