"""A conversation stays within its window, whichever way was chosen; an episode that is opened again does the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from trellis.environments.environment import Environment
from trellis.models.legality import problems
from trellis.models.messages import Message, Text, ToolCall, assistant, user
from trellis.models.model import (
    ContextOverflow,
    GenerateConfig,
    ModelRequestError,
    Reply,
    TokenCount,
    ToolSpec,
    Usage,
)
from trellis.models.tokens import estimate_message
from trellis.scaffolds.best_of_n import BestOfN
from trellis.scaffolds.burst import react_burst
from trellis.scaffolds.context import FULL, SUMMARISE, ContextOptions
from trellis.scaffolds.episode import Budget, ContextFull, Episode
from trellis.scaffolds.react import ReAct
from trellis.scaffolds.task import Submission, Task
from trellis.tools.submit import make as submit
from trellis.tools.tool import Output, tool
from trellis.trajectories.log import read

TASK = Task("look", (Text("Look at everything."),))
OVERHEAD = 500
"""Tokens that a provider adds to what is estimated here."""


class Plain:
    """Looks `steps` times, then hands in. Objects to what is illegal and to what does not fit into `fits` tokens."""

    name = "test/plain"

    def __init__(self, steps: int = 10, fits: int = 10**9) -> None:
        self.steps = steps
        self.fits = fits
        self.sent: list[list[Message]] = []
        self.overflows = 0
        self.looked = 0

    def size(self, messages: Sequence[Message]) -> int:
        return OVERHEAD + int(1.3 * sum(map(estimate_message, messages)))

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        assert problems(messages) == []
        if (size := self.size(messages)) > self.fits:
            self.overflows += 1
            raise ContextOverflow(f"{self.name}: {size} tokens do not fit")
        self.sent.append(list(messages))
        if messages[-1].text == SUMMARISE:
            assert config.tool_choice == "none"
            return Reply(assistant("I looked."), usage=Usage(input=size, output=5), cost_usd=0.01)
        called = [int(call.id[1:]) for message in messages for call in message.tool_calls]
        self.looked = 1 + max(called, default=0)
        call = ToolCall(f"c{self.looked}", "look" if self.looked <= self.steps else "submit", {})
        return Reply(assistant(call), "tool_calls", Usage(input=size, output=20), cost_usd=0.01)


class Windowed(Plain):
    """Says how much fits, and refuses what does not."""

    name = "test/windowed"
    max_output_tokens = None

    @property
    def context_tokens(self) -> int | None:
        return self.fits


class Counting(Windowed):
    name = "test/counting"
    counted = 0

    async def count_tokens(self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = ()) -> TokenCount:
        self.counted += 1
        return TokenCount(self.size(messages), "provider")


class Compacting(Windowed):
    name = "test/compacting"
    output = 7

    async def compact(self, messages: Sequence[Message], *, tools: Sequence[ToolSpec] = ()) -> Reply:
        assert problems(messages) == []
        past = Text("The past.", {"provider": "test", "item": {"type": "compaction"}})
        return Reply(assistant(past), usage=Usage(input=self.size(messages), output=self.output), cost_usd=0.5)


async def look(environment: Environment) -> Output:
    """Look."""
    return Output("a long line of what is to be seen\n" * 60)


async def collect(environment: Environment | None, answer: str) -> Submission:
    return Submission(answer)


@asynccontextmanager
async def episode(folder: Path, model: Any, budget: Budget | None = None) -> AsyncIterator[Episode]:
    async with Episode.open(
        folder,
        task=TASK,
        tools=[tool(look), submit()],
        models={"main": model},
        seed=1,
        budget=budget or Budget(),
        collect=collect,
        label="test/context",
        environment=None,
        header={"episode": "e1"},
    ) as opened:
        yield opened


def notes(folder: Path) -> list[dict[str, Any]]:
    return [event["data"] for event in read(folder / "trajectory.jsonl") if event["kind"] == "note.context"]


def requests(folder: Path) -> list[str]:
    return [e["request"] for e in read(folder / "trajectory.jsonl") if e["kind"].endswith((".begun",))]


@pytest.mark.parametrize(("policy", "kind"), [("trim", Windowed), ("summarise", Windowed), ("native", Compacting)])
async def test_a_conversation_much_longer_than_the_window(tmp_path: Path, policy: Any, kind: type[Plain]) -> None:
    model = kind(steps=60, fits=8000)
    async with episode(tmp_path, model) as opened:
        await ReAct(context=policy).solve(opened)
        assert opened.submitted is not None
    assert model.looked == 61
    assert model.overflows == 0
    assert all(model.size(messages) <= model.fits for messages in model.sent)
    decided = notes(tmp_path)
    assert {note["decision"] for note in decided} == {policy}
    assert 2 < len(decided) < 20
    assert all(note["tokens"] > model.fits * FULL for note in decided)
    task = model.sent[0][:2]
    assert all(all(message in messages for message in task) for messages in model.sent)

    again = kind(steps=0, fits=8000)
    async with episode(tmp_path, again, Budget(steps=500)) as opened:
        await ReAct(context=policy).solve(opened)
        assert opened.submitted is not None
        log = list(read(tmp_path / "trajectory.jsonl"))
        assert opened.steps == sum(e["kind"] in ("generate.begun", "compact.begun") for e in log)
    assert again.sent == []


@pytest.mark.parametrize(("policy", "kind"), [("trim", Counting), ("summarise", Windowed), ("native", Compacting)])
async def test_an_episode_cut_off_anywhere_goes_on_as_it_would_have(
    tmp_path: Path, policy: Any, kind: type[Plain]
) -> None:
    async with episode(tmp_path / "whole", kind(steps=25, fits=6000)) as opened:
        await ReAct(context=policy).solve(opened)
    whole = (tmp_path / "whole" / "trajectory.jsonl").read_bytes().splitlines(keepends=True)
    expected = requests(tmp_path / "whole")
    assert len(notes(tmp_path / "whole")) > 1
    for cut in range(1, len(whole), 5):
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir()
        (folder / "trajectory.jsonl").write_bytes(b"".join(whole[:cut]))
        async with episode(folder, kind(steps=25, fits=6000)) as opened:
            await ReAct(context=policy).solve(opened)
        assert sorted(set(requests(folder))) == sorted(set(expected))


async def test_what_was_decided_holds_for_another_model_too(tmp_path: Path) -> None:
    """A model that knows of no window, or another estimate: the log tells what was done."""
    async with episode(tmp_path, Windowed(steps=25, fits=6000)) as opened:
        await ReAct(context="trim").solve(opened)
    async with episode(tmp_path, Plain(steps=0)) as opened:
        await ReAct(context="trim").solve(opened)
        assert opened.submitted is not None


async def test_the_prefix_stays_the_same_for_long(tmp_path: Path) -> None:
    """A provider's cache is lost with each trim: they are few, and shed much each."""
    model = Windowed(steps=60, fits=8000)
    async with episode(tmp_path, model) as opened:
        await ReAct(context="trim").solve(opened)
    lost = [b[: len(a)] != a for a, b in zip(model.sent, model.sent[1:], strict=False)]
    assert sum(lost) == len(notes(tmp_path))
    assert sum(lost) < len(lost) / 4


