"""What every exporter reads: an episode as its trajectory and its run tell it, and a branch as a conversation."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from trellis.models.messages import Media, Message, Reasoning, Text, ToolCall, ToolResult
from trellis.models.model import Reply, Usage
from trellis.trajectories.converters.pieces import dumped
from trellis.trajectories.recorded import GRADER, RARE
from trellis.trajectories.trajectory import Act, Branch, Note, Step, Trajectory


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the run of an episode says became of it. A trajectory that is in no run has none."""

    run: str = ""
    outcome: str = ""
    """`completed`, `limit`, `refused`, `fault` or `cancelled`; empty: unknown."""
    limit: str = ""
    fault: str = ""
    score: Mapping[str, Any] | None = None
    """`value`, `success`, `valid`, `explanation`, `evidence` and `flags`."""
    cost_usd: float | None = None
    time_s: float | None = None
    """How long the agent worked."""
    wall_s: float | None = None
    started_at: datetime | None = None
    """When it was begun, or last resumed."""
    ended_at: datetime | None = None


@dataclass(slots=True)
class Told:
    """One episode, open for reading."""

    trajectory: Trajectory
    outcome: Outcome = field(default_factory=Outcome)
    began: datetime | None = None
    """When the episode's clock stood at 0; None: nobody knows."""

    # --- which episode it was ---

    @property
    def header(self) -> Mapping[str, Any]:
        return self.trajectory.header

    @property
    def task(self) -> str:
        return str(self.header.get("episode", {}).get("task", ""))

    @property
    def benchmark(self) -> str:
        return str(self.header.get("episode", {}).get("benchmark", ""))

    @property
    def agent(self) -> str:
        return str(self.header.get("episode", {}).get("agent", "") or self.header.get("scaffold", {}).get("name", ""))

    @property
    def epoch(self) -> int:
        return int(self.header.get("episode", {}).get("epoch", 1))

    @property
    def model(self) -> str:
        """The main model, or the first that answered."""
        models = self.header.get("models", {})
        first = next(iter(models.values()), "") or next((step.model for step in self.trajectory.steps()), "")
        return str(models.get("main", first))

    @property
    def id(self) -> str:
        """The same for the same episode of the same run, and for no other."""
        where = (self.outcome.run, self.benchmark, self.task, self.agent, str(self.epoch))
        return "/".join(filter(None, where))

    # --- when ---

    @property
    def ended_at(self) -> float:
        """On the episode's clock."""
        return self.trajectory.file.entries[-1].at

    @property
    def clock_zero(self) -> datetime:
        """When the episode's clock stood at 0. What no run says is reckoned from when the log was last written."""
        if self.began is not None:
            return self.began
        written = self.trajectory.path.stat().st_mtime
        return datetime.fromtimestamp(written - self.ended_at, UTC)

    def when(self, at: float) -> str | None:
        """A time on the episode's clock as ISO 8601; None: nobody knows when the episode began."""
        return None if self.began is None else iso(self.began.timestamp() + at)

    # --- what it came to ---

    def submission(self) -> tuple[str, Mapping[str, bytes]] | None:
        """The answer and the files that were handed in last; None: nothing was."""
        last: Note | None = None
        for note in self.trajectory.notes("submit"):
            last = note if note.data.get("answer") is not None else last
        if last is None:
            return None
        load = self.trajectory.blobs.load
        answer = last.data["answer"]
        return answer["answer"], {name: load(blob) for name, blob in answer["files"].items()}


@dataclass(slots=True)
class Total:
    """Usage and costs of some steps."""

    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = 0.0
    replies: int = 0

    def add(self, step: Step) -> None:
        if step.reply is None:
            return
        self.replies += 1
        self.usage += step.reply.usage
        known = self.cost_usd is not None and step.reply.cost_usd is not None
        self.cost_usd = self.cost_usd + step.reply.cost_usd if known else None  # type: ignore[operator]


