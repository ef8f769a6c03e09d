"""SWE-agent: `.traj` of its last version, one conversation: `main`, or where no model was asked there the branch whose
work was handed in. An action is all that a reply did. `query`, the messages that each call sent, is not repeated: they
are in `history`."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trellis.models.messages import Media, Message, ToolResult
from trellis.trajectories.converters import lost, telling
from trellis.trajectories.converters.converter import Losses
from trellis.trajectories.converters.lost import MEDIA, ONE_CONVERSATION
from trellis.trajectories.converters.pieces import document, without_none
from trellis.trajectories.converters.telling import Told, Total, Turn

FORMAT = "swe-agent"
PLACE = "{benchmark}/{agent}/{epoch}/{task}/{task}.traj"
ACTIONS = "calls that were made in one reply (they are one action)"
TOKENS = "token counts of single calls, and by class (their sums are told)"
TIMES = "times, but for how long commands ran"
LOSSES = (*ONE_CONVERSATION, ACTIONS, TOKENS, TIMES)
_EXITS = {"completed": "submitted", "limit": "exit_cost", "fault": "exit_error", "cancelled": "exit_command"}


def write(told: Told, path: Path, losses: Losses) -> None:
    trajectory, total = told.trajectory, Total()
    branch = telling.spoken(trajectory)
    cost = 0.0
    with document(path) as pieces:
        with pieces.array("trajectory"):
            for turn in telling.turns(trajectory, branch):
                lost.count_turn(turn, losses)
                if turn.step.reply is not None:
                    total.add(turn.step)
                    cost += turn.step.reply.cost_usd or 0.0
                    losses.add(TOKENS)
                    pieces.put(_step(turn, losses))
        with pieces.array("history"):
            for turn in telling.turns(trajectory, branch):
                for item in _history(turn, losses):
                    pieces.put(item)
        pieces.put(_info(told, total, cost, losses), "info")
        pieces.members(environment="main", replay_config=None)
    lost.count_aside(told, branch, losses)
    losses.add(TIMES)


def _step(turn: Turn, losses: Losses) -> dict[str, Any]:
    step, reply = turn.step, turn.step.reply
    assert reply is not None
    said = telling.text_of(reply.message)
    losses.add(ACTIONS, len(turn.results) if len(turn.results) > 1 else 0)
    codes = {act.call.id: act.result.data.get("exit_code") for act, _ in turn.results if act.result}
    return {
        "action": "\n".join(telling.command_of(act.call) for act, _ in turn.results),
        "observation": "\n".join(act.result.text if act.result else "" for act, _ in turn.results),
        "response": said,
        "thought": said,
        "state": {},
        "execution_time": sum(act.ended_at - act.begun_at for act, _ in turn.results if act.ended_at is not None),
        "extra_info": without_none(
            step=step.number, model=step.model or None, exit_codes=codes or None, cost_usd=reply.cost_usd
        ),
    }


def _history(turn: Turn, losses: Losses) -> Iterator[dict[str, Any]]:
    def left_out(_: Media) -> None:
        losses.add(MEDIA)

    def said(message: Message) -> dict[str, Any]:
        kind = "system_prompt" if message.role == "system" else "observation"
        return without_none(
            role=message.role, content=telling.openai_content(message, left_out), agent="main",
            message_type="action" if message.role == "assistant" else kind, thinking_blocks=telling.thinking(message),
        )  # fmt: skip

    def observed(result: ToolResult) -> dict[str, Any]:
        return {**said(result.message), "tool_call_ids": [result.call_id]}

    for message in turn.fresh:
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        yield from map(observed, results) if results else (said(message),)
    if turn.step.reply is None:
        return
    reply = turn.step.reply.message
    calls = [telling.openai_call(call) for call in reply.tool_calls]
    action = "\n".join(telling.command_of(act.call) for act, _ in turn.results)
    thought = telling.text_of(reply)
    yield without_none(**said(reply), thought=thought, action=action, tool_calls=calls or None)
    for _, result in turn.results:
        if result is not None:
            yield observed(result)


def _info(told: Told, total: Total, cost: float, losses: Losses) -> dict[str, Any]:
    submission = lost.submission(told, losses)
    status = _EXITS.get(told.outcome.outcome, told.outcome.outcome) or ("submitted" if submission else None)
    return without_none(
        model_stats={
            "instance_cost": cost,
            "tokens_sent": total.usage.total_input,
            "tokens_received": total.usage.total_output,
            "api_calls": total.replies,
        },
        exit_status=status,
        submission=submission or None,
        trellis=without_none(header=told.header, score=told.outcome.score, limit=told.outcome.limit or None),
        swe_agent_version=f"trellis-agents {importlib.metadata.version('trellis-agents')}",
    )
