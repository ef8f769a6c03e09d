"""The tree search end to end: real scripts in forks of a real world, and a model that says what the test tells it."""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from trellis.environments.environment import Environment, EnvironmentSpec
from trellis.models.messages import Message, Text, ToolCall
from trellis.models.model import GenerateConfig, Reply, ToolSpec
from trellis.models.scripted import Line, Scripted
from trellis.scaffolds.episode import Budget, Episode, Refused
from trellis.scaffolds.task import Submission, Task
from trellis.scaffolds.tree.search import Tree
from trellis.tools import catalog
from trellis.trajectories.log import read

SPEC = EnvironmentSpec(kind="local", setup="mkdir input && printf 'id,x,y\\n1,2,3\\n' > input/train.csv")
FACTS = {"kind": "ml", "submission": "submission/submission.csv", "lower_is_better": False}

Coder = Callable[[str, int], str]
"""The code that a model answers to a prompt, given the number of the call."""


def good(metric: float, extra: str = "") -> str:
    return (
        f"import os, time\n{extra}\nos.makedirs('submission', exist_ok=True)\n"
        f"open('submission/submission.csv', 'w').write('{metric}')\nprint('Validation metric: {metric}')"
    )


CRASH = "raise ValueError('no such luck')"


def answered(code: str, plan: str = "A plan.") -> str:
    return f"{plan}\n```python\n{code}\n```"


class Model:
    """Answers prompts with code, and reviews what it is shown as `review` says (by default: honestly)."""

    def __init__(self, codes: Sequence[str] | Coder, review: dict[str, Any] | None = None) -> None:
        self.codes, self.review = codes, review or {}
        self.prompts: list[str] = []

    def __call__(self, messages: Sequence[Message], tools: Sequence[ToolSpec], config: GenerateConfig) -> Line:
        prompt = messages[0].text
        if config.tool_choice != "submit_review":
            self.prompts.append(prompt)
            number = len(self.prompts) - 1
            return answered(
                self.codes(prompt, number) if callable(self.codes) else self.codes[number], f"Plan {number}."
            )
        output = prompt.split("# Execution output")[1]
        metric = re.search(r"Validation metric: ([-\d.]+)", output)
        said = {
            "is_bug": metric is None,
            "has_csv_submission": True,
            "summary": "As it says.",
            "metric": float(metric[1]) if metric else None,
            "lower_is_better": False,
        }
        return ToolCall("r", "submit_review", said | self.review)


async def collect(environment: Environment | None, answer: str) -> Submission:
    assert environment is not None
    try:
        return Submission(answer, {"submission.csv": await environment.read_file("submission/submission.csv")})
    except FileNotFoundError:
        return Submission(answer)


@asynccontextmanager
async def episode(
    folder: Path, model: Scripted, budget: Budget, facts: dict[str, Any] = FACTS
) -> AsyncIterator[Episode]:
    async with Episode.open(
        folder,
        task=Task("t", (Text("Predict y."),), environment=SPEC, facts=facts),
        tools=catalog.make(["shell", "python"]),
        models={"main": model},
        seed=7,
        budget=budget,
        collect=collect,
        label=f"test/{folder.name}",
        environment=SPEC,
        header={"episode": "e1"},
    ) as opened:
        yield opened


async def search(
    folder: Path, tree: Tree, model: Callable[..., Line], steps: int | None = None, facts: dict[str, Any] = FACTS
) -> tuple[Submission, list[dict[str, Any]]]:
    """Run a search; what it handed in, and its nodes as noted."""
    async with episode(folder, Scripted([model] * 200), Budget(steps=steps), facts) as opened:
        await tree.solve(opened)
        submission = await opened.finish()
        assert steps is None or opened.steps <= steps
    return submission, nodes(folder)


def nodes(folder: Path) -> list[dict[str, Any]]:
    return [event["data"] for event in read(folder / "trajectory.jsonl") if event["kind"] == "note.node"]


async def test_drafts_then_debugs_and_improves_and_hands_in_the_best(tmp_path: Path) -> None:
    model = Model([good(0.5), CRASH, good(0.7), good(0.6)])
    submission, found = await search(tmp_path, Tree(num_drafts=2, debug_prob=1, max_nodes=4), model)

    assert [(n["stage"], n["parent"], n["metric"]) for n in found] == [
        ("draft", None, 0.5),
        ("draft", None, None),
        ("debug", 1, 0.7),
        ("improve", 2, 0.6),
    ]
    assert submission.files["submission.csv"] == b"0.7"
    assert [n["best"] for n in found] == [True, False, True, False]

    drafted, debugging, improving = model.prompts[1], model.prompts[2], model.prompts[3]
    assert "Validation Metric: 0.5" in drafted
    assert "input/train.csv has 1 rows and 3 columns" in drafted
    assert "no such luck" in debugging
    assert CRASH in debugging
    assert "# Memory" not in debugging
    assert "Validation metric: 0.7" in improving
    assert "# Data Overview" not in improving
    assert "./submission/submission.csv" in improving


async def test_a_single_draft_is_one_node_and_two_steps(tmp_path: Path) -> None:
    submission, found = await search(tmp_path, Tree(num_drafts=1, max_nodes=1), Model([good(1)]), steps=9)
    assert [n["metric"] for n in found] == [1.0]  # a whole number is a metric
    assert submission.files["submission.csv"] == b"1"


async def test_nodes_do_not_see_each_others_files(tmp_path: Path) -> None:
    marked = good(0.1, "assert not os.path.exists('mark') and not os.path.exists('submission'); open('mark', 'w')")
    _, found = await search(tmp_path, Tree(max_nodes=3, parallel=2), Model(lambda prompt, number: marked))
    assert [n["is_buggy"] for n in found] == [False] * 3


