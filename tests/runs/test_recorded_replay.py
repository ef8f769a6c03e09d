"""The program as it is now over what was recorded: nothing is asked, and the first other request is shown."""

import asyncio
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from trellis.environments import kinds
from trellis.environments.environment import Environment, EnvironmentSpec
from trellis.models.messages import Message, ToolCall, assistant, system, user
from trellis.models.model import ContextOverflow, GenerateConfig, Reply, ToolSpec, Usage
from trellis.models.scripted import Scripted, ScriptItem
from trellis.runs import experiment as experiments
from trellis.runs.errors import UsageError
from trellis.runs.plan import make_plan
from trellis.runs.recorded_changes import Change
from trellis.runs.registry import resolve
from trellis.runs.regression import Replayed, Variant, replay, rerecord
from trellis.runs.regression_text import lines
from trellis.runs.reopening import settings_of
from trellis.scaffolds.approval import Decision
from trellis.scaffolds.episode import Episode, LimitReached
from trellis.scaffolds.react import ReAct
from trellis.scaffolds.scaffold import Scaffold, ScaffoldOptions
from trellis.tools.tool import Output
from trellis.trajectories.trajectory import Trajectory

SUMS = Path(__file__).parent / "parts" / "sums.py"
KEY = {"benchmark": "Sums:plain", "task": "sum-1", "agent": "a", "epoch": 1}


def header(benchmark: str = f"{SUMS}:Sums:plain", **settings: Any) -> dict[str, Any]:
    agent = {"name": "a", "scaffold": "react", "model": "openai/gpt-5"}
    written = {"benchmarks": [{"name": benchmark, "tasks": "sum-1"}], "agents": [agent], **settings}
    experiment = experiments.make(written, folder=Path.cwd())
    cell = make_plan(experiment, only_to_score=True).cells[0]
    return {
        "episode": {**KEY, "seed": 7},
        "benchmark": {"name": cell.planned.label, "version": cell.planned.benchmark.version},
        "scaffold": {"name": "react", "options": dict(cell.agent.choice.options)},
        "models": {"main": "openai/gpt-5"},
        "experiment": settings_of(experiment, cell),
        "packages": {"numpy": "1.0"},
    }


def record(
    folder: Path,
    scaffold: Scaffold,
    replies: Sequence[ScriptItem] | Scripted,
    head: Mapping[str, Any] | None = None,
    **more: Any,
) -> Path:
    """An episode as `trellis run` would have had it, with a model that says what it is told to."""
    head = head or header()
    model = replies if isinstance(replies, Scripted) else Scripted(replies)
    experiment = experiments.make(head["experiment"], folder=Path.cwd())
    cell = make_plan(experiment, only_to_score=True).cells[0]

    async def attempt() -> None:
        opened = Episode.open(
            folder, task=cell.task, tools=cell.tools(), models={"main": model}, seed=7,
            budget=experiment.budget.open(), label="test", environment=cell.environment, header=head,
            collect=lambda world, answer: cell.planned.benchmark.collect(cell.task, world, answer), **more,
        )  # fmt: skip
        async with opened as episode:
            with suppress(LimitReached):
                await scaffold.solve(episode)
            await episode.finish()

    asyncio.run(attempt())
    return folder


def change(path: Path, scaffold: type | None = None, **options: Any) -> Change:
    outcome = replay(path, Variant(scaffold, options))
    assert outcome.change is not None
    return outcome.change


def different(found: Change) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {each.what: (each.how, each.lines) for each in found.differences}