async def test_the_providers_own_overflow_is_met_once(tmp_path: Path) -> None:
    model = Plain(steps=12, fits=6000)
    async with episode(tmp_path, model) as opened:
        await ReAct(context="trim").solve(opened)
        assert opened.submitted is not None
        spent = opened.usage
    assert model.overflows == len(notes(tmp_path)) > 0
    assert all("do not fit" in note["overflow"] for note in notes(tmp_path))
    again = Plain(steps=0, fits=1)
    async with episode(tmp_path, again) as opened:  # neither what was answered nor what overflowed is asked again
        await ReAct(context="trim").solve(opened)
        assert opened.usage == spent
    assert (again.sent, again.overflows) == ([], 0)


@pytest.mark.parametrize("policy", ["none", "trim", "summarise", "native"])
async def test_what_never_fits_ends_the_episode(tmp_path: Path, policy: Any) -> None:
    model = Compacting(fits=100)
    for _ in range(2):
        async with episode(tmp_path, model) as opened:
            with pytest.raises(ContextFull) as full:
                await ReAct(context=policy).solve(opened)
            assert full.value.limit == "context"
            assert opened.steps == 0
    assert model.overflows == (policy != "none")  # there it is known before the call
    assert model.sent == []


async def test_one_retry_and_no_loop(tmp_path: Path) -> None:
    class Narrowing(Plain):
        """Finds everything too long from the sixth reply on."""

        async def generate(self, messages: Sequence[Message], **more: Any) -> Reply:
            self.fits = 1 if self.looked > 5 else self.fits
            return await super().generate(messages, **more)

    model = Narrowing()
    async with episode(tmp_path, model) as opened:
        with pytest.raises(ContextFull):
            await ReAct(context="trim").solve(opened)
    assert model.overflows == 2


