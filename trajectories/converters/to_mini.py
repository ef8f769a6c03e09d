"""mini-swe-agent: `.traj.json` of version 1.1, the messages of one conversation. Of a run also `preds.json`, the
patches as graders of SWE-bench take them.

The format has one conversation: `main`, or where nothing happened there the branch whose work was handed in.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trellis.models.messages import Media, Message, ToolResult
from trellis.trajectories.converters import lost, telling
from trellis.trajectories.converters.converter import Losses
from trellis.trajectories.converters.lost import MEDIA, ONE_CONVERSATION, TIMES
from trellis.trajectories.converters.pieces import Pieces, document, without_none
from trellis.trajectories.converters.telling import Told, Total, Turn
from trellis.trajectories.trajectory import Act

FORMAT = "mini-swe-agent"
PLACE = "{benchmark}/{agent}/{epoch}/{task}/{task}.traj.json"
LOSSES = (*ONE_CONVERSATION, TIMES)
_EXITS = {"completed": "Submitted", "limit": "LimitsExceeded", "refused": "Refused", "cancelled": "UserInterruption"}


def write(told: Told, path: Path, losses: Losses) -> None:
    with document(path) as pieces:
        _Document(told, pieces, losses).all()


def prediction(told: Told) -> dict[str, str] | None:
    """The line of `preds.json`; None: what was handed in is no patch."""
    handed_in = told.submission()
    patch = telling.patch_of(handed_in[1]) if handed_in else None
    if patch is None:
        return None
    return {"model_name_or_path": told.model, "instance_id": told.task, "model_patch": patch}


class _Document:
    def __init__(self, told: Told, pieces: Pieces, losses: Losses) -> None:
        self._told = told
        self._pieces = pieces
        self._losses = losses
        self._total = Total()
        self._cost = 0.0

    def all(self) -> None:
        told, put, trajectory = self._told, self._pieces, self._told.trajectory
        branch = telling.spoken(trajectory)
        status, submission = self._exit()
        with put.array("messages"):
            for turn in telling.turns(trajectory, branch):
                for message in self._messages(turn):
                    put.put(message)
            exit = {"role": "exit", "content": submission,
                    "extra": {"exit_status": status, "submission": submission}}  # fmt: skip
            put.put(exit)
        put.put(self._info(status, submission), "info")
        put.members(trajectory_format="mini-swe-agent-1.1", instance_id=told.task or None)
        lost.count_aside(told, branch, self._losses)
        self._losses.add(TIMES, int(told.began is None))

    def _info(self, status: str, submission: str) -> dict[str, Any]:
        told = self._told
        return {
            "model_stats": {"instance_cost": self._cost, "api_calls": self._total.replies},
            "config": {
                "agent": {"name": told.agent, **told.header.get("scaffold", {}).get("options", {})},
                "agent_type": f"trellis.{told.header.get('scaffold', {}).get('name') or told.agent}",
                "model": {"model_name": told.model},
                "model_type": "trellis",
                "environment": told.header.get("environment") or {},
                "environment_type": "trellis",
            },
            "mini_version": f"trellis-agents {importlib.metadata.version('trellis-agents')}",
            "exit_status": status,
            "submission": submission,
            "trellis": without_none(header=told.header, score=told.outcome.score, limit=told.outcome.limit or None),
        }

    def _exit(self) -> tuple[str, str]:
        """The status, and what was handed in."""
        outcome, submission = self._told.outcome.outcome, lost.submission(self._told, self._losses)
        return _EXITS.get(outcome, outcome or ("Submitted" if submission else "")), submission

    def _messages(self, turn: Turn) -> Iterator[dict[str, Any]]:
        step, reply = turn.step, turn.step.reply
        lost.count_turn(turn, self._losses)
        for message in turn.fresh:
            yield from self._said(message, self._seconds(step.begun_at))
        if reply is None:
            return
        self._total.add(step)
        self._cost += reply.cost_usd or 0.0
        acts = [{"command": telling.command_of(act.call), "tool_call_id": act.call.id} for act, _ in turn.results]
        yield without_none(
            role="assistant",
            content=telling.openai_content(reply.message, self._left_out),
            reasoning_content=telling.reasoning_of(reply.message) or None,
            thinking_blocks=telling.thinking(reply.message),
            tool_calls=[telling.openai_call(call) for call in reply.tool_calls] or None,
            extra=without_none(
                actions=acts,
                cost=reply.cost_usd or 0.0,
                timestamp=self._seconds(step.ended_at),
                response=_response(step.model, reply),
            ),
        )
        for act, result in turn.results:
            yield self._observation(act, result)

    def _said(self, message: Message, at: float | None) -> Iterator[dict[str, Any]]:
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        for result in results:
            yield {"role": "tool", "tool_call_id": result.call_id,
                   "content": telling.openai_content(result.message, self._left_out), "extra": {}}  # fmt: skip
        if results:
            return
        yield without_none(
            role=message.role,
            content=telling.openai_content(message, self._left_out),
            reasoning_content=telling.reasoning_of(message) or None,
            thinking_blocks=telling.thinking(message),
            tool_calls=[telling.openai_call(call) for call in message.tool_calls] or None,
            extra=without_none(timestamp=at),
        )

    def _observation(self, act: Act, result: ToolResult | None) -> dict[str, Any]:
        failed = "the call was cut off" if act.result is None else "the call failed" if act.result.is_error else ""
        return {
            "role": "tool",
            "tool_call_id": act.call.id,
            "content": telling.openai_content(result.message, self._left_out) if result else "",
            "extra": without_none(
                raw_output=act.result.text if act.result is not None else "",
                returncode=-1 if act.result is None else act.result.data.get("exit_code"),
                timestamp=self._seconds(act.ended_at),
                exception_info=failed,
            ),
        }

    def _seconds(self, at: float | None) -> float | None:
        began = self._told.began
        return None if began is None or at is None else began.timestamp() + at

    def _left_out(self, _: Media) -> None:
        self._losses.add(MEDIA)


def _response(model: str, reply: Any) -> dict[str, Any]:
    usage = reply.usage
    return {
        "model": model,
        "choices": [{"finish_reason": "content_filter" if reply.stop_reason == "refusal" else reply.stop_reason}],
        "usage": {
            "prompt_tokens": usage.total_input,
            "completion_tokens": usage.total_output,
            "total_tokens": usage.total,
            "cache_creation_input_tokens": usage.cache_write,
            "prompt_tokens_details": {"cached_tokens": usage.cache_read},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
        },
    }