@contextmanager
def told(path: Path, outcome: Outcome | None = None) -> Iterator[Told]:
    """Raises LogError, OSError."""
    outcome = outcome or Outcome()
    with Trajectory(path) as trajectory:
        if not outcome.outcome and (elsewhere := trajectory.header.get("imported")):
            score = elsewhere.get("score")
            outcome = replace(outcome, outcome=elsewhere.get("outcome") or "",
                              score=None if score is None else {"value": score})  # fmt: skip
        entries, began = trajectory.file.entries, outcome.started_at
        if outcome.ended_at is not None and any(entry.kind == "resumed" for entry in entries):
            began = outcome.ended_at - timedelta(seconds=entries[-1].at)  # the clock stood still in between
        yield Told(trajectory, outcome, began)


# --- a branch as a conversation ---


@dataclass(frozen=True, slots=True)
class Turn:
    """A step as part of a conversation that grows."""

    step: Step
    fresh: tuple[Message, ...]
    """What this call sent and the branch had not seen: not its last reply, no result of its tool calls, and where the
    conversation was shortened nothing that is said again."""
    shortened: bool
    """The conversation was not what the branch's call before left: messages are gone, or it began anew."""
    results: tuple[tuple[Act, ToolResult | None], ...]
    """What the reply set off, with each result as the model was shown it; None: cut off."""
    alone: tuple[Act, ...]
    """What the scaffold did by itself after the reply."""


def turns(trajectory: Trajectory, branch: Branch) -> Iterator[Turn]:
    """A branch step by step. The call after a step says how its results were shown, so each waits for the next."""
    seen: set[str] = set()
    length = 0
    before: tuple[Step, tuple[Message, ...], bool] | None = None
    steps = trajectory.judgements() if branch.name == GRADER else map(trajectory.step, branch.steps)
    for step in steps:
        shown: dict[str, ToolResult] = {}
        answered = before[0].answer if before else ""
        due = {act.call.id for act in before[0].acts if act.result is not None} if before else set()
        shortened = step.kept < length or answered not in ("", *step.names)
        fresh: list[Message] = []
        for name, message in zip(step.names, step.given, strict=True):
            if name == answered or (shortened and name in seen):
                continue
            seen.add(name)
            results = [part for part in message.parts if isinstance(part, ToolResult)]
            shown |= {result.call_id: result for result in results}
            if not results or len(results) != len(message.parts) or any(r.call_id not in due for r in results):
                fresh.append(message)
        if before:
            yield _turn(*before, shown)
        called = {call.id for call in before[0].reply.tool_calls} if before and before[0].reply else set()
        before = (step, tuple(fresh), shortened or not (due & called) <= shown.keys())
        seen.add(step.answer)
        length = step.kept + len(step.given)
    if before:
        yield _turn(*before, {})


def _turn(step: Step, fresh: tuple[Message, ...], shortened: bool, shown: Mapping[str, ToolResult]) -> Turn:
    calls = {call.id for call in step.reply.tool_calls} if step.reply else set()
    return Turn(
        step,
        fresh,
        shortened,
        tuple((act, shown.get(act.call.id, act.result)) for act in step.acts if act.call.id in calls),
        tuple(act for act in step.acts if act.call.id not in calls),
    )


def opening(trajectory: Trajectory, branch: Branch) -> Iterator[Act]:
    """What the scaffold did in a branch before its first step."""
    acts = set(branch.acts)
    return (trajectory.act(seq) for seq in branch.opening if seq in acts)


def within(trajectory: Trajectory) -> dict[str, list[Branch]]:
    """The branches by the one that opened them, as their names say. A judge's is none of them."""
    children: dict[str, list[Branch]] = {name: [] for name in trajectory.branches}
    for name, branch in trajectory.branches.items():
        if name in ("main", GRADER):
            continue
        above = name.rpartition("/")[0]
        while above and above not in children:
            above = above.rpartition("/")[0]
        children[above or "main"].append(branch)
    return children


def side_by_side(trajectory: Trajectory) -> int:
    """How many branches were gone on with after something else had happened, besides what branched off from them."""
    begun: set[str] = set()
    resumed: set[str] = set()
    last = ""
    for entry in trajectory.file.entries:
        branch = entry.branch
        if branch in begun and branch != last and not last.startswith(f"{branch}/"):
            resumed.add(branch)
        begun.add(branch)
        last = branch
    return len(resumed - {"main", GRADER})


