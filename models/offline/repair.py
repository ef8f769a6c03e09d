"""`offline/repair`: generate-and-validate program repair through tool calls. No language model.

It sees what any model sees: the conversation. It lists and reads the code, runs the visible tests with a trace of the
lines they execute, ranks lines (Ochiai, tracebacks, words of the report), tries typed mutations at the best ones in
batches inside the world, keeps the edit that helps, runs the suite and hands in. Where no visible test shows the bug,
the report alone decides, and it is often wrong. Of several proposals it chooses the one that reads best by counting.

A pure function of messages, tools and seed: a plan (`repair_plan`) is run over the recorded conversation from its
beginning at each call, and what it wants next is the reply. The seed of the first call is carried on in the ids of
the tool calls, so that all turns of a conversation draw from one stream.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from random import Random
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from trellis.models.messages import Message, Part, Text, ToolCall, ToolResult
from trellis.models.model import GenerateConfig, Reply, StopReason, ToolSpec
from trellis.models.offline.repair_plan import SUBMIT, Effort, Plan, Turn, manage, repair
from trellis.models.offline.repair_prompt import Choice, Request, understand
from trellis.models.tokens import estimate_usage

_CALL_ID = re.compile(r"repair-([0-9a-f]+)-\d+-\d+")


class Repair(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str] = "offline/repair"

    batch: int = Field(default=100, ge=1)
    """Candidate edits tried by one tool call."""
    batches: int = Field(default=4, ge=1)
    """Tool calls with candidates before it gives up."""
    spread: float = Field(default=0.1, ge=0)
    """Noise on the ranking, as standard deviation of the score's logarithm: how much two seeds differ."""

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        """The next turn of the plan. Its price is known: 0 USD."""
        offered = {tool.name for tool in tools}
        # Ranking takes up to seconds of computing: other episodes go on meanwhile.
        message = await asyncio.to_thread(self._answer, messages, offered, config.seed or 0)
        stop: StopReason = "tool_calls" if message.tool_calls else "stop"
        return Reply(message, stop, estimate_usage(messages, message, tools), cost_usd=0.0)

    def _answer(self, messages: Sequence[Message], tools: set[str], seed: int) -> Message:
        made = [message for message in messages if message.role == "assistant"]
        earlier = next((_CALL_ID.fullmatch(call.id) for message in made for call in message.tool_calls), None)
        seed = int(earlier[1], 16) if earlier else seed
        turn = _next_turn(self._plan(messages, seed), messages)
        if any(act.tool not in tools for act in turn.acts) or not turn.acts:
            turn = Turn("This is nothing I can do.", (SUBMIT,) if "submit" in tools else ())
        calls = [
            ToolCall(f"repair-{seed:x}-{len(made) + 1}-{i}", act.tool, act.arguments)
            for i, act in enumerate(turn.acts, 1)
        ]
        parts: tuple[Part, ...] = (Text(turn.says), *calls)
        return Message("assistant", parts)

    def _plan(self, messages: Sequence[Message], seed: int) -> Plan:
        match understand(messages):
            case Request() as request:
                effort = Effort(self.batch, self.batches, self.spread)
                return repair(request, effort, Random(seed))
            case Choice() as choice:
                return manage(choice)
        return _nothing()


def _nothing() -> Plan:
    yield Turn("I do not understand this task: I hand in nothing.", (SUBMIT,))


def _next_turn(plan: Plan, messages: Sequence[Message]) -> Turn:
    """Run a plan over the turns of it that have been made: other calls than it asks for are another's (of a fork, say),
    and tell it nothing. A conversation that goes on after its end is handed in again."""
    results = {part.call_id: part for m in messages for part in m.parts if isinstance(part, ToolResult)}
    turn = next(plan)
    for message in messages:
        if message.tool_calls and [call.name for call in message.tool_calls] == [act.tool for act in turn.acts]:
            told = [results[call.id].text if call.id in results else "" for call in message.tool_calls]
            try:
                turn = plan.send(told)
            except StopIteration:
                return Turn("There is nothing left to do.", (SUBMIT,))
    return turn