async def test_none_lets_the_provider_decide_but_keeps_to_a_given_window(tmp_path: Path) -> None:
    model = Plain(steps=30)
    async with episode(tmp_path, model) as opened:
        with pytest.raises(ContextFull, match=r"do not fit into the context window of 5,000"):
            await ReAct(context_tokens=5000).solve(opened)
    assert model.size(model.sent[-1]) <= 5000
    with pytest.raises(ContextFull, match="5,000"):
        async with episode(tmp_path, Plain(steps=0)) as opened:
            await ReAct(context_tokens=5000).solve(opened)


async def test_the_provider_counts_where_an_estimate_leaves_doubt(tmp_path: Path) -> None:
    model = Counting(steps=40, fits=8000)
    async with episode(tmp_path, model) as opened:
        await ReAct(context="trim").solve(opened)
    assert model.overflows == 0
    decided = notes(tmp_path)
    assert 0 < model.counted < 40
    assert {"fits", "trim"} <= {note["decision"] for note in decided}
    assert sum(note["method"] == "provider" for note in decided) == model.counted


async def test_a_model_that_does_not_compact_says_so_at_once(tmp_path: Path) -> None:
    model = Windowed()
    async with episode(tmp_path, model) as opened:
        with pytest.raises(ModelRequestError, match=r"test/windowed does not compact conversations itself; take -S"):
            await ReAct(context="native").solve(opened)
    assert model.sent == []


async def test_a_compaction_that_makes_it_longer_is_not_used(tmp_path: Path) -> None:
    model = Compacting(steps=20, fits=6000)
    model.output = 50_000
    async with episode(tmp_path, model) as opened:
        await ReAct(context="native").solve(opened)
        assert opened.submitted is not None
        assert opened.usage.output > 50_000  # paid all the same
    assert [note["decision"] for note in notes(tmp_path)][:2] == ["native", "trim"]


async def test_a_summary_that_does_not_come_is_done_without(tmp_path: Path) -> None:
    class Silent(Windowed):
        async def generate(self, messages: Sequence[Message], **more: Any) -> Reply:
            reply = await super().generate(messages, **more)
            silent = messages[-1].text == SUMMARISE
            return Reply(assistant(), usage=reply.usage, cost_usd=0.0) if silent else reply

    async with episode(tmp_path, Silent(steps=20, fits=6000)) as opened:
        await ReAct(context="summarise").solve(opened)
        assert opened.submitted is not None
    assert [note["decision"] for note in notes(tmp_path)][:2] == ["summarise", "trim"]


async def test_a_result_that_is_too_long_by_itself_is_left_out(tmp_path: Path) -> None:
    model = Windowed(steps=1, fits=1200)
    async with episode(tmp_path, model) as opened:
        await ReAct(context="trim").solve(opened)
    results = [part for part in model.sent[1][-1].parts]
    assert "characters were here, removed to make room" in getattr(results[0], "text", "")


async def test_the_trajectory_grows_with_the_work(tmp_path: Path) -> None:
    sizes = []
    for steps in (60, 120, 240):
        folder = tmp_path / str(steps)
        async with episode(folder, Windowed(steps=steps, fits=8000)) as opened:
            await ReAct(context="trim").solve(opened)
        sizes.append((folder / "trajectory.jsonl").stat().st_size)
    assert sizes[1] / sizes[0] < 2.3
    assert sizes[2] / sizes[1] < 2.3


async def test_a_full_context_ends_one_attempt_and_not_the_search(tmp_path: Path) -> None:
    class Numbered(Plain):
        async def generate(self, messages: Sequence[Message], **more: Any) -> Reply:
            if len(messages) == 2:
                self.looked = 0
            return await super().generate(messages, **more)

    task = Task("look", TASK.prompt, facts={"metric": "accuracy"})
    async with Episode.open(
        tmp_path,
        task=task,
        tools=[tool(look), submit()],
        models={"main": Numbered(steps=30, fits=4000)},
        seed=1,
        budget=Budget(),
        collect=collect,
        label="test/context",
        environment=None,
        header={"episode": "e1"},
    ) as opened:
        await BestOfN(n=3).solve(opened)
    attempts = [event for event in read(tmp_path / "trajectory.jsonl") if event["kind"] == "note.attempt"]
    assert len(attempts) == 3


async def test_results_are_told_whatever_the_context_loses(tmp_path: Path) -> None:
    results: list[Any] = []
    async with episode(tmp_path, Windowed(steps=30, fits=6000)) as opened:
        await react_burst(opened, [user("Look.")], ContextOptions(context="trim"), None, results)
    assert len(results) == 31
    assert all("what is to be seen" in result.text for result in results[:-1])