class Agent(ScaffoldOptions):
    """Asks twice, draws on everything that an episode offers, and is easily changed."""

    name: ClassVar[str] = "agent"

    prompt: str = "Add."
    tools: bool = True
    temperature: float | None = None
    command: str = "echo 1"
    again: bool = True
    looks: int = 1

    async def solve(self, episode: Episode) -> None:
        drawn = f"{episode.random.random()} at {episode.now()}"
        messages = [system(self.prompt), user(*episode.task.prompt, drawn)]
        config = GenerateConfig(temperature=self.temperature)
        messages.append((await episode.generate(messages, tools=None if self.tools else (), config=config)).message)
        for _ in range(self.looks):
            await episode.use("shell", command=self.command)
        if self.again:
            messages.append(user("Are you sure?"))
            messages.append((await episode.generate(messages)).message)
        await episode.submit(messages[-1].text)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return record(tmp_path / "episode", Agent(), ["11", "Yes."])


def test_the_same_program_asks_for_the_same(recorded: Path) -> None:
    before = (recorded / "trajectory.jsonl").read_bytes()
    outcome = replay(recorded, Variant(Agent))
    assert (outcome.steps, outcome.acts, outcome.change, outcome.notes) == (2, 1, None, ())
    assert (recorded / "trajectory.jsonl").read_bytes() == before
    assert next(lines(outcome)).startswith(f"{recorded}: same (2 steps, 1 tool call, ")


def test_a_changed_prompt(recorded: Path) -> None:
    found = change(recorded, Agent, prompt="Add up.")
    assert (found.kind, found.how, found.branch, found.step, found.turn) == ("generate", "changed", "main", 1, 1)
    assert different(found) == {"message 1 of 2, system": ("changed", ("-Add.", "+Add up."))}


def test_changed_tools_and_settings(recorded: Path) -> None:
    found = different(change(recorded, Agent, tools=False, temperature=0.5))
    assert found["setting temperature"] == ("added", ("+0.5",))
    assert {name: how for name, (how, _) in found.items() if name.startswith("tool ")} == {
        "tool shell": "removed", "tool submit": "removed",
    }  # fmt: skip


def test_a_changed_tool_call(recorded: Path) -> None:
    found = change(recorded, Agent, command="echo 2")
    assert (found.kind, found.how, found.step, found.turn) == ("act", "changed", 1, 1)
    assert different(found) == {"argument command": ("changed", ("-echo 1", "+echo 2"))}


def test_a_call_that_is_no_longer_made(recorded: Path) -> None:
    found = change(recorded, Agent, looks=0)
    assert (found.kind, found.how, found.step) == ("act", "gone", 1)
    assert "argument command: echo 1" in found.request


def test_one_more_tool_call(recorded: Path) -> None:
    found = change(recorded, Agent, looks=2)
    assert (found.kind, found.how, found.step, found.instead_of) == ("act", "new", 1, "generate")
    assert "argument command: echo 1" in found.request


def test_a_submission_of_something_else(recorded: Path) -> None:
    class Shouter(Agent):
        async def solve(self, episode: Episode) -> None:
            shout = episode.submit
            episode.submit = lambda answer="": shout(answer.upper())  # type: ignore[method-assign]
            await super().solve(episode)

    found = change(recorded, Shouter)
    assert (found.kind, found.how, found.step) == ("submit", "changed", 2)
    assert different(found) == {"answer": ("changed", ("-Yes.", "+YES."))}
    early = change(recorded, Agent, again=False)
    assert (early.kind, early.how, early.step, early.instead_of) == ("submit", "new", 1, "generate")


def test_one_more_call_of_the_model(tmp_path: Path) -> None:
    recorded = record(tmp_path / "episode", Agent(again=False), ["11"])
    found = change(recorded, Agent)
    assert (found.kind, found.how, found.step, found.turn, found.instead_of) == ("generate", "new", 1, 1, "submit")
    assert found.request == ("user:", "Are you sure?")


def test_of_several_calls_the_one_that_is_left_out(tmp_path: Path) -> None:
    class Several(ScaffoldOptions):
        commands: tuple[str, ...] = ("one", "two", "three")

        async def solve(self, episode: Episode) -> None:
            for number, command in enumerate(self.commands):
                await episode.act(ToolCall(command, "shell", {"command": command}))
                await episode.generate([user(f"call {number}")], config=GenerateConfig(seed=1))
            await episode.submit("done")

    recorded = record(tmp_path / "episode", Several(), ["a", "b", "c"])
    found = change(recorded, Several, commands=["one", "three"])
    assert (found.kind, found.how, found.step) == ("act", "gone", 1)
    assert "argument command: two" in found.request


