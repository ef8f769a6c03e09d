"""From an experiment to the episodes it asks for, every name resolved and every option checked: whatever can be wrong
is found here, before anything is written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from trellis.benchmarks.benchmark import Benchmark
from trellis.environments.environment import EnvironmentSpec
from trellis.models import catalog
from trellis.models.cache import Cached, ReplyCache
from trellis.models.listed import price_is_unknown
from trellis.models.messages import Message
from trellis.models.model import Compacts, GenerateConfig, Model, ModelRequestError, Reply, ToolSpec
from trellis.models.wrapper import wrap
from trellis.runs import forks
from trellis.runs.errors import UsageError, known
from trellis.runs.experiment import AgentChoice, BenchmarkChoice, Experiment
from trellis.runs.forks import Fork
from trellis.runs.options import build
from trellis.runs.registry import SCAFFOLDS, is_reference, registered, resolve
from trellis.runs.results import Key
from trellis.scaffolds.baselines import Noop, Oracle
from trellis.scaffolds.context import ContextOptions, does_not_compact
from trellis.scaffolds.scaffold import Scaffold
from trellis.scaffolds.task import Task
from trellis.tools.mcp import McpServer, McpTools
from trellis.tools.tool import Tool


@dataclass(frozen=True)
class PlannedBenchmark:
    choice: BenchmarkChoice
    benchmark: Benchmark
    tasks: tuple[Task, ...]
    judge: Model | None

    @property
    def label(self) -> str:
        return self.choice.label


@dataclass(frozen=True)
class PlannedAgent:
    choice: AgentChoice
    models: Mapping[str, Model]
    fork: Fork | None = None

    @property
    def name(self) -> str:
        return self.choice.name

    @property
    def acts(self) -> bool:
        """The oracle and the noop agent use no tools: no world and no server is started for them."""
        return resolve("scaffold", self.choice.scaffold) not in (Oracle, Noop)

    def scaffold(self, benchmark: Benchmark) -> Scaffold:
        """A scaffold of its own for each episode, for it may keep state."""
        return make_scaffold(self.choice, benchmark)


@dataclass(frozen=True)
class Cell:
    """One episode to come: an agent at a task, for the how-many-th time."""

    planned: PlannedBenchmark
    agent: PlannedAgent
    task: Task
    epoch: int
    seed: int
    environment: EnvironmentSpec | None
    mcp: tuple[McpServer, ...] = ()

    @property
    def key(self) -> Key:
        return Key(self.planned.label, self.task.id, self.agent.name, self.epoch)

    def tools(self) -> list[Tool]:
        """Tools of its own for each episode, for they keep state."""
        names = self.task.tools if self.agent.choice.tools is None else self.agent.choice.tools
        return make_tools(names, self.task.answer)

    def toolsets(self) -> list[McpTools]:
        """Likewise, for each episode."""
        return [McpTools(server) for server in self.mcp]


@dataclass(frozen=True)
class Plan:
    experiment: Experiment
    cells: tuple[Cell, ...]

    @property
    def keys(self) -> tuple[Key, ...]:
        return tuple(cell.key for cell in self.cells)

    @property
    def models(self) -> list[Model]:
        """Every model of the run once, judges included."""
        agents = {id(cell.agent): cell.agent for cell in self.cells}.values()
        models = [model for agent in agents for model in agent.models.values()]
        judges = [planned.judge for planned in self.benchmarks.values() if planned.judge is not None]
        return list({id(model): model for model in (*models, *judges)}.values())

    @property
    def benchmarks(self) -> dict[str, PlannedBenchmark]:
        return {cell.planned.label: cell.planned for cell in self.cells}

    def under(self, experiment: Experiment) -> Plan:
        """The same episodes in the world of `experiment`."""
        return Plan(experiment, tuple(replace(cell, environment=_world(cell.task, experiment)) for cell in self.cells))


def make_plan(experiment: Experiment, *, only_to_score: bool = False, with_judges: bool = True) -> Plan:
    """Everything that the experiment asks for; epochs go outermost, so that all agents advance evenly. `only_to_score`
    leaves the agents' models out.

    Raises:
        UsageError: a wrong name, option or task glob.
    """
    load = _Loader(experiment)
    benchmarks = [
        _plan_benchmark(choice, experiment, load if with_judges else None) for choice in experiment.benchmarks
    ]
    agents = [
        PlannedAgent(choice, {}) if only_to_score else PlannedAgent(choice, _models(choice, load), _fork(choice))
        for choice in experiment.agents
    ]
    for agent in agents:
        for planned in benchmarks:
            if agent.choice.meets(planned.choice):
                _check_context(agent.scaffold(planned.benchmark), agent.models)
        make_tools(agent.choice.tools or ())
    cells = [
        Cell(planned, agent, task, epoch,
             agent.fork.seed if agent.fork else episode_seed(experiment.seed, planned.label, task.id, epoch),
             _world(task, experiment),
             (*experiment.mcp, *agent.choice.mcp) if agent.acts and not only_to_score else ())
        for epoch in range(1, experiment.epochs + 1)
        for planned in benchmarks
        for task in planned.tasks
        for agent in agents
        if agent.choice.meets(planned.choice) and (agent.fork is None or agent.fork.task == task.id)
    ]  # fmt: skip
    for cell in cells:
        _check_servers(cell)
    plan = Plan(experiment, tuple(cells))
    if not only_to_score:
        _check_prices(plan)
    return plan


def _fork(choice: AgentChoice) -> Fork | None:
    return forks.find(choice.fork) if choice.fork else None


def _check_context(scaffold: Scaffold, models: Mapping[str, Model]) -> None:
    """Raises UsageError: conversations are to be compacted by a provider that does not."""
    main = models.get("main")
    native = isinstance(scaffold, ContextOptions) and scaffold.context == "native"
    if native and main is not None and not isinstance(main, Compacts):
        raise UsageError(does_not_compact(main.name))


def _check_prices(plan: Plan) -> None:
    """Raises UsageError: a cost is to be kept, and a model is known to have no price."""
    experiment = plan.experiment
    caps = {"--max-cost-usd": experiment.max_cost_usd, "--max-episode-cost-usd": experiment.budget.cost_usd}
    cap = next((flag for flag, value in caps.items() if value is not None), None)
    for model in plan.models if cap else ():
        if price_is_unknown(model):
            raise UsageError(
                f"the price of {model.name} is unknown, so {cap} cannot be kept; give its price: -M prices=FILE"
            )


def episode_seed(seed: int, benchmark: str, task: str, epoch: int) -> int:
    """48 bits; the same for every agent, so that comparisons are paired."""
    digest = hashlib.sha256(f"{seed}/{benchmark}/{task}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


def make_benchmark(choice: BenchmarkChoice) -> Benchmark:
    benchmark: Benchmark = build(resolve("benchmark", choice.name), choice.options, f"benchmark {choice.name}")
    return benchmark


def make_scaffold(choice: AgentChoice, benchmark: Benchmark) -> Scaffold:
    scaffold_class = resolve("scaffold", choice.scaffold)
    if scaffold_class is Oracle:  # the only one that may know the gold submissions
        if choice.options:
            raise UsageError(f"scaffold oracle has no option {next(iter(choice.options))!r} (known: none)")
        return Oracle(benchmark.oracle)
    scaffold: Scaffold = build(scaffold_class, choice.options, f"scaffold {choice.scaffold}")
    return scaffold


def make_model(name: str, options: Mapping[str, Any]) -> Model:
    """Raises UsageError: an unknown name or option, or what the model needs is missing."""
    try:
        if is_reference(name) or name in registered("model"):
            model: Model = build(resolve("model", name), options, f"model {name}")
            return model
        return catalog.load(name, dict(options))
    except (ValueError, ModelRequestError) as error:
        raise UsageError(str(error)) from None


def make_tools(names: Sequence[str], answer: Any = None) -> list[Tool]:
    """Tools for a task with this type of answer. Raises UsageError: an unknown name."""
    from trellis.tools.catalog import instantiate

    return [instantiate(resolve("tool", name), answer=answer) for name in names]


class _Loader:
    """Makes the models of an experiment: the same one for the same name and options, with a cache of replies around
    it where the experiment wants that."""

    def __init__(self, experiment: Experiment) -> None:
        self._loaded: dict[str, Model] = {}
        self._cache = ReplyCache(experiment.reply_folder) if experiment.reply_folder else None

    def __call__(self, name: str, options: Mapping[str, Any]) -> Model:
        key = f"{name} {sorted(options.items())}"
        if key not in self._loaded:
            model = make_model(name, options)
            if self._cache is not None and catalog.of_a_provider(name):
                model = wrap(Cached, model, self._cache, options)
            self._loaded[key] = model
        return self._loaded[key]


def _plan_benchmark(choice: BenchmarkChoice, experiment: Experiment, load: _Loader | None) -> PlannedBenchmark:
    """Without `load` no judge is made."""
    benchmark = make_benchmark(choice)
    try:
        everything = list(benchmark.tasks(choice.split))
    except ValueError as error:
        raise UsageError(f"{choice.name}: {error}") from None
    tasks = [task for task in everything if choice.wants(task.id)][: choice.limit]
    if not tasks:
        raise UsageError(
            f"{choice.label} has no task {choice.tasks!r}{known(choice.tasks, (t.id for t in everything))}"
        )
    judge = (experiment.judge or benchmark.judge) if benchmark.judge else None
    return PlannedBenchmark(
        choice, benchmark, tuple(tasks), _judge(judge, experiment, load) if judge and load else None
    )


def _judge(name: str, experiment: Experiment, load: _Loader) -> Model:
    prices = (agent.model_options for agent in experiment.agents if "prices" in agent.model_options)
    return load(name, _prices_of(next(prices, {}), name))


def _prices_of(options: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A file of prices is for every model of a provider, not only for the one whose option it is."""
    return {"prices": options["prices"]} if "prices" in options and catalog.of_a_provider(name) else {}


