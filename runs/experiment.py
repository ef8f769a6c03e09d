"""An experiment: which agents meet which tasks, how often, and under which limits. Flags and TOML make the same object,
and the `experiment.toml` in a run's folder repeats the run."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from trellis.environments.environment import EnvironmentSpec, Resources
from trellis.environments.kinds import places
from trellis.environments.network.allow import check_policy
from trellis.models.cache import default_folder
from trellis.models.options import message
from trellis.runs import toml
from trellis.runs.errors import UsageError, known
from trellis.runs.fork_choice import ForkChoice
from trellis.runs.options import problems
from trellis.runs.registry import anchored, is_reference, split_benchmark
from trellis.scaffolds.approval import Rule
from trellis.scaffolds.budget import Budget
from trellis.tools.mcp import McpServer

Options = dict[str, Any]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BenchmarkChoice(_Settings):
    """A benchmark, and which of its tasks."""

    name: str = Field(min_length=1)
    """Registered name, `package.module:Name` or `path/to/file.py:Name`."""
    split: str = "sample"
    """Which of the benchmark's splits."""
    options: Options = {}
    """Arguments of the benchmark's class."""
    tasks: str = "*"
    """Glob over task ids; several, separated by commas, add up."""
    limit: int | None = Field(default=None, ge=1)
    """At most this many tasks, the first ones."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        """`"mle:sample"` is short for a table of name and split, also as the `name` of a table."""
        table = {"name": value} if isinstance(value, str) else value
        if isinstance(table, Mapping) and isinstance(table.get("name"), str):
            name, split = split_benchmark(table["name"])
            if split and "split" not in table:
                return {**table, "name": name, "split": split}
        return table

    @property
    def label(self) -> str:
        """ "mle:sample"; a file or module stands under its class's name."""
        return f"{self.name.rpartition(':')[2]}:{self.split}"

    def wants(self, task: str) -> bool:
        return any(fnmatchcase(task, pattern.strip()) for pattern in self.tasks.split(","))


class AgentChoice(_Settings):
    """An agent: a scaffold with its models and tools."""

    name: str = ""
    """What it is called in tables; empty means the scaffold's name (and the model's, where that is not enough)."""
    scaffold: str = Field(min_length=1)
    """Registered name, `package.module:Name` or `path/to/file.py:Name`."""
    options: Options = {}
    """The scaffold's options."""
    model: str = ""
    """The main model; empty for scaffolds that ask none."""
    model_options: Options = {}
    """Options of the main model."""
    models: dict[str, str] = {}
    """Models of other roles ("review", ...); a role that is not named here is the main model's."""
    tools: tuple[str, ...] | None = None
    """Names of tools instead of those that the benchmark offers."""
    mcp: tuple[McpServer, ...] = ()
    """MCP servers whose tools it gets besides: tables `[[agents.mcp]]`."""
    on: str = "*"
    """Glob over benchmarks ("mle*"): this agent meets only these."""
    fork: ForkChoice | None = None
    """It goes on from an episode that was, and meets only that one's task: a table `[agents.fork]`."""

    def meets(self, benchmark: BenchmarkChoice) -> bool:
        return fnmatchcase(benchmark.label, self.on) or fnmatchcase(benchmark.name, self.on)


