"""ATIF, the Agent Trajectory Interchange Format of Harbor (its RFC 0001), version 1.7: one JSON document an episode.

The agent's steps on `main` are the steps of the document. Every other branch is a document of its own in
`subagent_trajectories`, referred to by a step of the branch that opened it. What ATIF has no place for stands under
`extra`, in members of ours; images are files beside the document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trellis.models.messages import Image, Media, Message, Reasoning, Text, ToolCall, ToolResult
from trellis.models.model import Reply
from trellis.trajectories.converters import lost, telling
from trellis.trajectories.converters.converter import Losses
from trellis.trajectories.converters.lost import CONTENTS, JUDGED, LARGE, ORDER, PAYLOADS, REPEATED, SIDE, TIMES
from trellis.trajectories.converters.pieces import Pieces, document, without_none
from trellis.trajectories.converters.telling import Told, Total, Turn
from trellis.trajectories.trajectory import Act, Branch, Note

FORMAT = "atif"
PLACE = "{benchmark}/{task}/{agent}/{epoch}.json"
SCHEMA = "ATIF-v1.7"
MEDIA = "sounds, films and documents (their type is told)"
THOUGHTS = "replies with several pieces of reasoning (they are joined)"
TOOLS = "changes of the tools on offer"
LOSSES = (PAYLOADS, MEDIA, JUDGED, REPEATED, TOOLS, ORDER, THOUGHTS, CONTENTS, LARGE, SIDE, TIMES)
_IMAGES = {"image/jpeg": ".jpg", "image/png": ".png", "image/gif": ".gif", "image/webp": ".webp"}


def write(told: Told, path: Path, losses: Losses) -> None:
    with document(path) as pieces:
        _Document(told, pieces, path.with_name(f"{path.stem}.images"), losses).main()


class _Document:
    """One episode on its way into a file."""

    def __init__(self, told: Told, pieces: Pieces, images: Path, losses: Losses) -> None:
        self._told = told
        self._trajectory = told.trajectory
        self._pieces = pieces
        self._images = images
        self._losses = losses
        self._within = telling.within(told.trajectory)
        self._whole = Total()

    def main(self) -> None:
        told, put = self._told, self._pieces
        put.members(schema_version=SCHEMA, session_id=told.id or told.trajectory.path.parent.name)
        main = self._trajectory.branches["main"]
        self._agent(main)
        self._branch(main)
        whole = {"usage": self._whole.usage.to_json(), "cost_usd": self._whole.cost_usd}
        outcome = told.outcome
        put.put(
            {
                "trellis": without_none(
                    header=told.header,
                    outcome=outcome.outcome or None,
                    limit=outcome.limit or None,
                    fault=outcome.fault or None,
                    score=outcome.score,
                    total={**whole, "steps": len(self._trajectory)},
                    notes=self._opening_notes(main),
                )
            },
            "extra",
        )
        self._losses.add(JUDGED, self._trajectory.judged)
        self._losses.add(TIMES, int(told.began is None))
        self._losses.add(SIDE, telling.side_by_side(self._trajectory))

    def _agent(self, branch: Branch) -> None:
        """With the tools of a branch's first call."""
        told, header = self._told, self._told.header
        options = header.get("scaffold", {}).get("options")
        specs = self._trajectory.tools(self._trajectory.step(branch.steps[0]).tools) if branch.steps else ()
        self._pieces.put(
            without_none(
                name=told.agent or "unknown",
                version=str(header.get("packages", {}).get("trellis-agents") or header.get("trellis") or "unknown"),
                model_name=told.model or None,
                tool_definitions=[telling.openai_tool(spec) for spec in specs] or None,
                extra={"scaffold": header.get("scaffold", {}).get("name"), "options": options} if options else None,
            ),
            "agent",
        )

    # --- branches ---

    def _branch(self, branch: Branch) -> None:
        """Members `steps`, `final_metrics` and `subagent_trajectories` of the object that is open."""
        put, total, number = self._pieces, Total(), 0
        with put.array("steps"):
            for step in self._steps(branch, total):
                number += 1
                put.put({"step_id": number, **step})
            if not number:
                number = 1
                put.put({"step_id": 1, "source": "system", "message": "", "extra": {"empty": True}})
        usage = total.usage
        put.members(
            final_metrics=without_none(
                total_prompt_tokens=usage.total_input,
                total_completion_tokens=usage.total_output,
                total_cached_tokens=usage.cache_read,
                total_cost_usd=total.cost_usd,
                total_steps=number,
                extra={"usage": usage.to_json(), "replies": total.replies},
            )
        )
        children = self._within[branch.name]
        if not children:
            return
        put.put("The totals are those of this document's own steps; subagent_trajectories have totals of their own.",
                "notes")  # fmt: skip
        with put.array("subagent_trajectories"):
            for child in children:
                with put.object():
                    put.members(schema_version=SCHEMA, trajectory_id=child.name)
                    self._agent(child)
                    self._branch(child)
                    put.put(
                        {
                            "trellis": without_none(
                                branch=child.name,
                                origin=child.parent,
                                position=child.position,
                                notes=self._opening_notes(child),
                            )
                        },
                        "extra",
                    )

    def _steps(self, branch: Branch, total: Total) -> Iterator[dict[str, Any]]:
        """In the order in which they began: what the scaffold did itself, steps, and where other branches begin."""
        waiting = list(self._within[branch.name])

        def begun(before: int | None) -> Iterator[dict[str, Any]]:
            while waiting and (before is None or waiting[0].seq < before):
                yield self._begins(waiting.pop(0))

        for act in telling.opening(self._trajectory, branch):
            yield from begun(act.seq)
            yield self._own(act)
        tools = None
        for turn in telling.turns(self._trajectory, branch):
            yield from begun(turn.step.seq)
            total.add(turn.step)
            self._whole.add(turn.step)
            self._losses.add(TOOLS, int(tools not in (None, turn.step.tools)))
            tools = turn.step.tools
            yield from self._turn(turn)
        yield from begun(None)

    def _begins(self, branch: Branch) -> dict[str, Any]:
        ref = {"trajectory_id": branch.name}
        return without_none(
            timestamp=self._told.when(self._trajectory.file.entries[branch.seq].at),
            source="system",
            message=f"Branch {branch.name} begins.",
            observation={"results": [{"subagent_trajectory_ref": [ref]}]},
        )

    def _own(self, act: Act) -> dict[str, Any]:
        """What the scaffold did by itself: no model was asked."""
        return without_none(
            timestamp=self._told.when(act.begun_at),
            source="agent",
            message="",
            tool_calls=[_call(act.call)],
            observation=self._observation([(act, act.result)]),
            llm_call_count=0,
        )

    def _turn(self, turn: Turn) -> Iterator[dict[str, Any]]:
        step, reply = turn.step, turn.step.reply
        at = self._told.when(step.begun_at)
        for message in turn.fresh:
            yield from self._said(message, at)
        self._losses.add(REPEATED, int(turn.shortened))
        told = without_none(
            kind=step.kind if step.kind != "generate" else None,
            role=step.role if step.role != "main" else None,
            config={name: value for name, value in step.config.items() if name != "reasoning_effort"} or None,
            kept=step.kept if turn.shortened else None,
            overflow=step.overflow or None,
            cut_off=True if reply is None and not step.overflow else None,
            notes=[self._note(note) for note in step.notes] or None,
        )
        if reply is None:
            yield without_none(timestamp=at, source="agent", message="", model_name=step.model or None,
                               reasoning_effort=step.config.get("reasoning_effort"), llm_call_count=1,
                               extra=told or None)  # fmt: skip
        else:
            yield self._answered(turn, reply, at, told)
        for act in turn.alone:
            yield self._own(act)

    def _answered(self, turn: Turn, reply: Reply, at: str | None, told: Mapping[str, Any]) -> dict[str, Any]:
        step, usage = turn.step, reply.usage
        self._losses.add(PAYLOADS, lost.payloads(reply.message))
        self._losses.add(ORDER, int(lost.regrouped(reply.message)))
        self._losses.add(THOUGHTS, int(len(_thoughts(reply.message)) > 1))
        return without_none(
            timestamp=at,
            source="agent",
            model_name=step.model or None,
            reasoning_effort=step.config.get("reasoning_effort"),
            message=self._content(reply.message),
            reasoning_content=telling.reasoning_of(reply.message) or None,
            tool_calls=[_call(call) for call in reply.tool_calls] or None,
            observation=self._observation(turn.results),
            metrics=without_none(
                prompt_tokens=usage.total_input,
                completion_tokens=usage.total_output,
                cached_tokens=usage.cache_read,
                cost_usd=reply.cost_usd,
                extra={"usage": usage.to_json(), "latency_s": reply.latency_s, **telling.rare(reply)},
            ),
            llm_call_count=1,
            extra={**told, "step": step.number, "stop_reason": reply.stop_reason},
        )

    def _said(self, message: Message, at: str | None) -> Iterator[dict[str, Any]]:
        """A message that came from elsewhere than this branch. What a model once said there is context only."""
        self._losses.add(PAYLOADS, lost.payloads(message))
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        if message.role == "assistant":
            self._losses.add(ORDER, int(lost.regrouped(message)))
            self._losses.add(THOUGHTS, int(len(_thoughts(message)) > 1))
            yield without_none(
                timestamp=at,
                source="agent",
                message=self._content(message),
                reasoning_content=telling.reasoning_of(message) or None,
                tool_calls=[_call(call) for call in message.tool_calls] or None,
                is_copied_context=True,
            )
            return
        if results:
            yield without_none(timestamp=at, source="system", message="", is_copied_context=True,
                               observation={"results": [self._shown(result) for result in results]})  # fmt: skip
        if len(results) < len(message.parts):
            source = "system" if message.role == "system" else "user"
            yield without_none(timestamp=at, source=source, message=self._content(message))

    # --- parts ---

    def _opening_notes(self, branch: Branch) -> list[dict[str, Any]] | None:
        """What happened in a branch before its first step, besides tool calls."""
        acts = set(branch.acts)
        return [self._note(self._trajectory.note(seq)) for seq in branch.opening if seq not in acts] or None

    def _note(self, note: Note) -> dict[str, Any]:
        return {"kind": note.kind, "at": note.at, "data": lost.note_data(self._told, note, self._losses)}

    def _observation(self, results: Sequence[tuple[Act, ToolResult | None]]) -> dict[str, Any] | None:
        if not results:
            return None
        listed = []
        for act, result in results:
            facts = dict(act.result.data) if act.result is not None else {}
            differs = act.result is not None and result is not None and act.result.parts != result.parts
            extra = without_none(
                is_error=True if result is not None and result.is_error else None,
                cut_off=True if result is None else None,
                data=facts or None,
                output=self._parts(act.result.parts) if act.result is not None and differs else None,
                handed_in=act.handed_in,
                ended_at=self._told.when(act.ended_at) if act.ended_at is not None else None,
                **lost.changes(act, self._losses),
            )
            content = self._parts(result.parts) if result is not None else None
            listed.append(without_none(source_call_id=act.call.id, content=content, extra=extra or None))
        return {"results": listed}

    def _shown(self, result: ToolResult) -> dict[str, Any]:
        extra = without_none(call_id=result.call_id, name=result.name, is_error=result.is_error or None)
        return {"content": self._parts(result.parts), "extra": extra}

    def _content(self, message: Message) -> str | list[dict[str, Any]]:
        return self._parts([part for part in message.parts if isinstance(part, Text | Media)])

    def _parts(self, parts: Sequence[Any]) -> str | list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        for part in parts:
            if isinstance(part, Text):
                made.append({"type": "text", "text": part.text})
            elif isinstance(part, Image) and part.media_type in _IMAGES:
                source = {"media_type": part.media_type, "path": self._image(part)}
                made.append({"type": "image", "source": source})
            else:
                self._losses.add(MEDIA)
                made.append({"type": "text", "text": f"[{part.media_type}]"})
        return telling.text_or_parts(made)

    def _image(self, image: Image) -> str:
        name = telling.digest(image.data) + _IMAGES[image.media_type]
        self._images.mkdir(exist_ok=True)
        file = self._images / name
        if not file.exists():
            file.write_bytes(image.data)
        return f"{self._images.name}/{name}"


def _thoughts(message: Message) -> list[Reasoning]:
    return [part for part in message.parts if isinstance(part, Reasoning)]


def _call(call: ToolCall) -> dict[str, Any]:
    extra = {"malformed": call.malformed} if call.malformed else None
    return without_none(tool_call_id=call.id, function_name=call.name, arguments=dict(call.arguments), extra=extra)
