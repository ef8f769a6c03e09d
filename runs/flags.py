"""The flags of `trellis run` and `trellis compare`, and the experiment they make."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from trellis.runs.errors import UsageError, known
from trellis.runs.options import parse_options
from trellis.scaffolds.approval import Action

F = TypeVar("F", bound=Callable[..., Any])

runs_dir = click.option(
    "--runs-dir", envvar="TRELLIS_RUNS", default="runs", show_default=True, type=click.Path(path_type=Path),
    help="Folder of all runs (environment: TRELLIS_RUNS).",
)  # fmt: skip
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")

_RERUN = (
    click.option("--model", "models", multiple=True, metavar="[ROLE=]NAME", help="Model, or that of another role."),
    click.option("-S", "scaffold_options", multiple=True, metavar="KEY=VALUE",
                 help="Scaffold option; SCAFFOLD.KEY=VALUE where there are several."),
    click.option("-M", "model_options", multiple=True, metavar="KEY=VALUE", help="Option of the main model."),
    click.option("-E", "environment_options", multiple=True, metavar="KEY=VALUE", help="Environment option."),
    click.option("--env", "kind", metavar="KIND",
                 help="World: docker, sandbox, local, or the kind of another package. [auto: docker, else sandbox]"),
    click.option("--jobs", type=click.IntRange(1),
                 help="Episodes at a time. [one per processor; 1000 that only wait in batches]"),
    click.option("--starts", type=click.IntRange(1),
                 help="Worlds that start at a time. [one per processor, at least 2]"),
    click.option("--warm", type=click.IntRange(0), help="Worlds started ahead of their episodes. [0]"),
    click.option("--max-steps", type=click.IntRange(0), help="Model replies per episode; 0: unlimited. [100]"),
    click.option("--max-tokens", type=click.IntRange(1), help="Tokens per episode."),
    click.option("--max-time", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Time per episode."),
    click.option("--max-episode-cost-usd", type=click.FloatRange(0, min_open=True), help="Cost per episode, at most."),
    click.option("--max-cost-usd", type=click.FloatRange(0, min_open=True), help="Stop the run before it costs more."),
    click.option("--cache", is_flag=False, flag_value="", metavar="[FOLDER]",
                 help="Keep replies, and answer what was asked before from them. Without a folder it goes last."),
    click.option("--approve", "approval", multiple=True, metavar="TOOL[:PATTERN]=ACTION",
                 help="Allow, deny or ask about tool calls; globs; the first that matches counts."),
    click.option("--record-changes/--no-record-changes", default=None,
                 help="Record which files each tool call changed. [they are]"),
    click.option("--judge", metavar="NAME", help="Model that judges answers. [the benchmark's]"),
    click.option("--retries", type=click.IntRange(0), help="How often a fault is retried. [2]"),
    click.option("--fsync", is_flag=True, default=None, help="Wait for the disk before a result is used."),
    runs_dir,
    as_json,
)  # fmt: skip
_OPTIONS = (
    click.option("--scaffold", "scaffolds", multiple=True, metavar="NAME", help="Scaffold; several: compared. [react]"),
    click.option("-B", "benchmark_options", multiple=True, metavar="KEY=VALUE", help="Benchmark option."),
    click.option("--tools", metavar="A,B", help="Tools instead of those that the benchmark offers."),
    click.option("--mcp", "mcp", multiple=True, metavar="NAME=COMMAND|URL",
                 help="MCP server whose tools are offered as well; a command is started in each world."),
    click.option("--tasks", metavar="GLOB", help="Only tasks whose id matches; several globs with commas."),
    click.option("--limit", type=click.IntRange(1), help="At most so many tasks."),
    click.option("--epochs", type=click.IntRange(1), help="Episodes of each agent at each task. [1]"),
    click.option("--seed", type=int, help="Seed of the experiment. [0]"),
    click.option("--name", help="Part of the run folder's name."),
    click.option("--embedded", is_flag=True, hidden=True),
    *_RERUN,
)  # fmt: skip


def experiment_flags(command: F) -> F:
    return _with(_OPTIONS, command)


def rerun_flags(command: F) -> F:
    """What may be another when an episode that was is had again: all but its task and its seed."""
    return _with((click.option("--scaffold", metavar="NAME", help="Another scaffold."), *_RERUN), command)


def _with(options: Iterable[Callable[[F], F]], command: F) -> F:
    for option in reversed(tuple(options)):
        command = option(command)
    return command


def settings_from(benchmark: str, flags: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment that the flags describe, as plain data.

    Raises:
        UsageError: a pair that is none, or an option of a scaffold that was not given.
    """
    main, roles = models_by_role(flags["models"])
    scaffolds = list(flags["scaffolds"]) or ["react"]
    options = _scaffold_options(scaffolds, flags["scaffold_options"])
    agent = {
        "model": main,
        "models": roles,
        "model_options": parse_options(flags["model_options"], "-M"),
        "tools": [name.strip() for name in flags["tools"].split(",") if name.strip()] if flags["tools"] else None,
    }
    chosen = {"name": benchmark, "options": parse_options(flags["benchmark_options"], "-B"),
              **task_flags(flags)}  # fmt: skip
    agents = [{**agent, "scaffold": scaffold, "options": options[scaffold]} for scaffold in scaffolds]
    return {"benchmarks": [chosen], "agents": agents, "mcp": _servers(flags["mcp"]), **overrides(flags)}