def test_parallel_branches_the_earliest_in_the_recorded_order(tmp_path: Path) -> None:
    class Slow(Scripted):
        async def generate(self, *arguments: Any, **named: Any) -> Reply:
            await asyncio.sleep(0.001)
            return await super().generate(*arguments, **named)

    class Parallel(ScaffoldOptions):
        late: str = ""
        early: str = ""

        async def solve(self, episode: Episode) -> None:
            async def go(branch: Episode, later: bool) -> None:
                for _ in range(0 if later else 3):
                    await asyncio.sleep(0)
                await branch.generate([user(f"first {'' if later else self.early}")])
                await branch.generate([user(f"second {self.late if later else ''}")])

            async with episode.branch("a") as a, episode.branch("b") as b, asyncio.TaskGroup() as group:
                group.create_task(go(a, True))  # the group cancels one when the other is stopped
                group.create_task(go(b, False))
            await episode.submit("done")

    recorded = record(tmp_path / "episode", Parallel(), Slow(["1", "2", "3", "4"]))
    with Trajectory(recorded) as trajectory:
        assert [step.branch for step in trajectory.steps()][:2] == ["main/a", "main/b"]
    found = change(recorded, Parallel, late="x", early="y")
    assert (found.branch, found.step, found.turn) == ("main/b", 2, 1)
    assert change(recorded, Parallel, late="x").branch == "main/a"


def test_a_fork_of_the_world_from_elsewhere(tmp_path: Path) -> None:
    class Forking(ScaffoldOptions):
        after: bool = False

        async def solve(self, episode: Episode) -> None:
            before = await episode.snapshot()
            await episode.use("shell", command="true")
            async with episode.branch("b", at=None if self.after else before) as branch:
                await branch.generate([user("Go.")])
            await episode.submit("done")

    recorded = record(tmp_path / "episode", Forking(), ["1"])
    assert replay(recorded, Variant(Forking)).change is None
    found = change(recorded, Forking, after=True)
    assert (found.kind, found.how, different(found)) == ("branch", "changed", {"position": ("changed", ("-0", "+1"))})


def test_a_mismatch_that_the_program_swallows_is_told_all_the_same(recorded: Path) -> None:
    class Careless(Agent):
        async def solve(self, episode: Episode) -> None:
            with suppress(Exception):
                await super().solve(episode)
            await episode.submit("Yes.")

    assert different(change(recorded, Careless, prompt="Other.")) == {
        "message 1 of 2, system": ("changed", ("-Add.", "+Other."))
    }


def test_its_own_error_is_the_programs(recorded: Path) -> None:
    class Broken(Agent):
        async def solve(self, episode: Episode) -> None:
            raise ZeroDivisionError("by nothing")

    with pytest.raises(ZeroDivisionError, match="by nothing"):
        replay(recorded, Variant(Broken))

    class Missing(Agent):
        async def solve(self, episode: Episode) -> None:
            Path("no-such-prompt.txt").read_text()

    with pytest.raises(FileNotFoundError, match="no-such-prompt"):
        replay(recorded, Variant(Missing))


class Dear(Scripted):
    """Tells what a call may cost at most."""

    def worst_case_usd(self, messages: Sequence[Message], **_: object) -> float:
        return 1.0


def test_a_cap_stands_where_it_stood_without_prices(tmp_path: Path) -> None:
    recorded = record(tmp_path / "episode", Agent(), Dear(["11"]), header(budget={"cost_usd": 0.5}))
    outcome = replay(recorded, Variant(Agent))
    assert (outcome.steps, outcome.change) == (0, None)


