"""One branch of a trajectory in the making, and the conversation in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

from trellis.models.messages import Message, Text, ToolCall, ToolResult, message_to_json, part_to_json
from trellis.models.model import ContextOverflow, GenerateConfig, Reply, StopReason, ToolSpec, Usage
from trellis.tools.clip import plain, raw_of
from trellis.trajectories.converters import document, parts
from trellis.trajectories.converters.converter import ConversionError
from trellis.trajectories.recorded import GRADER

if TYPE_CHECKING:
    from trellis.trajectories.converters.native import Writer

T = TypeVar("T")

MAX_CALLS = 4096
"""In one reply."""
MAX_SENT = 1_000_000_000
"""Messages that all calls of a trajectory sent together, each as often as it was sent."""


class Asked(TypedDict, total=False):
    """How a model was asked."""

    model: str
    tools: Sequence[ToolSpec]
    config: GenerateConfig
    role: str
    """Of the agent's model: "main" is its first."""
    kind: str
    """`generate`, or `compact`: the provider shortened the conversation."""


class Line:
    """One branch of a trajectory in the making, and the conversation in it."""

    def __init__(self, writer: Writer, name: str) -> None:
        self.name = name
        self.conversation: list[Message] = []
        self.acts = 0
        """How many tool calls were done in its world, none that was denied or cut off (see `Trajectory.performed`)."""
        self._denied = False
        """Is the next act one that was not allowed?"""
        self._writer = writer
        self._recorder = writer._recorder
        self.pending: list[ToolCall] = []
        """The calls of the last reply that have no result yet."""
        self._sent = 0
        """How many messages of the conversation a model has seen."""
        self._made = 0

    def say(self, message: Message) -> None:
        """A message that the next call sends."""
        self.conversation.append(message)
        self._writer.messages += 1

    def made_up_id(self) -> str:
        """For a call that has none."""
        self._made += 1
        return f"{self.name}-call-{self._made}"

    def reply(
        self,
        message: Message,
        *,
        messages: Sequence[Message] | None = None,
        usage: Usage | None = None,
        cost_usd: float | None = None,
        stop_reason: StopReason | None = None,
        ended_at: float | None = None,
        remembered: bool = True,
        rare: Mapping[str, Any] = {},
        **asked: Unpack[Asked],
    ) -> None:
        """A model answered: `messages`, or the conversation so far, which it joins unless it is not `remembered`.
        `rare` are the members of a `Reply` that few have.

        Raises:
            ConversionError: more calls in it than anybody makes.
        """
        writer, usage = self._writer, usage or Usage()
        if len(message.tool_calls) > MAX_CALLS:
            raise ConversionError(f"{writer.identity.task}: a reply with {len(message.tool_calls):,} tool calls")
        stop_reason = stop_reason or ("tool_calls" if message.tool_calls else "stop")
        began = writer._now

        async def answer() -> Reply:
            writer.at(ended_at)
            return Reply(message, stop_reason, usage, cost_usd, writer._now - began, **rare)

        self._ask(answer, messages, asked)
        self.pending = list(message.tool_calls)
        writer.messages += 1
        if self.name != GRADER:
            writer.steps += 1
            writer.tool_calls += len(message.tool_calls)
            writer.usage += usage
            if cost_usd is not None:
                writer.cost_usd = (writer.cost_usd or 0.0) + cost_usd
        if remembered:
            self.conversation.append(message)
        self._sent = len(self.conversation)

    def unanswered(
        self,
        overflow: str = "",
        *,
        messages: Sequence[Message] | None = None,
        **asked: Unpack[Asked],
    ) -> None:
        """A call of a model without a reply: it was cut off, or, as `overflow` says, what it sent was too long."""

        async def answer() -> Reply:
            raise ContextOverflow(overflow) if overflow else _CutOffError

        with suppress(ContextOverflow, _CutOffError):
            self._ask(answer, messages, asked)
        self.pending = []
        self._sent = len(self.conversation)

    def _ask(self, answer: Callable[[], Awaitable[Reply]], messages: Sequence[Message] | None, asked: Asked) -> None:
        sent = self.conversation if messages is None else messages
        self._writer.sent += len(sent)
        if self._writer.sent > MAX_SENT:
            raise ConversionError(f"{self._writer.identity.task}: its calls send more than {MAX_SENT:,} messages")
        role = "judge" if self.name == GRADER else asked.get("role", "main")
        config, kind = asked.get("config", GenerateConfig()), asked.get("kind", "generate")
        driven(
            self._recorder.generate(
                self.name, role, asked.get("model", ""), sent, asked.get("tools", ()), config, answer, kind
            )
        )

    def take(self, call_id: str = "", *, in_order: bool = True) -> ToolCall | None:
        """The pending call of this id; where there is none, the first that is pending, unless not `in_order`."""
        for number, call in enumerate(self.pending):
            if call.id == call_id:
                return self.pending.pop(number)
        return self.pending.pop(0) if in_order and self.pending else None

    def act(
        self,
        call: ToolCall,
        result: ToolResult | None,
        *,
        ended_at: float | None = None,
        took_s: float | None = None,
        own: bool = False,
        handed_in: Any = None,
        changed: Mapping[str, Any] | None = None,
    ) -> None:
        """A tool call and what came back; None: it was cut off. Its own name of the tool stays with the result. `own`:
        it stands in no reply. `changed`: the members `changes` and `more_changes`, as our own exporters tell them."""
        writer = self._writer
        writer.tool_calls += int(own and self.name != GRADER)
        called = call.raw["item"].get("name") if call.raw else None
        if result is not None and called and called != call.name:
            told = {**result.data, "imported": {"tool": called, **result.data.get("imported", {})}}
            result = _in_our_words(replace(result, data=told))

        async def answer() -> Mapping[str, Any]:
            if result is None:
                raise _CutOffError
            writer.passes(took_s)
            writer.at(ended_at)
            return {
                "result": part_to_json(result, self._recorder.blobs.store),
                "handed_in": handed_in if isinstance(handed_in, str) else None,
                **changes_of(changed or {}),
            }

        with suppress(_CutOffError):
            driven(self._recorder.effect("act", self.name, part_to_json(replace(call, raw=None)), answer))
            self.acts += not self._denied
        self._denied = False

    def decided(self, call: ToolCall, allowed: bool, by: str, reason: str) -> None:
        """Somebody decided on the next act: what was not allowed is not done again when this is replayed."""

        async def answer() -> Mapping[str, Any]:
            return {"allowed": allowed, "reason": reason, "by": by, "rule": None}

        driven(self._recorder.effect("approval", self.name, part_to_json(replace(call, raw=None)), answer))
        self._denied = not allowed

    def note(self, kind: str, /, **data: Any) -> None:
        self._recorder.once(f"note.{kind}", self.name, data=data)

    def note_of_ours(self, kind: str, data: Mapping[str, Any]) -> None:
        """A note that our own exporters kept, as `telling.note_data` tells it."""
        if kind != "submit":
            self.note(kind, **data)
            return
        answer = document.mapping(data.get("answer"))
        files = {name: parts.bytes_of(told) for name, told in document.mapping(answer.get("files")).items()}
        whole = {name: content for name, content in files.items() if content is not None}
        if len(whole) < len(files):
            self.note("imported.submission", files=sorted(files.keys() - whole.keys()))
        self._writer.submit(document.text(answer.get("answer")), whole, self.name)

    def finish(self) -> None:
        """Keep what was said after the last call of a model: nobody was sent it."""
        for message in self.conversation[self._sent :]:
            if message.role != "tool" and message.text:
                self.note("imported.message", **message_to_json(message, self._recorder.blobs.store))