def spoken(trajectory: Trajectory) -> Branch:
    """The branch that a format of one conversation tells: `main`, or where no model was asked there the one whose work
    was handed in last, or the longest."""
    main = trajectory.branches["main"]
    others = [branch for branch in trajectory.branches.values() if branch.steps and branch.name != GRADER]
    if main.steps or not others:
        return main
    handed_in = [note.branch for note in trajectory.notes("submit")]
    named = {branch.name: branch for branch in others}
    return next((named[name] for name in reversed(handed_in) if name in named), max(others, key=lambda b: len(b.steps)))


def notes_in(trajectory: Trajectory) -> int:
    """How many events there are that are neither steps nor tool calls nor what these consist of."""
    kinds = ("header", "message", "tools", "branch", "generate", "compact", "act", "submit", "resumed")
    return sum(e.kind.partition(".")[0] not in kinds and e.begun is None for e in trajectory.file.entries)


# --- small things ---


def digest(data: bytes | str) -> str:
    return hashlib.sha256(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass")).hexdigest()


def encodable(text: str) -> str:
    """Half of a surrogate pair, which no UTF-8 can hold, is written out."""
    return text.encode("utf-8", "backslashreplace").decode()


def iso(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def reasoning_of(message: Message) -> str:
    return "\n".join(part.text for part in message.parts if isinstance(part, Reasoning) and part.text)


def text_or_parts(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """The content of a message, as most formats write it: one text as it is, anything else as a list of parts."""
    if all(part["type"] == "text" for part in parts) and len(parts) < 2:
        return parts[0]["text"] if parts else ""
    return parts


def text_of(message: Message) -> str:
    return "\n".join(part.text for part in message.parts if isinstance(part, Text))


def data_uri(media: Media) -> str:
    return f"data:{media.media_type};base64,{base64.b64encode(media.data).decode()}"


def thinking(message: Message) -> list[dict[str, Any]] | None:
    """Reasoning as blocks of Anthropic's, as litellm keeps them beside the content; None: there is none."""
    thoughts = [part for part in message.parts if isinstance(part, Reasoning)]
    return [signed_block(part) or {"type": "thinking", "thinking": part.text} for part in thoughts] or None


def signed_block(part: Reasoning) -> dict[str, Any] | None:
    """The block that Anthropic signed."""
    return dict(part.raw["item"]) if part.raw and part.raw.get("provider") == "anthropic" else None


def patch_of(files: Mapping[str, bytes]) -> str | None:
    """The patch among the files that were handed in."""
    found = next((data for name, data in files.items() if name.endswith((".patch", ".diff"))), None)
    return None if found is None else found.decode("utf-8", "replace")


def command_of(call: ToolCall) -> str:
    """What a call did as a command. A tool other than a shell is told by its name and arguments."""
    command = call.arguments.get("command")
    if call.name == "shell" and isinstance(command, str):
        return command
    return f"{call.name} {call.malformed or dumped(dict(call.arguments))}"


def rare(reply: Reply) -> dict[str, Any]:
    """What few replies have: retries, a service tier and the like, as members of a `Reply`."""
    facts = {name: value for name in (*RARE, "waited_s") if (value := getattr(reply, name))}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items()}


def openai_content(message: Message, left_out: Callable[[Media], None]) -> str | list[dict[str, Any]]:
    """Text, or text and images, as OpenAI's chat API takes them. Of other media, `left_out` is told."""
    parts: list[dict[str, Any]] = []
    for part in message.parts:
        inner = part.parts if isinstance(part, ToolResult) else (part,)
        for each in inner:
            if isinstance(each, Text):
                parts.append({"type": "text", "text": each.text})
            elif isinstance(each, Media) and each.media_type.startswith("image/"):
                parts.append({"type": "image_url", "image_url": {"url": data_uri(each)}})
            elif isinstance(each, Media):
                left_out(each)
    return text_or_parts(parts)


def openai_call(call: ToolCall) -> dict[str, Any]:
    """A tool call as OpenAI's chat API writes it."""
    arguments = call.malformed or dumped(dict(call.arguments))
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def openai_tool(spec: Any) -> dict[str, Any]:
    """A tool as OpenAI's chat API is told of it."""
    return {"type": "function", "function": spec.to_json()}
