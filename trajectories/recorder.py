"""The mechanism behind durable episodes: each effect is logged before its result is handed back, and an effect that
an existing log already holds is answered from the log.

Effects are matched branch by branch, in order, and each carries the fingerprint of its request: a program that asks
for something else than the log recorded is stopped with `ReplayMismatch` instead of being fed wrong answers.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trellis.models.messages import Message, message_from_json, message_to_json
from trellis.models.model import ContextOverflow, GenerateConfig, Reply, ToolSpec, Usage
from trellis.trajectories.blobs import Blobs
from trellis.trajectories.log import SCHEMA, Event, Log, LogError, encode

INLINE_LIMIT = 32 * 1024
"""Longer payloads (characters of JSON) go to a blob."""
_RARE = ("tier", "retries", "throttles", "cached", "dropped")
"""Members of a reply that are written where they say something."""


class ReplayMismatch(Exception):
    """The program asks for something else than what its log recorded at this point."""


@dataclass(slots=True)
class _Sent:
    """The request that a branch sent last: what the next one is compared with."""

    messages: list[Message]
    digest: Any
    seq: int


class Recorder:
    """Writes the effects of one episode to its log, and answers those that the log already holds."""

    def __init__(self, folder: Path, header: Mapping[str, Any], clock: Callable[[], float] = time.monotonic) -> None:
        """Open `folder/trajectory.jsonl`. A new log begins with `header`; an old one must begin with the same.

        Raises:
            LogError: the log is damaged, held by another process, or belongs to another episode.
        """
        self.blobs = Blobs(folder / "blobs")
        self.log = Log(folder / "trajectory.jsonl")
        self._clock = clock
        history = self.log.history
        self._epoch = clock() - (history[-1]["at"] if history else 0.0)
        self._messages: dict[str, Message] = {}
        self._digests: dict[int, tuple[Message, str]] = {}
        self._tools: set[str] = set()
        self._sent: dict[str, _Sent] = {}
        self._recorded: defaultdict[tuple[str, str], deque[Event]] = defaultdict(deque)
        self._done: dict[int, Event] = {}
        self.resumed = bool(history)
        try:
            self._begin(history, header)
        except BaseException:
            self.close()
            raise

    def _begin(self, history: Sequence[Event], header: Mapping[str, Any]) -> None:
        if not history:
            self.event("header", "main", schema=SCHEMA, **header)
            return
        identity = header.get("episode")
        if history[0].get("episode") != identity:
            raise LogError(f"{self.log.path} belongs to {history[0].get('episode')}, not to {identity}")
        for event in history:
            kind = event["kind"]
            if kind == "message":
                self._messages[event["hash"]] = self._load_message(event)
            elif kind == "tools":
                self._tools.add(event["hash"])
            elif kind.endswith(".done"):
                self._done[event["begun"]] = event
            else:
                self._recorded[event["branch"], kind].append(event)
        # An effect that was cut off before its end is asked again.
        for (_, kind), events in self._recorded.items():
            if kind.endswith(".begun"):
                kept = [event for event in events if event["seq"] in self._done]
                events.clear()
                events.extend(kept)
        self.event("resumed", "main", events=len(history))

    # --- plain events ---

    @property
    def now(self) -> float:
        """Seconds on the episode's clock; it stands still between a crash and the resume."""
        return self._clock() - self._epoch

    def event(self, kind: str, branch: str, **data: Any) -> int:
        return self.log.append(kind, branch, self.now, **data)

    def once(self, kind: str, branch: str, **data: Any) -> Event:
        """An event that the program itself causes: written, or, on replay, found in the log and returned."""
        queue = self._recorded[branch, kind]
        if queue:
            return queue.popleft()
        return {"seq": self.event(kind, branch, **data), **data}

    def recorded(self, kind: str, branch: str) -> bool:
        """Does the log still hold the answer to the next effect of this kind on this branch?"""
        return bool(self._recorded[branch, f"{kind}.begun"])

    def holds(self, event: str, branch: str, *, before: str) -> bool | None:
        """Does the log hold an event of this kind on this branch before the next one of the kind `before`? None: it
        holds neither, so that it is for the program to say."""
        queue, limit = self._recorded[branch, event], self._recorded[branch, before]
        if not queue:
            return False if limit else None
        return not limit or bool(queue[0]["seq"] < limit[0]["seq"])

    # --- effects ---

    async def effect(
        self,
        kind: str,
        branch: str,
        request: Mapping[str, Any],
        perform: Callable[[], Awaitable[Mapping[str, Any]]],
    ) -> tuple[Mapping[str, Any], bool]:
        """Answer from the log, or log `kind.begun`, perform, log `kind.done`.

        Returns the answer as JSON and whether it came from the log.

        Raises:
            ReplayMismatch: the log recorded another request here.
        """
        text = encode(dict(request))
        fingerprint = _sha(self.log.redact(text))
        if recorded := self._answer(kind, branch, fingerprint):
            return self._unpack(recorded["answer"]), True
        packed = self._pack(text, request)
        seq = self.event(f"{kind}.begun", branch, request=fingerprint, what=packed)
        answer = await perform()
        self.event(f"{kind}.done", branch, begun=seq, answer=self._pack(encode(dict(answer)), answer))
        return answer, False

    async def generate(
        self,
        branch: str,
        role: str,
        model: str,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        config: GenerateConfig,
        perform: Callable[[], Awaitable[Reply]],
        kind: str = "generate",
    ) -> tuple[Reply, float]:
        """A model call, with each message written once and referred to by its hash afterwards. That a conversation is
        too long is an answer too: it is recorded, and nobody asks again.

        Returns the reply, and when it came on the episode's clock, as recorded the first time.

        Raises:
            ReplayMismatch: the log recorded another request here.
            ContextOverflow: `perform` raised it, now or when the call was recorded.
        """
        before = self._sent.get(branch)
        keep = _common_prefix(before.messages, messages) if before else 0
        whole = before is not None and keep == len(before.messages)
        digest = before.digest.copy() if before is not None and whole else hashlib.sha256()
        names = [self._write_message(branch, message) for message in (messages[keep:] if whole else messages)]
        for name in names:
            digest.update(name.encode())
        tools_name = self._write_tools(branch, tools)
        options = config.to_json()
        rest = hashlib.sha256(digest.digest())
        rest.update(encode([role, tools_name, options]).encode())
        fingerprint = rest.hexdigest()[:32]

        recorded = self._answer(kind, branch, fingerprint)
        if recorded:
            seq = recorded["begun"]
        else:
            seq = self.event(
                f"{kind}.begun", branch, role=role, model=model,
                after=before.seq if before and keep else None, keep=keep,
                messages=names if whole else names[keep:], tools=tools_name, config=options, request=fingerprint,
            )  # fmt: skip
        self._sent[branch] = _Sent(list(messages), digest, seq)
        if recorded:
            if "overflow" in recorded:
                raise ContextOverflow(recorded["overflow"])
            return self._reply(recorded), recorded["at"]

        try:
            reply = await perform()
        except ContextOverflow as overflow:
            self.event(f"{kind}.done", branch, begun=seq, overflow=str(overflow))
            raise
        name = self._write_message(branch, reply.message)
        at = round(self.now, 4)
        self.log.append(
            f"{kind}.done", branch, at, begun=seq, message=name, stop_reason=reply.stop_reason,
            usage=reply.usage.to_json(), cost_usd=reply.cost_usd,
            latency_s=round(reply.latency_s, 6), waited_s=round(reply.waited_s, 6),
            **{name: value for name in _RARE if (value := getattr(reply, name))},
        )  # fmt: skip
        return reply, at

    def close(self) -> None:
        self.log.close()

    # --- inside ---

    def _answer(self, kind: str, branch: str, fingerprint: str) -> Event | None:
        queue = self._recorded[branch, f"{kind}.begun"]
        if not queue:
            return None
        begun = queue.popleft()
        if begun["request"] != fingerprint:
            raise ReplayMismatch(
                f"{self.log.path}, event {begun['seq']} (branch {branch}): the recorded {kind} asked for something "
                "else than the program does now; it has changed since, or draws on something that is not recorded"
            )
        return self._done[begun["seq"]]

    def _reply(self, done: Event) -> Reply:
        return Reply(
            message=self._messages[done["message"]],
            stop_reason=done["stop_reason"],
            usage=Usage(**done["usage"]),
            cost_usd=done["cost_usd"],
            latency_s=done["latency_s"],
            waited_s=done["waited_s"],
            dropped=tuple(done.get("dropped", ())),
            **{name: done[name] for name in _RARE if name in done and name != "dropped"},
        )

    def _write_message(self, branch: str, message: Message) -> str:
        known = self._digests.get(id(message))
        if known is not None and known[0] is message:
            return known[1]
        content = message_to_json(message, self.blobs.store)
        text = self.log.redact(encode(content))
        name = _sha(text)
        if name not in self._messages:
            self._messages[name] = message
            if len(text) > INLINE_LIMIT:
                content = {"blob": self.blobs.store(text.encode())}
            self.event("message", branch, hash=name, **content)
        self._digests[id(message)] = (message, name)
        return name

    def _load_message(self, event: Event) -> Message:
        content = json.loads(self.blobs.load(event["blob"])) if "blob" in event else event
        return message_from_json(content, self.blobs.load)

    def _write_tools(self, branch: str, tools: Sequence[ToolSpec]) -> str:
        specs = [spec.to_json() for spec in tools]
        name = _sha(encode(specs))
        if name not in self._tools:
            self._tools.add(name)
            self.event("tools", branch, hash=name, specs=specs)
        return name

    def _pack(self, text: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
        if len(text) <= INLINE_LIMIT:
            return value
        return {"blob": self.blobs.store(self.log.redact(text).encode())}

    def _unpack(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        if value.keys() == {"blob"}:
            unpacked: Mapping[str, Any] = json.loads(self.blobs.load(value["blob"]))
            return unpacked
        return value


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _common_prefix(before: list[Message], now: Sequence[Message]) -> int:
    """Length of the common prefix. Messages are frozen and loops append to one list, so this mostly compares a list
    with itself, which lists do by identity and fast."""
    if list(now[: len(before)]) == before:
        return len(before)
    return next(
        (i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a is not b),
        min(len(before), len(now)),
    )