async def test_parallel_nodes_are_committed_in_the_order_in_which_they_were_chosen(tmp_path: Path) -> None:
    def code(prompt: str, number: int) -> str:
        # What is written depends on the prompt alone; the earlier of two nodes takes longer.
        value = len(re.findall("Validation Metric", prompt))
        return good(value / 10, f"time.sleep({0.2 if number % 2 == 0 else 0})")

    trees = []
    for name in ("one", "two"):
        tree = Tree(num_drafts=3, max_nodes=6, parallel=2)
        _, found = await search(tmp_path / name, tree, Model(code))
        trees.append([{k: v for k, v in n.items() if k not in ("exec_time_s", "plan")} for n in found])
    assert trees[0] == trees[1]
    assert [n["id"] for n in trees[0]] == list(range(6))
    assert [n["stage"] for n in trees[0]] == ["draft", "draft", "draft", "improve", "improve", "improve"]


@pytest.mark.parametrize("steps", [1, 2, 5, 9])
async def test_a_batch_never_takes_more_steps_than_are_left(tmp_path: Path, steps: int) -> None:
    _, found = await search(tmp_path, Tree(parallel=4), Model(lambda prompt, number: good(0.5)), steps=steps)
    assert len(found) == steps // 2


@pytest.mark.parametrize(
    ("code", "review"),
    [
        pytest.param("print('Validation metric: 0.9')", {}, id="no file was written"),
        pytest.param(good(0.9) + "\nraise SystemExit(3)", {"is_bug": False}, id="the exit code tells"),
        pytest.param(good(0.9), {"metric": "0.9"}, id="a metric that is no number"),
        pytest.param(good(0.9), {"metric": None}, id="no metric"),
        pytest.param(good(0.9) + "\ntime.sleep(60)", {"is_bug": False}, id="the time was up"),
    ],
)
async def test_facts_overrule_the_review(tmp_path: Path, code: str, review: dict[str, Any]) -> None:
    tree = Tree(num_drafts=1, max_nodes=1, exec_timeout_s=2)
    submission, found = await search(tmp_path, tree, Model([code], review))
    assert [(n["is_buggy"], n["metric"]) for n in found] == [(True, None)]
    assert submission.empty


async def test_the_task_states_the_direction(tmp_path: Path) -> None:
    facts = {**FACTS, "lower_is_better": True}
    model = Model([good(0.5), good(0.9), good(0.2)], review={"lower_is_better": False})
    submission, _ = await search(tmp_path, Tree(num_drafts=3, max_nodes=3), model, facts=facts)
    assert submission.files["submission.csv"] == b"0.2"


async def test_otherwise_the_first_good_review_fixes_it(tmp_path: Path) -> None:
    facts = {key: value for key, value in FACTS.items() if key != "lower_is_better"}
    says = iter([True, True, False])

    def contradicting(messages: Sequence[Message], tools: Sequence[ToolSpec], config: GenerateConfig) -> Line:
        line = base(messages, tools, config)
        if isinstance(line, ToolCall):
            return ToolCall("r", line.name, {**line.arguments, "lower_is_better": next(says)})
        return line

    base = Model([CRASH, good(0.5), good(0.9)])
    submission, found = await search(tmp_path, Tree(num_drafts=3, max_nodes=3), contradicting, facts=facts)
    assert submission.files["submission.csv"] == b"0.5"
    assert found[-1]["lower_is_better"] is True


async def test_a_review_can_be_had_without_a_model(tmp_path: Path) -> None:
    tree = Tree(num_drafts=1, max_nodes=2, review="output")
    submission, found = await search(tmp_path, tree, Model([good(0.5), CRASH]), steps=2)
    assert [n["metric"] for n in found] == [0.5, None]
    assert found[1]["analysis"] == "The run failed: ValueError: no such luck"
    assert submission.files["submission.csv"] == b"0.5"


async def test_three_unusable_answers_are_taken_as_code(tmp_path: Path) -> None:
    async with episode(tmp_path, model := Scripted(["no code"] * 3), Budget()) as opened:
        await Tree(num_drafts=1, max_nodes=1, review="output").solve(opened)
    model.assert_complete()
    assert [(n["plan"], n["is_buggy"]) for n in nodes(tmp_path)] == [("", True)]


async def test_a_refusal_ends_the_search(tmp_path: Path) -> None:
    refusal = Reply(Message("assistant", (Text("I will not."),)), "refusal")
    async with episode(tmp_path, Scripted([refusal]), Budget()) as opened:
        with pytest.raises(Refused, match="I will not"):
            await Tree(max_nodes=1).solve(opened)


async def test_a_search_without_end_is_refused(tmp_path: Path) -> None:
    async with episode(tmp_path, Scripted([]), Budget()) as opened:
        with pytest.raises(ValueError, match="without end"):
            await Tree().solve(opened)


async def test_a_search_without_its_tools_is_refused(tmp_path: Path) -> None:
    async with episode(tmp_path, Scripted([]), Budget(steps=4)) as opened:
        opened.tools = catalog.make(["shell", "submit"])
        with pytest.raises(ValueError, match="not on offer here: python"):
            await Tree().solve(opened)


async def test_a_recorded_search_needs_neither_model_nor_world(tmp_path: Path) -> None:
    tree = Tree(num_drafts=2, debug_prob=1, max_nodes=4, parallel=2)
    first, found = await search(tmp_path, tree, Model([good(0.5), CRASH, good(0.7), good(0.6)]))
    async with episode(tmp_path, Scripted([]), Budget()) as opened:
        await tree.solve(opened)
        again = await opened.finish()
    assert again == first
    assert nodes(tmp_path) == found