def result_of(call: ToolCall, output: str, *, is_error: bool = False, **data: Any) -> ToolResult:
    return ToolResult(call.id, call.name, (Text(output),), is_error, {k: v for k, v in data.items() if v is not None})


def changes_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """The files that a call changed, as our own exporters tell them; what the files held is not told. Empty where the
    changes were not followed."""
    if not isinstance(told.get("changes"), list):
        return {}
    changes = [
        {
            "path": document.text(change.get("path")),
            "kind": change["kind"],
            "mode": document.count(change.get("mode")),
            "size": document.count(change.get("size")),
            "sha256": document.word(change.get("sha256")),
            "text": False,
        }
        for change in map(document.mapping, told["changes"])
        if change.get("kind") in ("added", "modified", "deleted")
    ]
    more = document.count(told.get("more_changes"))
    return {"changes": changes, **({"more_changes": more} if more else {})}


def _in_our_words(result: ToolResult) -> ToolResult:
    """The result of a foreign shell as our `shell` says it, so that the two can be compared when it runs again."""
    output = result.text.encode("utf-8", "replace")
    code = result.data.get("exit_code")
    remark = f"[exit code {code}]" if code else ""
    said = "\n".join(filter(None, (plain(output).rstrip("\n"), remark))).lstrip("\n") or "(no output)"
    pictures = (part for part in result.parts if not isinstance(part, Text))
    return replace(result, parts=(Text(said), *pictures), data={**result.data, **raw_of(output)})


class _CutOffError(Exception):
    """The call has no result."""


def driven(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a recorder's method returns. Nothing here waits for anything, so that no event loop is needed."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        value: T = ended.value
        return value
    raise AssertionError("importing waits for nothing")