def _world(task: Task, experiment: Experiment) -> EnvironmentSpec | None:
    return task.environment and experiment.environment.of(task.environment)


def _check_servers(cell: Cell) -> None:
    """Raises UsageError: the extra is missing, or there is no world to start a server in."""
    if cell.mcp and find_spec("mcp") is None:
        raise UsageError("MCP servers need the extra mcp: pip install 'trellis-agents[mcp]'")
    for server in cell.mcp:
        if server.in_world and cell.environment is None:
            raise UsageError(
                f"MCP server {server.name} is started in the world of a task, and {cell.planned.label} {cell.task.id} "
                'has none: say where = "host" in an experiment file, or leave it out'
            )


def _models(choice: AgentChoice, load: _Loader) -> dict[str, Model]:
    """The agent's models by role; agents that name the same model with the same options share it."""
    if not choice.model and choice.scaffold in SCAFFOLDS and choice.scaffold not in (Oracle.name, Noop.name):
        raise UsageError(f"scaffold {choice.scaffold} needs a model: --model NAME, for example --model offline/tabular")
    models: dict[str, Model] = {"main": NoModel()}
    wanted = [("main", choice.model, choice.model_options)] if choice.model else []
    others = ((role, name, _prices_of(choice.model_options, name)) for role, name in choice.models.items())
    for role, name, options in (*wanted, *others):
        models[role] = load(name, options)
    return models


class NoModel:
    """Stands where an agent was given no model."""

    name = "none"

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        raise ModelRequestError("this scaffold asks a model and was given none: --model NAME")
