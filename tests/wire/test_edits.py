"""Conversations that move between providers and are edited on the way stay such as every provider takes them.

Hypothesis makes the conversations: with images, documents, parallel calls, results that are errors or pictures, and
replies of each provider with its own items. They are trimmed, summed up, compacted, moved and cut off. The real clients
build the requests, and the strict servers judge them: each raises at the first thing that its provider would reject.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trellis.environments.environment import Environment
from trellis.models.conformance import LOOKUP, one_page_pdf, solid_png
from trellis.models.legality import edit_problems, problems
from trellis.models.messages import Image, Message, Text, ToolResult, system, user
from trellis.models.tokens import estimate_message
from trellis.scaffolds.context import Context, ContextOptions, Policy
from trellis.scaffolds.episode import Budget, ContextFull, Episode
from trellis.scaffolds.task import Submission, Task
from trellis.scaffolds.trimming import exchanges
from trellis.tools.tool import Output

from .in_memory import CHAT, NEW_CLAUDE, OLD_CLAUDE, OPENAI, SLOPPY, Moving

PICTURE = solid_png((255, 0, 0))
PAPER = one_page_pdf("The word is heron.")
LONG = "A line of what was found there, with 42 numbers.\n" * 40


@dataclass(frozen=True)
class Turn:
    """The user says something; if the model calls tools for it, the results go to a provider as well."""

    asks: str
    answers: str
    keys: tuple[str, ...]
    """What tools are called for."""
    results: tuple[tuple[str, bool, bool], ...]
    """Text, with a picture, an error."""
    shows: tuple[Any, ...] = ()
    cut_to: float | None = None
    """Before the turn all from here on is forgotten, as a fraction."""


CLAUDE = "claude"
"""The one of the example: each of the two servers knows only its own thinking."""
PROVIDERS = st.sampled_from([OPENAI, CLAUDE, CHAT, SLOPPY])
RESULTS = st.tuples(st.sampled_from(["", "short", LONG]), st.booleans(), st.booleans())
TURNS = st.builds(
    Turn,
    asks=PROVIDERS,
    answers=PROVIDERS,
    keys=st.lists(st.sampled_from(["alpha", "beta", "gamma"]), unique=True, max_size=3).map(tuple),
    results=st.lists(RESULTS, min_size=3, max_size=3).map(tuple),
    shows=st.lists(st.sampled_from([PICTURE, PAPER]), max_size=2).map(tuple),
    cut_to=st.one_of(st.none(), st.none(), st.floats(0, 1)),
)


async def collect(environment: Environment | None, answer: str) -> Submission:
    return Submission(answer)


class Conversation:
    def __init__(self, episode: Episode, model: Moving, options: ContextOptions) -> None:
        self.model = model
        self.messages: list[Message] = [system("Be terse."), user("The task: answer what follows.", PICTURE)]
        self._context = Context(episode, options)
        self.edits = 0

    async def ask(self, provider: str) -> Message:
        self.model.at = self.model.claude if provider == CLAUDE else provider
        before = list(self.messages)
        assert not (wrong := problems(before)), wrong
        reply = await self._context.generate(self.messages)
        if self.messages != before:
            self.edits += 1
            assert not (wrong := edit_problems(before, self.messages)), wrong
            assert sum(map(estimate_message, self.messages)) < sum(map(estimate_message, before))
            assert self.messages[0] is before[0]
            seen = [part for message in self.messages for part in message.parts]
            assert PICTURE in seen or any("input_image" in str(getattr(part, "raw", "")) for part in seen)
        self.messages.append(reply.message)
        return reply.message

    async def turn(self, turn: Turn) -> None:
        if turn.cut_to is not None and (starts := exchanges(self.messages, 2)):
            del self.messages[starts[int(turn.cut_to * (len(starts) - 1))] :]
        quoted = ", ".join(f'"{key}"' for key in turn.keys)
        wish = f"Call the tool `lookup` with {quoted}." if turn.keys else f"Answer in one word: pong {LONG}"
        self.messages.append(user(wish, *turn.shows))
        said = await self.ask(turn.asks)
        for _ in range(2):  # what it is told after a compaction may make it call again
            for call, (text, shown, failed) in zip(said.tool_calls, cycle(turn.results), strict=False):
                parts: tuple[Text | Image, ...] = (Text(text), PICTURE) if shown else (Text(text),)
                self.messages.append(ToolResult(call.id, call.name, parts, failed).message)
            if not said.tool_calls:
                break
            said = await self.ask(turn.answers)
        for call in said.tool_calls:
            self.messages.append(ToolResult(call.id, call.name, (Text("enough"),)).message)


async def converse(turns: list[Turn], options: ContextOptions, claude: str, compacts: str) -> int:
    model = Moving(claude)
    model.compacts = claude if compacts == CLAUDE else compacts
    with tempfile.TemporaryDirectory() as folder:
        async with Episode.open(
            Path(folder),
            task=Task("t", (Text("t"),)),
            tools=[Lookup()],
            models={"main": model},
            seed=1,
            budget=Budget(),
            collect=collect,
            label="test/edits",
            environment=None,
            header={"episode": "e1"},
        ) as episode:
            conversation = Conversation(episode, model, options)
            for turn in turns:
                try:
                    await conversation.turn(turn)
                except ContextFull:  # it was too short to shorten: nothing illegal was sent
                    break
    return conversation.edits


class Lookup:
    spec = LOOKUP

    async def __call__(self, environment: Environment, /, **arguments: Any) -> Output:
        raise AssertionError("the test answers itself")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    turns=st.lists(TURNS, min_size=2, max_size=9),
    policy=st.sampled_from(["trim", "summarise", "native"]),
    window=st.integers(1200, 6000),
    claude=st.sampled_from([OLD_CLAUDE, NEW_CLAUDE]),
    compacts=st.sampled_from([OPENAI, CLAUDE]),
)
def test_what_is_sent_stays_legal(turns: list[Turn], policy: Policy, window: int, claude: str, compacts: str) -> None:
    asyncio.run(converse(turns, ContextOptions(context=policy, context_tokens=window), claude, compacts))


@pytest.mark.parametrize("policy", ["trim", "summarise", "native"])
@pytest.mark.parametrize("claude", [OLD_CLAUDE, NEW_CLAUDE])
def test_a_long_conversation_through_all_providers_is_edited_often(policy: Policy, claude: str) -> None:
    """That the property is about something."""
    keys, results = ("alpha", "beta"), ((LONG, True, False), (LONG, False, True))
    order = [OPENAI, CLAUDE, CHAT, SLOPPY]
    turns = [Turn(order[n % 4], order[(n + 1) % 4], keys, results) for n in range(12)]
    assert asyncio.run(converse(turns, ContextOptions(context=policy, context_tokens=4000), claude, CLAUDE)) >= 3