@pytest.mark.parametrize("budget", [{"steps": 2}, {"tokens": 3}, {"cost_usd": 1e-9}])
def test_a_limit_ends_it_where_it_did(tmp_path: Path, budget: dict[str, Any]) -> None:
    class Endless(ScaffoldOptions):
        async def solve(self, episode: Episode) -> None:
            while True:
                await episode.generate([user("On.")])

    head = header(budget=budget)
    reply = Reply(assistant("ok"), usage=Usage(input=2), cost_usd=1e-9)
    recorded = record(tmp_path / "episode", Endless(), [reply] * 3, head)
    assert replay(recorded, Variant(Endless)).change is None


def test_the_time_was_up_where_it_was(tmp_path: Path) -> None:
    class Slow(ScaffoldOptions):
        async def solve(self, episode: Episode) -> None:
            while True:
                await episode.generate([user("On.")])
                await asyncio.sleep(0.02)

    recorded = record(tmp_path / "episode", Slow(), ["ok"] * 50, header(budget={"time_s": 0.1}))
    assert replay(recorded, Variant(Slow)).change is None


def test_nobody_is_asked_for_approval_again_and_no_server_for_its_tools(tmp_path: Path) -> None:
    class Server:
        name = "far"
        in_world = False

        async def discover(self, environment: Environment) -> Sequence[ToolSpec]:
            return [ToolSpec("far_look", "Look far.", {"type": "object"})]

        async def call(self, environment: Environment, tool: str, arguments: Mapping[str, Any]) -> Output:
            return Output("far away")

        async def close(self) -> None:
            return None

    async def decide(call: ToolCall, branch: str) -> Decision:
        return Decision(call.name != "shell", "not that", "user")

    calls: list[ScriptItem] = [ToolCall("1", "far_look"), ToolCall("2", "shell", {"command": "rm"}), "done"]
    recorded = record(tmp_path / "episode", ReAct(), calls, toolsets=[Server()], approve=decide)
    outcome = replay(recorded)
    assert (outcome.steps, outcome.acts, outcome.change) == (3, 2, None)
    assert different(change(recorded, prompt="Other."))["message 1 of 2, system"][0] == "changed"


def test_no_world_is_started_nor_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = header(f"{SUMS}:Sums:world", environment={"kind": "local"})
    recorded = record(tmp_path / "episode", Agent(), ["11", "Yes."], head)

    async def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a world was looked for")

    monkeypatch.setattr(kinds, "reap", refuse)
    monkeypatch.setattr(EnvironmentSpec, "start", refuse)
    outcome = replay(recorded, Variant(Agent))
    assert (outcome.steps, outcome.acts, outcome.change) == (2, 1, None)


def test_how_a_conversation_was_shortened_is_followed(tmp_path: Path) -> None:
    look = [ToolCall(f"c{number}", "shell", {"command": "ls " * 200}) for number in range(6)]
    options = {"context": "trim", "context_tokens": 1500}
    agent = {"name": "a", "scaffold": "react", "model": "openai/gpt-5", "options": options}
    head = header(agents=[agent])
    recorded = record(tmp_path / "episode", ReAct.model_validate(options), [*look, "done"], head)
    with Trajectory(recorded) as trajectory:
        assert list(trajectory.notes("context")), "it was never shortened"
    assert replay(recorded).change is None


def test_what_did_not_fit_does_not_fit(tmp_path: Path) -> None:
    recorded = record(tmp_path / "episode", ReAct(), [ContextOverflow("too long")])
    assert replay(recorded).change is None


