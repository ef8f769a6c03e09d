"""How an episode asks its models: by role, recorded, each call with a seed of its own, on the agent's budget."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from trellis.models.messages import Message
from trellis.models.model import (
    Compacts,
    ContextOverflow,
    CountsTokens,
    GenerateConfig,
    HasWindow,
    Model,
    ModelFault,
    ModelRequestError,
    Priced,
    Reply,
    TokenCount,
    ToolSpec,
    Usage,
)
from trellis.scaffolds.budget import Budget, LimitReached, Spent
from trellis.scaffolds.interjection import Interjections
from trellis.trajectories.recorder import Recorder
from trellis.trajectories.source import Source


class ContextFull(LimitReached):
    """A conversation does not fit into the model's context window. Uncaught it ends the episode as any limit does;
    what else the episode does may go on."""

    def __init__(self, said: str) -> None:
        Exception.__init__(self, said)
        self.limit = "context"


@dataclass(frozen=True, slots=True)
class Window:
    """How much fits into a conversation with a model."""

    model: str
    tokens: int | None
    """None where unknown."""
    compacts: bool
    """Can the provider shorten a conversation itself?"""


@dataclass
class Models:
    """The models of an episode, and what they were asked."""

    by_role: Mapping[str, Model]
    seed: int
    recorder: Recorder
    source: Source | None = None
    _asked: Counter[str] = field(default_factory=Counter)
    """Calls by branch: the number of a call seeds it."""
    _interjections: Interjections = field(init=False)

    def __post_init__(self) -> None:
        self._interjections = Interjections(self.recorder, self.source)

    def of(self, role: str) -> Model:
        """The main model where the agent has none for that role."""
        return self.by_role.get(role) or self.by_role["main"]

    def window(self, role: str) -> Window:
        model = self.of(role)
        tokens = model.context_tokens if isinstance(model, HasWindow) else None
        return Window(model.name, tokens, isinstance(model, Compacts))

    async def count(self, role: str, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> TokenCount | None:
        """What the provider counts; None where it does not, or where it failed to. Not recorded."""
        model = self.of(role)
        if not isinstance(model, CountsTokens):
            return None
        try:
            return await model.count_tokens(messages, tools=tools)
        except (ModelFault, ModelRequestError):
            return None

    async def spend(
        self,
        budget: Budget,
        branch: str,
        role: str,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        config: GenerateConfig | None = None,
        kind: str = "generate",
    ) -> Reply:
        """A call on the agent's budget; see `Episode.generate` and `Episode.compact` for what it raises."""
        live, held_usd = not self.recorder.recorded(kind, branch), 0.0
        if live:
            with same_limit(self.recorder, kind, branch):
                held_usd = await budget.begin_step(self._worst_usd(budget, role, messages, tools, config))
        try:
            reply, at = await self._ask(branch, role, messages, tools, config, kind)
        except BaseException as error:
            if live:
                budget.abandon_step(held_usd)
            if isinstance(error, ContextOverflow):
                raise ContextFull(str(error)) from None
            raise
        if live:
            budget.end_step(reply, at, held_usd)
        else:
            budget.spend(reply, at)
        return reply

    def _worst_usd(
        self,
        budget: Budget,
        role: str,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        config: GenerateConfig | None,
    ) -> float | None:
        """What a call may cost at most, where that matters and is known."""
        model = self.of(role)
        if budget.cost_usd is None or not isinstance(model, Priced):
            return None
        return model.worst_case_usd(messages, tools=tools, config=config or GenerateConfig())

    async def judge(self, messages: Sequence[Message], config: GenerateConfig | None) -> Reply:
        """A grader's call: in branch `grader`, and on nobody's budget."""
        reply, _ = await self._ask("grader", "judge", messages, (), config, "generate")
        return reply

    async def _ask(
        self,
        branch: str,
        role: str,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        config: GenerateConfig | None,
        kind: str,
    ) -> tuple[Reply, float]:
        """The reply, and when it came on the episode's clock, as recorded."""
        model = self.by_role["judge"] if branch == "grader" else self.of(role)
        config = config or GenerateConfig()
        messages, said = self._interjections.into(kind, branch, self._asked[branch], messages)
        self._asked[branch] += 1
        if config.seed is None:
            source, call = self.source, self._asked[branch]
            beyond = source is not None and call > source.recorded.calls(branch)
            variation = (source.variation,) if source and source.variation and beyond else ()
            config = replace(config, seed=_seed(self.seed, branch, call, *variation))

        async def answer() -> Reply:
            if branch == "grader":
                return await _graded(model, messages, config)
            if kind == "generate":
                return await model.generate(messages, tools=tools, config=config)
            if not isinstance(model, Compacts):
                raise ModelRequestError(f"{model.name} does not compact conversations itself")
            return await model.compact(messages, tools=tools)

        return await self.recorder.generate(branch, role, model.name, messages, tools, config, answer, kind, said)


@contextmanager
def same_limit(recorder: Recorder, kind: str, branch: str) -> Iterator[None]:
    """Around the beginning of an effect on the budget: a limit that stands in its way is recorded, and stands there
    whenever the episode is opened again, whatever its branches come to first then.

    Raises:
        LimitReached: it does, or did.
    """
    event = f"{kind}.limit"
    if recorder.holds(event, branch, before=f"{kind}.begun"):
        reached = recorder.recall(event, branch, limit="", allowed=0.0)
        raise LimitReached(reached["limit"], reached["allowed"])
    try:
        yield
    except LimitReached as limit:
        recorder.event(event, branch, limit=limit.limit, allowed=limit.allowed)
        raise


def spent(ends: Iterable[Mapping[str, Any]]) -> Spent:
    """What calls came to that ended so (`generate.done`)."""
    answered = [done for done in ends if "overflow" not in done]
    return Spent(
        len(answered),
        sum(Usage(**done["usage"]).total for done in answered),
        sum(done["cost_usd"] or 0.0 for done in answered),
    )


async def _graded(model: Model, messages: Sequence[Message], config: GenerateConfig) -> Reply:
    """That a judge cannot read what was handed in is for whoever set it up, and no answer to keep."""
    try:
        return await model.generate(messages, config=config)
    except ContextOverflow as overflow:
        raise ModelRequestError(str(overflow)) from None


def _seed(*parts: object) -> int:
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:6], "big")
