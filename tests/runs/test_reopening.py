"""A trajectory says by itself which episode it was, and the episode can be had again from it."""

from pathlib import Path
from typing import Any

import pytest

from trellis.runs import experiment as experiments
from trellis.runs.errors import UsageError
from trellis.runs.plan import make_plan
from trellis.runs.reopening import reopen, settings_of
from trellis.scaffolds.tree.search import Tree

SETTINGS: dict[str, Any] = {
    "name": "mine",
    "epochs": 3,
    "seed": 5,
    "benchmarks": [{"name": "mle:sample", "limit": 2}, "hle:sample"],
    "agents": [
        {"scaffold": "tree", "options": {"num_drafts": 2}, "model": "offline/tabular", "tools": ["shell", "python"]},
        {"scaffold": "react", "model": "openai/gpt-5", "on": "hle*"},
    ],
    "budget": {"steps": 7, "cost_usd": 1.5},
    "environment": {"kind": "sandbox", "memory_mb": 700},
}


def header(number: int) -> dict[str, Any]:
    experiment = experiments.make(SETTINGS, folder=Path.cwd())
    cell = make_plan(experiment, only_to_score=True).cells[number]
    return {
        "episode": {**cell.key._asdict(), "seed": cell.seed},
        "benchmark": {"name": cell.planned.label, "version": cell.planned.benchmark.version, "options": {}},
        "scaffold": {"name": cell.agent.choice.scaffold, "options": cell.agent.choice.options},
        "models": {"main": cell.agent.choice.model},
        "model_options": {},
        "budget": experiment.budget.model_dump(exclude_none=True),
        "experiment": settings_of(experiment, cell),
    }


@pytest.mark.parametrize("number", [0, 1, -1])
def test_the_same_episode_comes_back(number: int) -> None:
    written = header(number)
    again = reopen(written, with_models=False)
    assert {**again.cell.key._asdict(), "seed": again.cell.seed} == written["episode"]
    assert again.experiment.budget.cost_usd == 1.5
    assert again.models == written["models"]
    assert again.cell.agent.models == {}, "no model is made, and no key is needed"
    if written["episode"]["agent"] == "tree":
        scaffold = again.cell.agent.scaffold(again.cell.planned.benchmark)
        assert isinstance(scaffold, Tree)
        assert scaffold.num_drafts == 2
        assert [tool.spec.name for tool in again.cell.tools()] == ["shell", "python"]
        assert again.cell.environment is not None
        assert again.cell.environment.resources.memory_mb == 700


def test_headers_of_earlier_versions_say_enough() -> None:
    written = header(0)
    del written["experiment"]
    again = reopen(written, with_models=True)
    assert {**again.cell.key._asdict(), "seed": again.cell.seed} == written["episode"]
    assert again.cell.agent.models["main"].name == "offline/tabular"


def test_settings_can_be_changed() -> None:
    again = reopen(header(0), with_models=True, changes={"agent": {"scaffold": "react", "options": {}}})
    assert again.cell.agent.choice.scaffold == "react"
    assert again.cell.agent.models["main"].name == "offline/tabular"


def test_another_version_of_the_benchmark_is_told() -> None:
    written = header(0)
    written["benchmark"]["version"] = "0"
    assert "mle:sample was version 0 and is " in reopen(written, with_models=False).differs[0]


def test_what_cannot_be_had_again_is_one_line() -> None:
    with pytest.raises(UsageError, match="does not say which episode it was"):
        reopen({"episode": {"task": "t"}}, with_models=False)
    gone = header(0)
    gone["episode"]["task"] = "gone"
    with pytest.raises(UsageError, match="has no task 'gone' any more"):
        reopen(gone, with_models=False)