def test_a_record_that_was_cut_off_is_the_same_as_far_as_it_goes(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        record(tmp_path / "episode", Agent(), ["11", RuntimeError("killed")])
    outcome = replay(tmp_path / "episode", Variant(Agent))
    assert (outcome.steps, outcome.change) == (1, None)
    assert outcome.notes == ("the record was cut off in the last call that is asked for",)
    assert change(tmp_path / "episode", Agent, again=False).how == "new", "it hands in, which was never recorded"


def test_what_is_missing_is_said_in_one_line(tmp_path: Path) -> None:
    head = header(f"{SUMS}:Sums:world", environment={"kind": "local"})
    recorded = record(tmp_path / "episode", Agent(), ["11", "Yes."], head)
    shutil.rmtree(recorded / "blobs")
    with pytest.raises(UsageError, match=r"blobs/[0-9a-f]{64} is missing: copy the folder blobs along"):
        replay(recorded, Variant(Agent))
    gone = {**header(), "experiment": {**head["experiment"], "benchmarks": [{"name": "gone"}]}}
    rewrite(recorded, gone)
    with pytest.raises(UsageError, match="unknown benchmark 'gone'"):
        replay(recorded, Variant(Agent))


def rewrite(folder: Path, head: Mapping[str, Any]) -> None:
    """The same trajectory with another header."""
    log = folder / "trajectory.jsonl"
    first, _, rest = log.read_text().partition("\n")
    log.write_text(json.dumps({**json.loads(first), **head}, separators=(",", ":")) + "\n" + rest)


def test_another_version_of_the_benchmark_is_noted(recorded: Path) -> None:
    rewrite(recorded, {"benchmark": {"name": "Sums:plain", "version": "0"}})
    outcome = replay(recorded, Variant(Agent))
    assert outcome.change is None
    assert outcome.notes == ("Sums:plain was version 0 and is 1; its tasks may have changed",)


def test_within_a_running_loop(recorded: Path) -> None:
    async def within() -> Replayed:
        return replay(recorded, Variant(Agent))

    assert asyncio.run(within()).change is None


# --- what is kept for tests ---


def test_a_fixture_says_nothing_of_the_machine_and_works_anywhere(tmp_path: Path) -> None:
    shutil.copy(SUMS, tmp_path / "sums.py")
    name = f"{tmp_path}/sums.py:Asker"
    agent = {"name": "a", "scaffold": name, "options": {"votes": 2}, "model": "openai/gpt-5"}
    head = header(f"{tmp_path}/sums.py:Sums:world", agents=[agent], environment={"kind": "local"}, cache=str(tmp_path))
    head["scaffold"] = {"name": name, "options": {"votes": 2}}
    recorded = record(tmp_path / "episode", resolve("scaffold", name)(votes=2), ["11", "11"], head)
    target = tmp_path / "tests" / "trajectories" / "asker.jsonl"
    assert rerecord(recorded, target).change is None
    text = target.read_text()
    assert str(tmp_path) not in text
    assert "numpy" not in text
    assert "../../sums.py:Asker" in text
    assert sorted(path.name for path in target.parent.iterdir()) == ["asker.jsonl", "blobs"]
    (tmp_path / "elsewhere").mkdir()
    for name in ("tests", "sums.py"):
        shutil.move(tmp_path / name, tmp_path / "elsewhere" / name)
    moved = tmp_path / "elsewhere" / "tests" / "trajectories" / "asker.jsonl"
    assert replay(moved).change is None
    again = moved.with_name("again.jsonl")
    rerecord(moved, again)
    assert again.read_bytes() == moved.read_bytes()


def test_a_changed_program_is_recorded_as_far_as_the_answers_go(recorded: Path, tmp_path: Path) -> None:
    target = tmp_path / "kept" / "x.jsonl"
    assert rerecord(recorded, target, Variant(Agent, {"prompt": "Add up.", "looks": 0})).change is None
    assert replay(target, Variant(Agent, {"prompt": "Add up.", "looks": 0})).change is None
    outcome = rerecord(recorded, target.with_name("y.jsonl"), Variant(Agent, {"command": "echo 2"}))
    assert outcome.change is not None
    assert (outcome.change.kind, outcome.change.how) == ("act", "changed")
    assert [path.name for path in target.parent.iterdir()] == ["x.jsonl"], "nothing is left of what was not written"