class EnvironmentChoice(_Settings):
    """The kind of world every episode and every grader gets."""

    kind: str = "auto"
    """`auto` takes docker if an engine and the image are there, else sandbox; `local` only when asked for by name, and
    so are the kinds of other packages."""
    image: str | None = None
    """Docker image instead of the tasks' own."""
    network: Literal["none", "full"] | None = None
    """Instead of what the tasks say, for the agents' worlds; a grader's stay as their benchmark has them."""
    allow: tuple[str, ...] | None = None
    """With network "none": "host:port" that the agents' worlds reach all the same, instead of what the tasks say."""
    runtime: str | None = None
    """The Docker engine's runtime, for example "runsc"."""
    cpus: float | None = Field(default=None, gt=0)
    memory_mb: int | None = Field(default=None, ge=16)
    disk_mb: int | None = Field(default=None, ge=1)
    inodes: int | None = Field(default=None, ge=1)
    """Files and folders that a world may add."""
    pids: int | None = Field(default=None, ge=1)

    @field_validator("kind")
    @classmethod
    def _is_there(cls, kind: str) -> str:
        there = ["auto", *places()]
        if kind not in there:
            raise ValueError(f"there is no kind of world called {kind!r}{known(kind, there)}")
        return kind

    @field_validator("allow", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        """ "a:1,b:2" is short for a list of the two."""
        return tuple(entry.strip() for entry in value.split(",")) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _possible(self) -> Self:
        check_policy(self.network or "none", self.allow or ())
        if self.allow and self.kind == "local":
            raise ValueError("allow: a local world cannot keep to it; take kind sandbox or docker")
        return self

    def of(self, spec: EnvironmentSpec) -> EnvironmentSpec:
        """A task's recipe with what the run decides."""
        given = self.model_dump(exclude_none=True)
        if self.network == "full":
            given["allow"] = ()
            if spec.setup_network is None:  # then it is online as well, and a list has nothing to add
                given["setup_allow"] = None
        elif self.allow:
            given["network"] = "none"
        if self.kind == "auto":
            del given["kind"]
        if self.image is not None:
            given["dockerfile"] = ""
        resources = {f.name: given.pop(f.name) for f in fields(Resources) if f.name in given}
        return replace(spec, resources=replace(spec.resources, **resources), **given)


class BudgetChoice(_Settings):
    """What one episode may spend."""

    steps: int = Field(default=100, ge=0)
    """Model replies; 0 is unlimited."""
    tokens: int | None = Field(default=None, ge=1)
    """Tokens of all classes; this and what follows is unlimited where it is left out."""
    cost_usd: float | None = Field(default=None, gt=0)
    """The episode ends before the call that may exceed this; calls without a price do not count."""
    time_s: float | None = Field(default=None, gt=0)
    """Wall time, waiting on the provider not counted."""

    def open(self) -> Budget:
        """A budget of its own for one episode."""
        return Budget(self.steps or None, self.tokens, self.cost_usd, self.time_s)


class Experiment(_Settings):
    """Agents x tasks x epochs."""

    name: str = ""
    """Part of the run folder's name."""
    benchmarks: tuple[BenchmarkChoice, ...] = Field(min_length=1)
    """Tables `[[benchmarks]]`, or texts such as "mle:sample"."""
    agents: tuple[AgentChoice, ...] = Field(min_length=1)
    """Tables `[[agents]]`."""
    mcp: tuple[McpServer, ...] = ()
    """MCP servers whose tools every agent gets: tables `[[mcp]]`."""
    epochs: int = Field(default=1, ge=1)
    """Episodes of each agent at each task."""
    seed: int = 0
    """Every episode's seed derives from it, from the task and the epoch: agents are compared on equal seeds."""
    environment: EnvironmentChoice = EnvironmentChoice()
    budget: BudgetChoice = BudgetChoice()
    """The same for all agents."""
    approval: tuple[Rule, ...] = ()
    """Tables `[[approval]]`: which tool calls are allowed, denied or asked about; the first that matches counts."""
    record_changes: bool = True
    """Which files each tool call changed is recorded in the trajectory, with their text."""
    jobs: int | None = Field(default=None, ge=1)
    """Episodes at a time; default: one per processor."""
    starts: int | None = Field(default=None, ge=1)
    """Worlds that start at a time, whatever runs already; default: one per processor, at least two."""
    warm: int = Field(default=0, ge=0)
    """Worlds that are started ahead of the episodes that are next."""
    judge: str = ""
    """The model that judges answers; empty means the benchmark's own."""
    cache: bool | str = False
    """Keep replies of providers' models, and answer what was asked before in every respect from them: true in the
    user's own folder, a text names another."""
    fsync: bool = False
    """An effect's result is used only when the disk has it, so that it also survives a loss of power; otherwise, when
    the operating system has it."""
    max_cost_usd: float | None = Field(default=None, gt=0)
    """The run stops, resumable, before the call that may exceed this."""
    retries: int = Field(default=2, ge=0)
    """How often a fault is retried."""

    @model_validator(mode="after")
    def _named(self) -> Self:
        agents = tuple(_with_names(self.agents))
        for what, names in (("agent", [a.name for a in agents]), ("benchmark", [b.label for b in self.benchmarks])):
            for name, count in Counter(names).items():
                if count > 1:
                    raise ValueError(f"{count} {what}s are called {name!r}; give each a name of its own")
        for agent in agents:
            for name, count in Counter(server.name for server in (*self.mcp, *agent.mcp)).items():
                if count > 1:
                    raise ValueError(f"{count} MCP servers of agent {agent.name!r} are called {name!r}")
            if not any(agent.meets(b) for b in self.benchmarks):
                labels = ", ".join(b.label for b in self.benchmarks)
                raise ValueError(f"agent {agent.name!r} meets no benchmark: on = {agent.on!r} matches none of {labels}")
        return self if agents == self.agents else self.model_copy(update={"agents": agents})

    @property
    def reply_folder(self) -> Path | None:
        """Where replies are kept; None: they are not."""
        return Path(self.cache) if isinstance(self.cache, str) else default_folder() if self.cache else None

    def to_toml(self) -> str:
        """With its defaults written out: what they are today holds when the run is repeated."""
        return toml.dumps(self.model_dump(mode="json", exclude_none=True))


def _with_names(agents: tuple[AgentChoice, ...]) -> list[AgentChoice]:
    short = Counter(_scaffold_name(agent) for agent in agents if not agent.name)
    named = []
    for agent in agents:
        name = agent.name or _scaffold_name(agent)
        if not agent.name and short[name] > 1 and agent.model:
            name = f"{name}@{agent.model}"
        named.append(agent.model_copy(update={"name": name}))
    return named


def _scaffold_name(agent: AgentChoice) -> str:
    return agent.scaffold.rpartition(":")[2]


def make(settings: Mapping[str, Any], *, folder: Path) -> Experiment:
    """An experiment from plain data; file paths in it are relative to `folder`.

    Raises:
        UsageError: with every problem in one line.
    """
    try:
        return _anchor(Experiment.model_validate(settings), folder)
    except ValidationError as error:
        unknown = [e for e in error.errors() if e["type"] == "extra_forbidden"]
        raise UsageError("; ".join(map(_problem, unknown)) or problems(error)) from None


def read(path: Path) -> Experiment:
    """Read an experiment file.

    Raises:
        UsageError: it cannot be read or is wrong, with the line where that can be told.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f"{path}: {reason}") from None
    try:
        settings = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", str(error), re.DOTALL)
        line = (found and found[2]) or str(len(text.splitlines()))
        raise UsageError(f"{path}, line {line}: not TOML: {found[1] if found else error}") from None
    try:
        return _anchor(Experiment.model_validate(settings), path.parent)
    except ValidationError as error:
        raise UsageError("; ".join(_place(path, text, e) for e in _causes(error))) from None


def _causes(error: ValidationError) -> list[Any]:
    """Its errors without those that only follow: a list is too short once a wrong member is taken out of it."""
    errors = error.errors()
    wrong = {e["loc"][:depth] for e in errors for depth in range(len(e["loc"]))}
    return [e for e in errors if e["type"] != "too_short" or e["loc"] not in wrong]


def _place(path: Path, text: str, error: Any) -> str:
    line = toml.line_of(text, error["loc"])
    where = f"{path}, line {line}" if line else str(path)
    return f"{where}: {_problem(error)}"


def _problem(error: Any) -> str:
    what = ".".join(map(str, error["loc"])) or "experiment"
    if error["type"] == "extra_forbidden":
        return f"{what}: no such setting{known(str(error['loc'][-1]), _settings_at(error['loc'][:-1]))}"
    return f"{what}: {message(error)}"


def _settings_at(path: tuple[str | int, ...]) -> list[str]:
    tables: dict[str, type[BaseModel]] = {
        "benchmarks": BenchmarkChoice,
        "agents": AgentChoice,
        "environment": EnvironmentChoice,
        "budget": BudgetChoice,
        "approval": Rule,
        "mcp": McpServer,
        "fork": ForkChoice,
    }
    if not path:
        return list(Experiment.model_fields)
    inner = next((name for name in ("mcp", "fork") if name in path), str(path[0]))
    return list(tables[inner].model_fields)


def _anchor_prices(agent: AgentChoice, folder: Path) -> Options:
    """A run that is resumed from elsewhere reads the same file of prices."""
    options = agent.model_options
    file = options.get("prices")
    if not isinstance(file, str) or is_reference(agent.model):
        return options
    return {**options, "prices": str((folder / file).resolve())}


def _anchor(experiment: Experiment, folder: Path) -> Experiment:
    agents = tuple(
        agent.model_copy(
            update={
                "scaffold": anchored(agent.scaffold, folder),
                "model": anchored(agent.model, folder),
                "model_options": _anchor_prices(agent, folder),
                "models": {role: anchored(model, folder) for role, model in agent.models.items()},
                "tools": agent.tools and tuple(anchored(tool, folder) for tool in agent.tools),
                "fork": agent.fork and agent.fork.anchored(folder),
            }
        )
        for agent in experiment.agents
    )
    benchmarks = tuple(b.model_copy(update={"name": anchored(b.name, folder)}) for b in experiment.benchmarks)
    judge, cache = anchored(experiment.judge, folder), experiment.cache
    if isinstance(cache, str):
        cache = str((folder / Path(cache).expanduser()).resolve())
    return experiment.model_copy(update={"agents": agents, "benchmarks": benchmarks, "judge": judge, "cache": cache})
