"""From a trajectory back to the episode that made it: its task, tools, scaffold, world and limits.

The header of every trajectory holds an experiment of one episode, so that a trajectory is enough by itself, wherever
it was copied to. A run's folder is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any

from trellis.runs import experiment as experiments
from trellis.runs.errors import UsageError
from trellis.runs.experiment import Experiment
from trellis.runs.plan import Cell, make_plan

IMPORTED = "trellis.benchmarks.imported:Imported"


@dataclass(frozen=True)
class Reopened:
    """An episode that was, ready to be had again."""

    experiment: Experiment
    """Of this episode alone."""
    cell: Cell
    """With its seed. It has models only where they were asked for."""
    models: Mapping[str, str]
    """The names of the models that answered, by role."""
    differs: tuple[str, ...] = ()
    """What is not as it was, one line each: another version of the benchmark."""


def settings_of(experiment: Experiment, cell: Cell) -> dict[str, Any]:
    """The experiment of one episode as plain data, for the header of its trajectory; what is left out is as by
    default."""
    task = "*" if "," in cell.task.id else escape(cell.task.id)
    alone = experiment.model_copy(
        update={
            "name": "",
            "benchmarks": (cell.planned.choice.model_copy(update={"tasks": task, "limit": None}),),
            "agents": (cell.agent.choice.model_copy(update={"fork": None}),),  # the log is whole without it
            "epochs": 1,
        }
    )
    return alone.model_dump(mode="json", exclude_defaults=True)


def reopen(
    header: Mapping[str, Any],
    *,
    with_models: bool,
    changes: Mapping[str, Any] | None = None,
    path: Path | None = None,
) -> Reopened:
    """The episode of a trajectory with this header. `path` is where it lies: paths of files that are not absolute are
    relative to its folder, and the task of one that was made elsewhere and imported is what the agent was told there,
    in a world of ours.

    Without `with_models` no model is made: no key is needed, and the cell has none. `changes` replace settings of the
    experiment, those of the only agent under "agent" (`{"agent": {"model": "openai/gpt-5"}}`).

    Raises:
        UsageError: the trajectory does not say enough (it was imported, say), or what it names is not here.
    """
    settings = {**_settings(header, path), **(changes or {})}
    agent = settings.pop("agent", {})
    settings["agents"] = [{**settings["agents"][0], **agent}]
    experiment = experiments.make(settings, folder=path.parent if path else Path.cwd())
    plan = make_plan(experiment, only_to_score=not with_models, with_judges=with_models)
    episode = header["episode"]
    cell = next((cell for cell in plan.cells if cell.task.id == episode["task"]), None)
    if cell is None:
        raise UsageError(f"{experiment.benchmarks[0].label} has no task {episode['task']!r} any more")
    servers = (*experiment.mcp, *experiment.agents[0].mcp) if cell.agent.acts else ()
    cell = replace(cell, epoch=episode["epoch"], seed=episode["seed"], mcp=servers)
    was, now = header["benchmark"]["version"], cell.planned.benchmark.version
    label = cell.planned.label
    changed = was != now and "imported" not in header
    differs = (f"{label} was version {was} and is {now}; its tasks may have changed",) if changed else ()
    return Reopened(experiment, cell, dict(header.get("models", {})), differs)


def _settings(header: Mapping[str, Any], path: Path | None) -> dict[str, Any]:
    if "experiment" in header:
        return dict(header["experiment"])
    if "imported" in header and path is not None:
        return {
            "benchmarks": [{"name": IMPORTED, "options": {"trajectory": str(path.resolve())}}],
            "agents": [{"name": header["episode"]["agent"], "scaffold": "react"}],
        }
    try:  # written before headers held it
        scaffold, models, benchmark = header["scaffold"], dict(header["models"]), header["benchmark"]
        main, _ = models.pop("main", ""), models.pop("judge", "")
        agent = {
            "name": header["episode"]["agent"],
            "scaffold": scaffold["name"],
            "options": scaffold["options"],
            "model": "" if main == "none" else main,
            "models": models,
            "model_options": header["model_options"],
        }
        chosen = {"name": benchmark["name"], "options": benchmark["options"]}
        return {"benchmarks": [chosen], "agents": [agent], "budget": header["budget"]}
    except (KeyError, TypeError, AttributeError):
        raise UsageError(
            "this trajectory does not say which episode it was: it holds no benchmark, scaffold and models"
        ) from None
