"""Trajectories into files of other formats: which episodes, which files, and what is lost on the way."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from trellis.runs import results
from trellis.runs.errors import UsageError
from trellis.runs.folder import safe_name
from trellis.runs.results import Result
from trellis.trajectories.converters.converter import ConversionError, Losses
from trellis.trajectories.converters.pieces import whole
from trellis.trajectories.converters.telling import Outcome, Told, told

FORMATS = {
    "atif": "to_atif",
    "inspect": "to_inspect",
    "mini-swe-agent": "to_mini",
    "swe-agent": "to_swe_agent",
    "aide": "to_aide",
    "openai": "to_openai",
    "otel": "to_otel",
}
_ENDINGS = {
    "mini-swe-agent": ".traj.json",
    "swe-agent": ".traj",
    "inspect": ".eval",
    "openai": ".jsonl",
    "otel": ".spans.json",
}


@dataclass(slots=True)
class Exported:
    """What was written."""

    format: str
    files: list[Path] = field(default_factory=list)
    episodes: int = 0
    left_out: list[str] = field(default_factory=list)
    """Episodes that the format cannot say, one line each."""
    lines: int | None = None
    """Of JSONL."""
    spans: int | None = None
    endpoint: str | None = None
    losses: Losses = field(default_factory=Losses)

    def to_json(self) -> dict[str, Any]:
        counts = {"lines": self.lines, "spans": self.spans, "endpoint": self.endpoint}
        return {
            "format": self.format,
            "files": [str(file) for file in self.files],
            "episodes": self.episodes,
            **{name: value for name, value in counts.items() if value is not None},
            "left_out": self.left_out,
            "losses": self.losses.to_json(),
        }


def module_of(format: str) -> ModuleType:
    return importlib.import_module(f"trellis.trajectories.converters.{FORMATS[format]}")


@dataclass(frozen=True, slots=True)
class Episode:
    """One that is to be exported."""

    log: Path
    outcome: Outcome
    result: Result | None

    @property
    def name(self) -> str:
        return "/".join(self.log.parent.parts[-3:])


def episodes_of(logs: Iterable[Path]) -> list[Episode]:
    """Trajectories with what their runs say of them.

    Raises:
        UsageError: the results of a run are damaged.
    """
    known: dict[Path, dict[str, Result]] = {}
    made = []
    for log in logs:
        run = _run_of(log)
        if run is not None and run not in known:
            try:
                known[run] = {result.path: result for result in results.read(run / "results.jsonl").values()}
            except ValueError as error:
                raise UsageError(str(error)) from None
        result = known[run].get(str(log.resolve().parent.relative_to(run))) if run is not None else None
        made.append(Episode(log, _outcome(result, run.name if run is not None else ""), result))
    return made


def export(episodes: list[Episode], format: str, to: Path, **options: Any) -> Exported:
    """Write `episodes` below the folder `to`, or, where it has an ending, one file of that name.

    Raises:
        ConversionError: the format cannot say them.
        LogError, OSError: a trajectory or a file.
    """
    module, exported = module_of(format), Exported(format)
    if format == "otel":
        _spans(episodes, to, exported, **options)
        return exported
    for file, group in _files(episodes, module, to).items():
        count = len(group)
        if format == "inspect":
            module.write(_opened(group), file, exported.losses, _metrics(group))
        elif format == "openai":
            count, exported.lines = module.write(_opened(group), file, exported.losses, options["choice"])
        else:
            count = _single(group[0], file, module, exported, alone=len(episodes) == 1)
        if count or format == "openai":
            exported.files.append(file)
        exported.episodes += count
    if format == "mini-swe-agent" and not is_file(to):
        exported.files += _predictions(episodes, module, to)
    if not exported.files:
        raise ConversionError(exported.left_out[0])
    return exported


def file_of(episode: Episode, format: str) -> str:
    """The name of the file for one episode, if nobody gives it another."""
    with told(episode.log) as each:
        names = filter(None, (each.task, each.agent, str(each.epoch)))
        return safe_name("-".join(names)) + _ENDINGS.get(format, ".json")


def is_file(to: Path) -> bool:
    """Is a file meant, or a folder?"""
    return bool(to.suffix) and not to.is_dir()


# --- inside ---


def _single(episode: Episode, file: Path, module: ModuleType, exported: Exported, *, alone: bool) -> int:
    """Write one episode. One among many that cannot be said is left out: 0."""
    try:
        with told(episode.log, episode.outcome) as each:
            module.write(each, file, exported.losses)
    except ConversionError as error:
        if alone:
            raise
        exported.left_out.append(str(error))
        return 0
    return 1


def _files(episodes: list[Episode], module: ModuleType, to: Path) -> dict[Path, list[Episode]]:
    """Which episodes go into which file."""
    if is_file(to):
        return {to: episodes}
    files: dict[Path, list[Episode]] = {}
    for episode in episodes:
        files.setdefault(to / module.PLACE.format(**_names(episode)), []).append(episode)
    return files


def _names(episode: Episode) -> dict[str, str]:
    """Of the folders that an episode lies in: `.../benchmark/task/agent/epoch/trajectory.jsonl`."""
    parts = ("none", "none", "none", "none", *episode.log.resolve().parent.parts[1:])
    return dict(zip(("benchmark", "task", "agent", "epoch"), parts[-4:], strict=True))


def _opened(episodes: Iterable[Episode]) -> Iterator[Told]:
    """One after the other, each closed before the next."""
    for episode in episodes:
        with told(episode.log, episode.outcome) as each:
            yield each


def _spans(
    episodes: list[Episode], to: Path, exported: Exported, *, endpoint: str, content: bool, run: str = ""
) -> None:
    module = module_of("otel")
    try:
        otlp: Any = importlib.import_module("trellis.trajectories.converters.otlp")
    except ModuleNotFoundError:
        raise UsageError("--format otel needs the extra otel: pip install 'trellis-agents[otel]'") from None
    exported.episodes = len(episodes)
    if endpoint:
        with closing(otlp.Collector(endpoint)) as collector:
            exported.spans = module.write(_opened(episodes), collector, exported.losses, run=run, content=content)
            exported.endpoint = str(collector)
        return
    file = to if is_file(to) else to / module.PLACE
    with whole(file) as draft, draft.open("w", encoding="utf-8") as opened:
        target = otlp.File(opened)
        exported.spans = module.write(_opened(episodes), target, exported.losses, run=run, content=content)
    exported.files.append(file)


def _predictions(episodes: list[Episode], module: ModuleType, to: Path) -> Iterator[Path]:
    """`preds.json` of each agent, benchmark and epoch with patches."""
    groups: dict[Path, dict[str, Any]] = {}
    for episode in episodes:
        with told(episode.log, episode.outcome) as each:
            prediction = module.prediction(each)
        if prediction is not None:
            folder = to / Path(module.PLACE.format(**_names(episode))).parent.parent
            groups.setdefault(folder / "preds.json", {})[prediction["instance_id"]] = prediction
    for file, predictions in groups.items():
        file.write_text(json.dumps(predictions, indent=2) + "\n", "utf-8")
        yield file


def _metrics(episodes: list[Episode]) -> Mapping[str, float] | None:
    """The benchmark's own metrics of an agent, as the run's summary has them."""
    run, result = _run_of(episodes[0].log), episodes[0].result
    if run is None or result is None:
        return None
    try:
        agents = json.loads((run / "summary.json").read_text("utf-8"))["agents"]
        found = next(
            (row for row in agents if (row["benchmark"], row["agent"]) == (result.key[0], result.key[2])), None
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    metrics = (found or {}).get("metrics", {})
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}


def _run_of(log: Path) -> Path | None:
    """The folder of the run that a trajectory lies in."""
    parents = log.resolve().parents
    run = parents[5] if len(parents) > 5 and parents[4].name == "episodes" else None
    return run if run is not None and (run / "results.jsonl").is_file() else None


def _outcome(result: Result | None, run: str) -> Outcome:
    if result is None:
        return Outcome(run)
    score = result.to_json()["score"]
    return Outcome(
        run, result.outcome, result.limit, result.fault, score and {**score, "flags": list(score["flags"])},
        result.cost_usd, result.time_s, result.wall_s, _when(result.started_at), _when(result.ended_at),
    )  # fmt: skip


def _when(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
