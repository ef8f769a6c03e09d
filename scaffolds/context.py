"""A conversation is kept within the model's context window, by a policy that a scaffold chooses.

How long it is, is known from the usage of the last reply, and for what was added since by estimate; near the limit the
provider is asked to count, where it can. Every decision is noted in the trajectory (`note.context`), and an episode
that is opened again follows its notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from pydantic import Field

from trellis.models.legality import keeps_user
from trellis.models.messages import Message, user
from trellis.models.model import GenerateConfig, ModelRequestError, Reply
from trellis.models.tokens import ESTIMATE_ERROR, estimate_message, estimate_tool
from trellis.scaffolds import trimming
from trellis.scaffolds.episode import ContextFull, Episode
from trellis.scaffolds.scaffold import ScaffoldOptions
from trellis.scaffolds.trimming import Plan

Policy = Literal["none", "trim", "summarise", "native"]

FULL = 0.8
"""Share of the window from which a conversation is shortened: the rest is for the reply, and for what follows it."""
KEPT = 0.5
"""Share of a full conversation that stays. It is shortened seldom and then by much: each time what follows the place
is new to a provider's cache."""
LEAST = 0.1
"""Share of a conversation that shortening must save to be worth it; it is left alone where there is less to take."""

SUMMARISE = """\
This conversation is about to outgrow your context window: everything before this message, except the task, is removed
and replaced by what you write now. Write down what you need to go on: what was tried and what came of it, what you
know now (names, paths, numbers and commands exactly as they are), the state of the work, and the next steps."""
SUMMARY = "[The earlier conversation was removed to make room. This is your summary of it.]\n\n{text}"
COMPACTED = "[The earlier conversation was compacted to make room. Go on with the task.]"


class ContextOptions(ScaffoldOptions):
    """Options of scaffolds that converse."""

    context: Policy = "none"
    """What happens before a conversation outgrows the context window. `none`: nothing, the episode ends there. `trim`:
    the results of old tool calls are left out, and if that is not enough old exchanges. `summarise`: the model sums up
    what is old. `native`: its provider compacts what is old (OpenAI, Anthropic)."""
    context_tokens: int | None = Field(default=None, gt=0)
    """Tokens of the context window; what is known of the model by default. Set it for a server that does not say."""


def does_not_compact(model: str) -> str:
    """What is said where `native` is asked of a model whose provider cannot."""
    return f"{model} does not compact conversations itself; take -S context=trim or context=summarise"


