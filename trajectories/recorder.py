"""The mechanism behind durable episodes: each effect is logged before its result is handed back, and an effect that
an existing log already holds is answered from the log.

Effects are matched branch by branch, in order, and each carries the fingerprint of its request: a program that asks
for something else than the log recorded is stopped with `ReplayMismatch` instead of being fed wrong answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trellis.models.messages import Message
from trellis.models.model import ContextOverflow, GenerateConfig, Reply, ToolSpec
from trellis.trajectories.blobs import Blobs, is_name
from trellis.trajectories.disk import LOG
from trellis.trajectories.durability import Storage
from trellis.trajectories.log import SCHEMA, Event, Log, LogError, encode
from trellis.trajectories.once import Once, short_hash
from trellis.trajectories.recorded import RARE, Effect, Recorded
from trellis.trajectories.source import Asked, ReplayMismatch, Request, Source
from trellis.trajectories.unwritten import HeldBlobs, NoLog

_TURNS = 10
"""Of the event loop, in which a branch that is answered from a log comes to its next effect."""


@dataclass(slots=True)
class _Sent:
    """The request that a branch sent last: what the next one is compared with."""

    messages: tuple[Message, ...]
    digest: Any
    seq: int


class Recorder:
    """Writes the effects of one episode to its log, and answers those that the log already holds."""

    def __init__(
        self,
        folder: Path | None,
        header: Mapping[str, Any],
        clock: Callable[[], float] = time.monotonic,
        source: Source | None = None,
        storage: Storage = Storage(),
    ) -> None:
        """Open `folder/trajectory.jsonl`. A new log begins with `header`; an old one must begin with the same. Without
        a folder nothing is written.

        Raises:
            LogError: the log or a blob is damaged, or the log is held by another process or belongs to another episode.
            StorageFault: the disk refuses.
        """
        self.log = Log(folder / LOG, storage=storage) if folder else NoLog()
        self.blobs = Blobs(folder / "blobs", self.log.redact, storage) if folder else HeldBlobs(self.log.redact)
        clock = _standing if source and source.alone else clock
        self._clock = clock
        self._source = source
        self._waits = storage.fsync
        self._sent: dict[str, _Sent] = {}
        self._ended: dict[tuple[str, str], int] = {}
        self._count, self._epoch = 0, clock()
        try:
            self._own = Recorded(self._history(header.get("episode")), self.blobs.load)
            self._once = Once(self.event, self.log.redact, self.blobs, self._own)
            self._begin(header)
        except BaseException:
            self.close()
            raise

    def _history(self, episode: Any) -> Iterator[Event]:
        """What the log holds after the header."""
        for event in self.log.history():
            if not self._count and event.get("episode") != episode:
                raise LogError(f"{self.log.path} belongs to {event.get('episode')}, not to {episode}")
            self._count += 1
            self._epoch = self._clock() - event["at"]
            if self._count > 1:
                yield event

    def _begin(self, header: Mapping[str, Any]) -> None:
        if not self._count:
            self.event("header", "main", schema=SCHEMA, **header)
            return
        if self._source is not None:
            self._own.pass_over(self._source.recorded)
        cut: dict[str, Any] = {"cut": self.log.cut} if self.log.cut else {}
        self.event("resumed", "main", events=self._count, **cut)

    @property
    def resumed(self) -> bool:
        """Did the log hold something when it was opened?"""
        return self._count > 0

    # --- plain events ---

    @property
    def now(self) -> float:
        """Seconds on the episode's clock; it stands still between a crash and the resume."""
        return self._clock() - self._epoch

    def event(self, kind: str, branch: str, members: str = "", **data: Any) -> int:
        return self.log.append(kind, branch, self.now, members, **data)

    def tell(self, kind: str, branch: str, **data: Any) -> None:
        """An event that later opens of the log act on, and that is nothing with a part of it redacted: it is left out
        then. What is long goes to blobs."""
        texts = {name: encode(value) for name, value in data.items()}
        if all(self.log.redact(text) == text for text in texts.values()):
            packed = {
                name: self._once.packed(text) if isinstance(data[name], Mapping) else text
                for name, text in texts.items()
            }
            self.event(kind, branch, ",".join(f"{encode(name)}:{text}" for name, text in packed.items()))

    def once(self, kind: str, branch: str, **data: Any) -> Event:
        """An event that the program itself causes: written, or, on replay, found in the log and returned."""
        if recorded := self._own.take_event(kind, branch):
            return recorded
        if self._source is not None and (recorded := self._source.recorded.take_event(kind, branch)):
            same = kind.startswith("note.") or all(recorded[name] == value for name, value in data.items())
            if self._source.strict and not same:
                raise self._mismatch(kind, branch, recorded, data)
        return {"seq": self.event(kind, branch, **data), **data}

    def recall(self, kind: str, branch: str, **data: Any) -> Event:
        """An event that may depend on anything, such as the time: like `once`, but a source answers it too."""
        if recorded := self._own.take_event(kind, branch):
            return recorded
        if self._source is not None and (recorded := self._source.recorded.take_event(kind, branch)):
            data = {name: recorded[name] for name in data}
        return {"seq": self.event(kind, branch, **data), **data}

    def recorded(self, kind: str, branch: str) -> bool:
        """Is there a recorded answer to the next effect of this kind on this branch?"""
        if self._own.next(kind, branch):
            return True
        return self._source is not None and self._source.recorded.next(kind, branch) is not None

    def holds(self, event: str, branch: str, *, before: str) -> bool | None:
        """Is there an event of this kind on this branch before the next one of the kind `before`? None: neither is
        recorded, so that it is for the program to say."""
        held = self._own.holds(event, branch, before=before)
        if held is None and self._source is not None:
            held = self._source.recorded.holds(event, branch, before=before)
        return held

    def said(self, kind: str, branch: str) -> Message | None:
        """What was put into the conversation from outside with the next call of a model, where that is recorded."""
        own = self._own.begun(kind, branch)
        recorded = self._own if own or self._source is None else self._source.recorded
        begun = own or recorded.begun(kind, branch)
        return recorded.messages[begun["said"]] if begun and "said" in begun else None

    def has_said(self) -> set[str]:
        """The branches on which the log tells, from when it was opened, of something put in that its source did not."""
        before = self._source.recorded.said if self._source is not None else Counter[tuple[str, str]]()
        return {branch for branch, _ in self._own.said - before}

    @property
    def goes_elsewhere(self) -> bool:
        """Is this a fork, which need not come to what its source came to?"""
        return self._source is not None and not self._source.strict

    def standing(self, kind: str, branch: str) -> list[Event]:
        """What the episode's own log held of events of this kind when it was opened. They answer nothing."""
        return self._own.standing(kind, branch)

    def ahead(self) -> list[Event]:
        """How the agent's calls of models ended that its own log holds and the program has not come to yet."""
        return self._own.ahead()

    # --- effects ---

    async def effect(
        self,
        kind: str,
        branch: str,
        request: Mapping[str, Any],
        perform: Callable[[], Awaitable[Mapping[str, Any]]],
    ) -> tuple[Mapping[str, Any], bool]:
        """Answer from the log, or log `kind.begun`, perform (or ask the source), log `kind.done`.

        Returns the answer as JSON and whether it was recorded.

        Raises:
            ReplayMismatch: the log recorded another request here.
        """
        text = self.log.redact(encode(dict(request)))
        fingerprint = short_hash(text)
        cut_off = self._own.take_cut_off(kind, branch, fingerprint)
        if not cut_off and (own := self._own.take(kind, branch)):
            self._same(own, fingerprint, kind, branch, request)
            self._ended[kind, branch] = own.done["seq"]
            return self._own.unpack(own.done["answer"]), True
        source = await self._from_source(kind, branch, fingerprint, request)
        if cut_off:
            seq = cut_off["seq"]
        else:
            packed = self._once.packed(text)
            await self._stored()
            seq = self.event(f"{kind}.begun", branch, f'"what":{packed}', request=fingerprint)
        if source:
            answer = self._adopt(source)
        else:
            answer = await perform()
        packed = self._once.packed(self.log.redact(encode(dict(answer))))
        await self._stored()
        done = self.event(f"{kind}.done", branch, f'"answer":{packed}', begun=seq, **self._from(source))
        self._ended[kind, branch] = done
        await self._settled()
        return answer, source is not None

    def ended(self, kind: str, branch: str) -> int:
        """The `seq` of the event that ended the last `effect` of this kind on this branch."""
        return self._ended[kind, branch]

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
        said: Message | None = None,
    ) -> tuple[Reply, float]:
        """A model call, with each message written once and referred to by its hash afterwards. That a conversation is
        too long is an answer too: it is recorded, and nobody asks again. `said` is the one of the messages that is put
        in from outside with this call.

        Returns the reply, and when it came on the episode's clock, as recorded the first time.

        Raises:
            ReplayMismatch: the log recorded another request here.
            ContextOverflow: `perform` raised it, now or when the call was recorded.
        """
        sent, offered = tuple(messages), tuple(tools)
        before = self._sent.get(branch)
        keep = _common_prefix(before.messages, sent) if before else 0
        whole = before is not None and keep == len(before.messages)
        digest = before.digest.copy() if before is not None and whole else hashlib.sha256()
        written = [self._once.message(message) for message in (sent[keep:] if whole else sent)]
        await self._stored()
        names = [self._once.write(branch, *message) for message in written]
        for name in names:
            digest.update(name.encode())
        tools_name = self._once.write_tools(branch, offered)
        options = config.to_json()
        rest = hashlib.sha256(digest.digest())
        rest.update(encode([role, tools_name, options]).encode())
        fingerprint = rest.hexdigest()[:32]
        asked = Request(role, sent, offered, options)

        cut_off = self._own.take_cut_off(kind, branch, fingerprint)
        own = None if cut_off else self._own.take(kind, branch)
        source = None if own else await self._from_source(kind, branch, fingerprint, asked)
        if own:
            self._same(own, fingerprint, kind, branch, asked)
        if begun := cut_off or (own and own.begun):
            seq = begun["seq"]
        else:
            put_in = {} if said is None else {"said": self._once.message(said)[0]}
            seq = self.event(
                f"{kind}.begun", branch, role=role, model=model,
                after=before.seq if before and keep else None, keep=keep,
                messages=names if whole else names[keep:], tools=tools_name, config=options, request=fingerprint,
                **put_in,
            )  # fmt: skip
        self._sent[branch] = _Sent(sent, digest, seq)
        if own:
            return self._told(own.done, self._own), own.done["at"]

        if source:
            self._stand(source.done["at"])
        try:
            if source and self._source:
                reply = self._told(source.done, self._source.recorded)
                reply = reply if self._source.alone else replace(reply, cached=True)  # nobody pays for it again
            else:
                reply = await perform()
        except ContextOverflow as overflow:
            self.event(f"{kind}.done", branch, begun=seq, overflow=str(overflow), **self._from(source))
            await self._settled()
            raise
        message = self._once.message(reply.message)
        await self._stored()
        name = self._once.write(branch, *message)
        at = round(self.now, 4)
        self.log.append(
            f"{kind}.done", branch, at, begun=seq, message=name, stop_reason=reply.stop_reason,
            usage=reply.usage.to_json(), cost_usd=reply.cost_usd, **self._from(source),
            latency_s=round(reply.latency_s, 6), waited_s=round(reply.waited_s, 6),
            **{name: value for name in RARE if (value := getattr(reply, name))},
        )  # fmt: skip
        await self._settled()
        return reply, at

    @property
    def head(self) -> str:
        """The chain value of the log's last event."""
        return self.log.head

    def close(self) -> None:
        self.blobs.close()
        self.log.close()

    # --- inside ---

    def _same(self, recorded: Effect, fingerprint: str, kind: str, branch: str, asked: Asked) -> None:
        if recorded.fingerprint != fingerprint:
            raise self._mismatch(kind, branch, recorded.begun, asked)

    def _mismatch(self, kind: str, branch: str, recorded: Event | None, asked: Asked) -> ReplayMismatch:
        if recorded is None:
            said = f"branch {branch}: the program asks for another {kind}, and no more are recorded"
        else:
            said = (
                f"{self.log.path}, event {recorded['seq']} (branch {branch}): the recorded {kind} asked for something "
                "else than the program does now; it has changed since, or draws on something that is not recorded"
            )
        mismatch = ReplayMismatch(said, kind, branch, recorded, asked)
        if self._source is not None:
            self._source.mismatches.append(mismatch)
        return mismatch

    async def _from_source(self, kind: str, branch: str, fingerprint: str, asked: Asked) -> Effect | None:
        """The source's answer, if it has one. The clock then stands where it stood when it was asked."""
        source = self._source
        if source is None:
            return None
        cut_off = source.recorded.take_cut_off(kind, branch, fingerprint)
        effect = None if cut_off else source.recorded.take(kind, branch)
        if effect is None:
            if source.alone:
                raise await self._after_others(source, self._mismatch(kind, branch, None, asked))
            return None
        anything = isinstance(asked, Request) and not source.strict
        if effect.fingerprint != fingerprint and not anything:
            if source.strict or source.alone:
                raise await self._after_others(source, self._mismatch(kind, branch, effect.begun, asked))
            return None
        self._stand(effect.begun["at"])
        return effect

    @staticmethod
    async def _after_others(source: Source, mismatch: ReplayMismatch) -> ReplayMismatch:
        """The mismatch, when the other branches go no further: they may come to one that is earlier in the record, and
        a program that is stopped on one branch may cancel the rest."""
        answered = -1
        while source.alone and answered != (answered := source.recorded.taken.total()):
            for _ in range(_TURNS):
                await asyncio.sleep(0)
        return mismatch

    def _stand(self, at: float) -> None:
        """The clock goes on to this moment, if it has not come to it."""
        self._epoch = min(self._epoch, self._clock() - at)

    def _told(self, done: Event, recorded: Recorded) -> Reply:
        if "overflow" in done:
            raise ContextOverflow(done["overflow"])
        return recorded.reply(done)

    def _from(self, source: Effect | None) -> dict[str, Any]:
        """Which event of the source's log an answer is; of a log that is gone through again, what that log says."""
        if source is None or self._source is None:
            return {}
        seq = source.done.get("source") if self._source.alone else source.done["seq"]
        return {} if seq is None else {"source": seq}

    def _adopt(self, effect: Effect) -> Mapping[str, Any]:
        """A source's answer, with the blobs that it names, at the time at which it came."""
        assert self._source is not None
        self._stand(effect.done["at"])
        answer = self._source.recorded.unpack(effect.done["answer"])
        for name in _names_in(answer):
            with suppress(FileNotFoundError):  # other things look like names of blobs too
                self.blobs.store(self._source.recorded.load(name))
        return answer

    async def _stored(self) -> None:
        """Blobs are as safe as was asked for before an event names them."""
        if self._waits:
            await self.blobs.settled()

    async def _settled(self) -> None:
        """Events are as safe as was asked for before what they tell is used."""
        if self._waits:
            await self.log.settled()


def _standing() -> float:
    return 0.0


def _names_in(value: Any) -> Iterator[str]:
    """What may be the names of blobs in a recorded value."""
    if isinstance(value, str):
        if is_name(value):
            yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _names_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _names_in(inner)


def _common_prefix(before: tuple[Message, ...], now: tuple[Message, ...]) -> int:
    """Length of the common prefix. Messages are frozen and loops append to one list, so this mostly compares messages
    with themselves, which is fast."""
    if now[: len(before)] == before:
        return len(before)
    return next(
        (i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a is not b),
        min(len(before), len(now)),
    )
