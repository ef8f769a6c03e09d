"""OpenTelemetry: spans by the conventions for generative AI, to a collector (OTLP over HTTP) or a file.

A run is a span, an episode in it `invoke_agent`, a branch in that a span of its own, and in these `chat` and
`execute_tool`. What was said is left out unless it is asked for. A file holds requests of OTLP as JSON, one a line, as
the collector's file receiver reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trellis.models.messages import Media, Message, Reasoning, Text, ToolCall, ToolResult
from trellis.models.model import Usage
from trellis.trajectories.converters import lost, telling
from trellis.trajectories.converters.converter import ConversionError, Losses
from trellis.trajectories.converters.lost import HEADER, OUTCOME, PAYLOADS
from trellis.trajectories.converters.pieces import dumped
from trellis.trajectories.converters.telling import Told, Total
from trellis.trajectories.recorded import GRADER
from trellis.trajectories.trajectory import Act, Branch, Step

FORMAT = "otel"
PLACE = "spans.json"
SAID = "messages, arguments and results (--content sends them)"
MEDIA = "images, sounds, films and documents"
NOTES = "events of the scaffold and of the world besides nodes of a search"
SETTINGS = "settings of calls but for temperature, length and seed"
RESULTS = "facts of tool results (exit codes are told)"
LOSSES = (SAID, MEDIA, PAYLOADS, SETTINGS, RESULTS, NOTES, OUTCOME, HEADER)
_BATCH = 256
"""Spans that are sent at a time."""
_PROVIDERS = {"bedrock": "aws.bedrock", "vertex": "gcp.vertex_ai", "google": "gcp.gemini", "azure": "azure.ai.openai"}


@dataclass(frozen=True, slots=True)
class Span:
    """Times are nanoseconds since 1970; ids are as wide as OpenTelemetry's: 128 and 64 bits."""

    name: str
    trace: int
    id: int
    parent: int | None
    start: int
    end: int
    attributes: Mapping[str, Any]
    error: str = ""
    """Empty: none."""
    client: bool = False
    """A call to a service elsewhere."""
    evaluation: Mapping[str, Any] | None = None
    """The attributes of an event `gen_ai.evaluation.result` at its end."""


class Takes(Protocol):
    """Where spans go."""

    def take(self, spans: Sequence[Span]) -> bool:
        """Were they taken?"""
        ...


def write(episodes: Iterable[Told], target: Takes, losses: Losses, *, run: str = "", content: bool = False) -> int:
    """Hands the spans over, those of a `run` below a span for it. Returns how many they were.

    Raises:
        ConversionError: they were not taken.
    """
    batch: list[Span] = []
    count, times = 0, []
    for told in episodes:
        episode = _Episode(told, losses, run, content)
        times += [episode.ns(0.0), episode.ns(told.ended_at)]
        for span in episode.spans():
            batch.append(span)
            count += 1
            if len(batch) == _BATCH:
                _hand_over(batch, target)
    if run and times:
        trace, id = _ids(run, "run")
        batch.append(Span(f"run {run}", trace, id, None, min(times), max(times), {"trellis.run.id": run}))
        count += 1
    _hand_over(batch, target)
    return count


def _hand_over(batch: list[Span], target: Takes) -> None:
    if batch and not target.take(tuple(batch)):
        raise ConversionError(f"{target} did not take the spans")
    batch.clear()