class Context:
    """Keeps one conversation of an episode within its window."""

    def __init__(self, episode: Episode, options: ContextOptions) -> None:
        self._episode = episode
        self._policy: Policy = options.context
        self._model = episode.window()
        self._limit = options.context_tokens or self._model.tokens
        self._meter = Meter(episode, self._model.model)
        self._head: list[Message] = []
        """The system prompt and the task."""
        self._notice: Message | None = None
        """What says that exchanges were left out."""

    async def generate(self, messages: list[Message]) -> Reply:
        """Ask the main model. `messages` is shortened in place where it would not fit; if the model finds it too long
        all the same, it is shortened once and asked again.

        Raises:
            ContextFull: it does not fit.
            ModelRequestError: the policy is not for this model.
            And as `Episode.generate` does.
        """
        self._head = self._head or list(takewhile(lambda message: message.role != "assistant", messages))
        await self._fit(messages)
        try:
            reply = await self._episode.generate(messages)
        except ContextFull as full:
            if not await self._fit(messages, full):
                raise
            reply = await self._episode.generate(messages)
        if self._limit is not None and reply.usage.total_input:
            self._meter.learn([*messages, reply.message], reply.usage.total)
        return reply

    async def _fit(self, messages: list[Message], full: ContextFull | None = None) -> bool:
        """Shorten the conversation if it is too long, or is said to be; was it?"""

        async def decide() -> Mapping[str, Any] | None:
            return await self._decide(messages, full)

        decision = await self._episode.decide("context", decide)
        if decision is None:
            return False
        if decision["decision"] == "end":
            raise ContextFull(decision["why"])
        if decision["decision"] == "fits":
            self._meter.learn(messages, decision["tokens"])
            return False
        shorter = await self._shortened(messages, decision)
        messages[:] = shorter or messages
        return bool(shorter)

    async def _shortened(self, messages: Sequence[Message], decision: Mapping[str, Any]) -> list[Message]:
        """Empty if nothing came of it."""
        if decision["decision"] != "trim":
            by_model = self._summarised if decision["decision"] == "summarise" else self._compacted
            shorter, worth = await by_model(messages, decision)
            instead = await self._instead(messages, worth, decision)
            if instead is None:
                return shorter
            if instead["decision"] == "leave":
                return []
            decision = instead
        shorter, self._notice = Plan.from_json(decision).apply(messages)
        return shorter

    async def _instead(
        self, messages: Sequence[Message], worth: bool, decision: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """What is done where a model made nothing shorter of it: also noted."""

        async def decide() -> Mapping[str, Any] | None:
            if worth:
                return None
            tokens, window = decision["tokens"], decision["window"]
            what = self._what(messages, "trim", tokens, min(window or tokens, tokens)) or {"decision": "leave"}
            return {**what, "instead_of": decision["decision"]}

        return await self._episode.decide("context", decide)

    # --- whether, and what ---

    async def _decide(self, messages: Sequence[Message], full: ContextFull | None) -> Mapping[str, Any] | None:
        policy, limit = self._policy, self._limit
        if policy == "native" and not self._model.compacts:
            raise ModelRequestError(does_not_compact(self._model.model))
        if full is not None:
            if policy == "none":
                return None
            tokens, method = self._meter.size(messages).tokens, "estimate"
        elif limit is None:
            return None
        else:
            high = limit if policy == "none" else int(limit * FULL)
            size = self._meter.size(messages)
            if size.most <= high:
                return None
            tokens, method = size.tokens, "estimate"
            if size.least <= high:  # in doubt
                counted = await self._episode.count_tokens(messages)
                if counted is None and (policy == "none" or tokens <= high):
                    return None
                if counted is not None:
                    tokens, method = counted.tokens, counted.method
                    if tokens <= high:
                        return {"decision": "fits", "tokens": tokens, "method": method, "window": limit}
            if policy == "none":
                why = f"{tokens:,} tokens do not fit into the context window of {limit:,}"
                return {"decision": "end", "tokens": tokens, "method": method, "window": limit, "why": why}
        facts = {"tokens": tokens, "method": method, "window": limit, "overflow": str(full) if full else ""}
        what = self._what(messages, policy, tokens, min(limit or tokens, tokens))
        return None if what is None else {**what, **facts}

    def _what(self, messages: Sequence[Message], policy: Policy, tokens: int, at_most: int) -> Mapping[str, Any] | None:
        """What to do about it; None if there is nothing worth it."""
        keep, begin = int(at_most * KEPT), self._begin(messages)
        if policy in ("summarise", "native"):
            until = self._until(messages, begin, keep)
            if sum(map(self._meter.of, messages[begin:until])) >= LEAST * tokens:
                return {"decision": policy, "until": until, **self._readable(messages[:until], begin, at_most)}
        plan = trimming.plan(messages, begin, tokens - keep, self._meter.of, at_least=tokens - at_most * FULL)
        return {"decision": "trim", **plan.to_json()} if plan.saved >= LEAST * tokens else None

    def _readable(self, old: Sequence[Message], begin: int, at_most: int) -> Mapping[str, Any]:
        """What must be left out of the old part so that it can be read once more with room for a summary."""
        over = sum(map(self._meter.of, old)) + self._meter.tools - at_most * FULL
        return trimming.plan(old, begin, over, self._meter.of).to_json() if over > 0 else Plan().to_json()

    def _begin(self, messages: Sequence[Message]) -> int:
        """Where that begins which can be left out."""
        head = {id(message) for message in self._head}
        after = 1 + max((place for place, message in enumerate(messages) if id(message) in head), default=-1)
        first = next(iter(trimming.exchanges(messages, after)), len(messages))
        return first - 1 if first > after and messages[first - 1] is self._notice else first

    def _until(self, messages: Sequence[Message], begin: int, keep: int) -> int:
        """Where the latest exchanges begin, of which as many stay as fit into half of what is kept."""
        until, size = len(messages), 0.0
        for start in reversed(trimming.exchanges(messages, begin)):
            size += sum(map(self._meter.of, messages[start:until]))
            if size > keep / 2:
                break
            until = start
        return until

    # --- by a model ---

    async def _summarised(self, messages: Sequence[Message], decision: Mapping[str, Any]) -> tuple[list[Message], bool]:
        """The conversation with a summary, and whether there is one and it made it shorter."""
        until = decision["until"]
        old, _ = Plan.from_json(decision).apply(messages[:until])
        config = GenerateConfig(tool_choice="none") if self._episode.tools else None
        try:
            reply = await self._episode.generate([*old, user(SUMMARISE)], role="summary", config=config)
        except ContextFull:
            return [], False
        shorter = [*self._head, user(SUMMARY.format(text=reply.text)), *messages[until:]]
        usable = bool(reply.text.strip()) and reply.stop_reason != "refusal"
        return shorter, usable and self._worth(self._meter.of_all(shorter), messages)

    async def _compacted(self, messages: Sequence[Message], decision: Mapping[str, Any]) -> tuple[list[Message], bool]:
        """The compacted conversation, and whether it became shorter. What stands for the past comes first, after the
        system prompt, as providers want it; the task is said again where the compaction does not keep what the user
        said."""
        until = decision["until"]
        old, _ = Plan.from_json(decision).apply(messages[:until])
        try:
            reply = await self._episode.compact(old)
        except ContextFull:
            return [], False
        systems = [message for message in self._head if message.role == "system"]
        task = [] if keeps_user(reply.message) else [message for message in self._head if message.role != "system"]
        rest = [*messages[until:], *task, user(COMPACTED)]  # what is kept goes on from where it was written
        size = max(reply.usage.total_output, self._meter.of(reply.message))  # the first may leave out what is kept
        worth = self._worth(self._meter.of_all([*systems, *rest]) + size, messages)
        return [*systems, reply.message, *rest], worth

    def _worth(self, size: float, messages: Sequence[Message]) -> bool:
        """Is a conversation of this size enough shorter?"""
        return size <= self._meter.of_all(messages) * (1 - LEAST)


@dataclass(frozen=True, slots=True)
class Size:
    """Tokens of a conversation, and between what they surely lie."""

    least: int
    tokens: int
    most: int


class Meter:
    """How long a conversation is: what the last reply told of its beginning, and an estimate of what was added."""

    def __init__(self, episode: Episode, model: str) -> None:
        self._model = model
        self._ratio = 1.0
        """Of what was told to what was estimated."""
        self._known: list[Message] = []
        self._tokens = 0
        self._estimated = 0
        """Of the known messages and the tools."""
        self._estimates: dict[int, tuple[Message, int]] = {}
        self._tools = sum(estimate_tool(tool.spec) for tool in episode.tools)

    @property
    def tools(self) -> float:
        return self._tools * self._ratio

    def of(self, message: Message) -> float:
        """Tokens of a message."""
        return self._estimate(message) * self._ratio

    def of_all(self, messages: Sequence[Message]) -> float:
        return sum(map(self._estimate, messages)) * self._ratio

    def size(self, messages: Sequence[Message]) -> Size:
        """Tokens of a conversation with its tools."""
        known = self._is_known(messages)
        base = float(self._tokens) if known else self.tools
        added = self.of_all(messages[known:])
        doubt = added * ESTIMATE_ERROR
        return Size(int(base + added - doubt), int(base + added), int(base + added + doubt))

    def learn(self, messages: Sequence[Message], tokens: int) -> None:
        """The conversation has so many tokens."""
        known = self._is_known(messages)
        before = self._estimated if known else self._tools
        self._estimated = before + sum(map(self._estimate, messages[known:]))
        self._known[known:], self._tokens = messages[known:], tokens
        self._ratio = min(3.0, max(0.3, tokens / max(1, self._estimated)))

    def _is_known(self, messages: Sequence[Message]) -> int:
        """How many messages the beginning has that is known; 0 if it is another now."""
        known = self._known
        return len(known) if list(messages[: len(known)]) == known else 0

    def _estimate(self, message: Message) -> int:
        found = self._estimates.get(id(message))
        if found is None or found[0] is not message:
            found = self._estimates[id(message)] = (message, estimate_message(message, self._model))
        return found[1]