def task_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Which tasks; with an experiment file, of each of its benchmarks."""
    return _given(flags, tasks="tasks", limit="limit")


def overrides(flags: Mapping[str, Any]) -> dict[str, Any]:
    """What flags say of the run as a whole; also on top of an experiment file."""
    plain = _given(flags, name="name", epochs="epochs", seed="seed", jobs="jobs", judge="judge", retries="retries",
                   starts="starts", warm="warm", max_cost_usd="max_cost_usd", record_changes="record_changes",
                   fsync="fsync")  # fmt: skip
    budget = _given(flags, max_steps="steps", max_tokens="tokens", max_time="time_s", max_episode_cost_usd="cost_usd")
    environment = {**parse_options(flags["environment_options"], "-E"), **_given(flags, kind="kind")}
    if flags["cache"] is not None:
        plain["cache"] = flags["cache"] or True
    tables = {"budget": budget, "environment": environment, "approval": [_rule(text) for text in flags["approval"]]}
    return {**plain, **{name: table for name, table in tables.items() if table}}


def only_for_benchmarks(flags: Mapping[str, Any]) -> None:
    """Raises UsageError: a flag that an experiment file decides."""
    names = {"scaffolds": "--scaffold", "models": "--model", "scaffold_options": "-S", "model_options": "-M",
             "benchmark_options": "-B", "tools": "--tools", "mcp": "--mcp"}  # fmt: skip
    for name, flag in names.items():
        if flags[name]:
            raise UsageError(f"{flag} goes with a benchmark; an experiment file says this itself")


def _rule(text: str) -> dict[str, str]:
    """`shell:*rm -rf*=deny` as a rule of approval."""
    match, equals, action = text.rpartition("=")
    if not equals or action not in get_args(Action):
        raise UsageError(
            f"--approve {text}: write TOOL=ACTION or TOOL:PATTERN=ACTION, with allow, deny or ask at the end"
        )
    tool, _, pattern = match.partition(":")
    return {"tool": tool or "*", "pattern": pattern or "*", "action": action}


def _given(flags: Mapping[str, Any], **names: str) -> dict[str, Any]:
    return {setting: flags[flag] for flag, setting in names.items() if flags.get(flag) is not None}


def models_by_role(texts: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """The main model, empty where none is given, and those of other roles. Raises UsageError: two main models."""
    main, roles = "", {}
    for text in texts:
        role, equals, name = text.partition("=")
        if equals and role.isidentifier() and role != "main":
            roles[role] = name
        elif main:
            raise UsageError(f"--model {text}: the main model is {main} already; other roles: --model ROLE=NAME")
        else:
            main = name if equals and role == "main" else text
    return main, roles


def _servers(texts: tuple[str, ...]) -> list[dict[str, Any]]:
    servers = []
    for text in texts:
        name, equals, place = text.partition("=")
        try:
            command = shlex.split(place)
        except ValueError as error:
            raise UsageError(f"--mcp {text}: {error}") from None
        if not equals or not command:
            raise UsageError(f"--mcp {text}: expected NAME=COMMAND or NAME=URL")
        url = place.startswith(("http://", "https://"))
        servers.append({"name": name, "url": place} if url else {"name": name, "command": command})
    return servers


def _scaffold_options(scaffolds: list[str], pairs: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    options: dict[str, dict[str, Any]] = {scaffold: {} for scaffold in scaffolds}
    short = {scaffold.rpartition(":")[2]: scaffold for scaffold in scaffolds}
    for key, value in parse_options(pairs, "-S").items():
        owner, dot, rest = key.partition(".")
        if len(scaffolds) == 1 and not (dot and owner in short):
            options[scaffolds[0]][key] = value
        elif dot and owner in short:
            options[short[owner]][rest] = value
        else:
            raise UsageError(f"-S {key}: say whose option it is: -S SCAFFOLD.{key}=...{known(owner, short)}")
    return options