class _Episode:
    """One episode as spans."""

    def __init__(self, told: Told, losses: Losses, run: str, content: bool) -> None:
        self._told = told
        self._trajectory = told.trajectory
        self._losses = losses
        self._content = content
        self._zero = told.clock_zero.timestamp()
        self._id = told.id or str(told.trajectory.path.resolve())
        self._trace = _ids(run or self._id, "")[0]
        self._parent = _ids(run, "run")[1] if run else None

    def ns(self, at: float) -> int:
        """A time on the episode's clock in nanoseconds since 1970."""
        return int((self._zero + at) * 1e9)

    def spans(self) -> Iterator[Span]:
        trajectory = self._trajectory
        nodes = {note.data.get("branch"): note.data for note in trajectory.notes("node")}
        above = {child.name: name for name, kids in telling.within(trajectory).items() for child in kids}
        usage: dict[str, Usage] = {}
        for branch in trajectory.branches.values():
            total = Total()
            ends = trajectory.file.entries[branch.seq].at
            id = self._of(f"branch {branch.name}") if branch.name in above else self._of("episode")
            for span, ended_at in self._inner(branch, id, total):
                ends = max(ends, ended_at)
                yield span
            if branch.name in above:
                yield self._branch(branch, above, id, ends, nodes.get(branch.name))
            if branch.name != GRADER:
                usage[branch.name] = total.usage
        self._losses.add(NOTES, telling.notes_in(trajectory) - sum(1 for _ in trajectory.notes("node")))
        self._losses.add(OUTCOME, sum(1 for _ in trajectory.notes("submit")))
        self._losses.add(HEADER, lost.facts_of(trajectory.header))
        yield self._root(sum(usage.values(), Usage()))

    def _root(self, usage: Usage) -> Span:
        told, outcome = self._told, self._told.outcome
        provider, model = _named(told.model)
        score, evaluation = outcome.score, None
        if score is not None:
            success = score.get("success")
            evaluation = _known(
                {
                    "gen_ai.evaluation.name": told.benchmark.partition(":")[0] or "score",
                    "gen_ai.evaluation.score.value": float(score["value"]),
                    "gen_ai.evaluation.score.label": None if success is None else "pass" if success else "fail",
                    "gen_ai.evaluation.explanation": score.get("explanation") if self._content else None,
                }
            )
        return Span(
            f"invoke_agent {told.agent}", self._trace, self._of("episode"), self._parent, self.ns(0.0),
            self.ns(told.ended_at),
            _known({
                "gen_ai.operation.name": "invoke_agent", "gen_ai.provider.name": provider,
                "gen_ai.agent.name": told.agent, "gen_ai.conversation.id": self._id, "gen_ai.request.model": model,
                **_tokens(usage), "error.type": outcome.outcome if outcome.fault else None,
                "trellis.benchmark": told.benchmark or None, "trellis.task": told.task or None,
                "trellis.epoch": told.epoch, "trellis.outcome": outcome.outcome or None,
                "trellis.limit": outcome.limit or None, "trellis.cost_usd": outcome.cost_usd,
            }),
            outcome.fault, evaluation=evaluation,
        )  # fmt: skip

    def _branch(
        self, branch: Branch, above: Mapping[str, str], id: int, ends: float,
        node: Mapping[str, Any] | None,
    ) -> Span:  # fmt: skip
        parent = above[branch.name]
        told = {
            f"trellis.node.{name}": (node or {}).get(name) for name in ("id", "stage", "metric", "is_buggy", "best")
        }
        begun = self._trajectory.file.entries[branch.seq].at
        return Span(
            f"branch {branch.name}", self._trace, id, self._of(f"branch {parent}" if parent in above else "episode"),
            self.ns(begun), self.ns(ends),
            _known({"trellis.branch.name": branch.name, "trellis.branch.origin": branch.parent,
                    "trellis.branch.position": branch.position, **told}),
        )  # fmt: skip

    def _inner(self, branch: Branch, parent: int, total: Total) -> Iterator[tuple[Span, float]]:
        trajectory = self._trajectory
        for act in telling.opening(trajectory, branch):
            yield self._tool(act, parent)
        judged = branch.name == GRADER
        for step in trajectory.judgements() if judged else map(trajectory.step, branch.steps):
            total.add(step)
            yield self._chat(step, parent, "judge" if judged else "")
            for act in step.acts:
                yield self._tool(act, parent)

    def _chat(self, step: Step, parent: int, evaluating: str) -> tuple[Span, float]:
        reply = step.reply
        provider, model = _named(step.model)
        ends = step.ended_at if step.ended_at is not None else step.begun_at
        error = "context_overflow" if step.overflow else None if reply is not None else "cut_off"
        facts: dict[str, Any] = {
            "gen_ai.operation.name": "chat", "gen_ai.provider.name": provider, "gen_ai.request.model": model,
            "gen_ai.conversation.id": self._id, "gen_ai.request.temperature": step.config.get("temperature"),
            "gen_ai.request.max_tokens": step.config.get("max_output_tokens"),
            "gen_ai.request.seed": step.config.get("seed"), "error.type": error,
            "trellis.step": step.number or None, "trellis.branch.name": step.branch,
            "trellis.role": step.role if step.role != "main" or evaluating else None,
        }  # fmt: skip
        if reply is not None:
            facts |= {
                "gen_ai.response.finish_reasons": ["content_filter" if reply.stop_reason == "refusal"
                                                   else reply.stop_reason],
                **_tokens(reply.usage), "trellis.cost_usd": reply.cost_usd, "trellis.retries": reply.retries or None,
                "trellis.waited_s": reply.waited_s or None, "trellis.cached": reply.cached or None,
            }  # fmt: skip
        self._losses.add(SETTINGS, int(bool(step.config.keys() - {"temperature", "max_output_tokens", "seed"})))
        if self._content:
            facts |= self._said(step)
            self._losses.add(PAYLOADS, lost.payloads(reply.message) if reply is not None else 0)
        else:
            self._losses.add(SAID, len(step.given) + (reply is not None))
        span = Span(f"chat {model}", self._trace, self._of(str(step.seq)), parent, self.ns(step.begun_at),
                    self.ns(ends), _known(facts), error or "", client=True)  # fmt: skip
        return span, ends

    def _tool(self, act: Act, parent: int) -> tuple[Span, float]:
        result, call = act.result, act.call
        ends = act.ended_at if act.ended_at is not None else act.begun_at
        error = "cut_off" if result is None else "tool_error" if result.is_error else None
        facts: dict[str, Any] = {
            "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": call.name, "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": call.id, "error.type": error,
            "trellis.exit_code": result.data.get("exit_code") if result is not None else None,
        }  # fmt: skip
        self._losses.add(RESULTS, int(lost.has_facts(act)))
        if self._content:
            facts["gen_ai.tool.call.arguments"] = call.malformed or dumped(dict(call.arguments))
            facts["gen_ai.tool.call.result"] = result.text if result is not None else None
        else:
            self._losses.add(SAID, 1 + (result is not None))
        span = Span(f"execute_tool {call.name}", self._trace, self._of(str(act.seq)), parent, self.ns(act.begun_at),
                    self.ns(ends), _known(facts), error or "")  # fmt: skip
        return span, ends

    def _said(self, step: Step) -> dict[str, Any]:
        """What is new in this call. Sending all of it with each call would grow with its square."""
        system = [part for message in step.given if message.role == "system" for part in self._parts(message)]
        said = [message for message in step.given if message.role != "system"]
        facts: dict[str, Any] = {"trellis.input.kept": step.kept}
        if system:
            facts["gen_ai.system_instructions"] = dumped(system)
        facts["gen_ai.input.messages"] = dumped([{"role": m.role, "parts": self._parts(m)} for m in said])
        if step.reply is not None:
            made = {"role": "assistant", "parts": self._parts(step.reply.message),
                    "finish_reason": step.reply.stop_reason}  # fmt: skip
            facts["gen_ai.output.messages"] = dumped([made])
        if step.turn == 1 and (specs := self._trajectory.tools(step.tools)):
            facts["gen_ai.tool.definitions"] = dumped([{"type": "function", **spec.to_json()} for spec in specs])
        return facts

    def _parts(self, message: Message) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        for part in message.parts:
            match part:
                case Text():
                    made.append({"type": "text", "content": part.text})
                case Reasoning() if part.text:
                    made.append({"type": "reasoning", "content": part.text})
                case ToolCall():
                    arguments: Any = part.malformed or dict(part.arguments)
                    made.append({"type": "tool_call", "id": part.id, "name": part.name, "arguments": arguments})
                case ToolResult():
                    made.append({"type": "tool_call_response", "id": part.call_id, "response": part.text})
                    self._losses.add(MEDIA, sum(isinstance(inner, Media) for inner in part.parts))
                case Media():
                    self._losses.add(MEDIA)
        return made

    def _of(self, what: str) -> int:
        return _ids(self._id, what)[1]


def _ids(whole: str, what: str) -> tuple[int, int]:
    """The id of a trace and of a span in it; the same in each export, so that what was sent twice is seen to be one."""
    return int(telling.digest(f"trace {whole}")[:32], 16), int(telling.digest(f"{whole}/{what}")[:16], 16)


def _known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


def _named(model: str) -> tuple[str, str]:
    """The provider and the model, as OpenTelemetry names them."""
    provider, slash, name = model.partition("/")
    if not slash:
        return "unknown", model or "unknown"
    return _PROVIDERS.get(provider, provider), name


def _tokens(usage: Usage) -> dict[str, Any]:
    """Token counts; those of input include what was read from a cache or written to one."""
    return {
        "gen_ai.usage.input_tokens": usage.total_input,
        "gen_ai.usage.output_tokens": usage.total_output,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read or None,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write + usage.cache_write_1h or None,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning or None,
    }
