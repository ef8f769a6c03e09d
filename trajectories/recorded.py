"""What a log recorded, handed out again: effect by effect, branch by branch, in order."""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trellis.models.messages import Message, message_from_json
from trellis.models.model import Reply, Usage
from trellis.trajectories.log import Event

ASKS = ("generate", "compact")
"""Effects that are calls of a model."""
MAIN, GRADER = "main", "grader"
"""The branch of a judge's calls."""
RARE = ("tier", "retries", "throttles", "cached", "dropped")
"""Members of a reply that are written where they say something."""


@dataclass(frozen=True, slots=True)
class Effect:
    """A recorded effect that came to its end."""

    begun: Event
    done: Event

    @property
    def fingerprint(self) -> str:
        """Of the request: an effect of another fingerprint is another effect."""
        request: str = self.begun["request"]
        return request


class Recorded:
    """The answers that a log holds. Each is handed out once.

    An effect that was cut off before its end keeps its place: it is asked again.
    """

    def __init__(self, events: Iterable[Event], load: Callable[[str], bytes]) -> None:
        """`load` finds blobs by name."""
        self.load = load
        self.messages: dict[str, Message] = {}
        """By hash."""
        self.tools: set[str] = set()
        """Hashes of the sets of tools that were offered."""
        self.taken: Counter[str] = Counter()
        """How many effects of each kind were handed out."""
        self.cut_off: dict[tuple[str, str], Event] = {}
        """By kind and branch: the effect that it was cut off in."""
        self.branches: set[str] = set()
        """Those of which it tells anything."""
        self.said: Counter[tuple[str, str]] = Counter()
        """What was put into conversations from outside: branch, and name of the message."""
        self._waiting: defaultdict[tuple[str, str], deque[Event]] = defaultdict(deque)
        self._done: dict[int, Event] = {}
        for event in events:
            kind = event["kind"]
            self.branches.add(event["branch"])
            if kind == "message":
                self.messages[event["hash"]] = message_of(event, load)
            elif kind == "tools":
                self.tools.add(event["hash"])
            elif "begun" in event:
                self._done[event["begun"]] = event
            else:
                self._waiting[event["branch"], kind].append(event)
        self._calls: Counter[str] = Counter()
        self._ahead: dict[int, Event] = {}
        for (branch, kind), events_ in self._waiting.items():
            if _begins(kind):
                if events_[-1]["seq"] not in self._done:
                    self.cut_off[kind.removesuffix(".begun"), branch] = events_[-1]
                last = {event["request"]: event["seq"] for event in events_}
                ended = [event for event in events_ if event["seq"] in self._done]
                kept = [
                    event for event in events_ if event["seq"] in self._done or event["seq"] == last[event["request"]]
                ]
                events_.clear()
                events_.extend(kept)
                if kind.removesuffix(".begun") in ASKS:
                    self._calls[branch] += len(ended)
                    self.said.update((branch, event["said"]) for event in kept if "said" in event)
                    if branch != GRADER:
                        self._ahead |= {event["seq"]: self._done[event["seq"]] for event in ended}

    def standing(self, kind: str, branch: str) -> list[Event]:
        """The events of a kind that is not an effect, left where they are."""
        return list(self._waiting[branch, kind])

    def ahead(self) -> list[Event]:
        """How the agent's calls of models ended that nobody has taken yet, on all branches."""
        return list(self._ahead.values())

    def calls(self, branch: str) -> int:
        """How many calls of a model it held on this branch in the beginning."""
        return self._calls[branch]

    def begun(self, kind: str, branch: str) -> Event | None:
        """The event that begins the next effect of this kind on this branch, cut off or not; left where it is."""
        queue = self._waiting[branch, f"{kind}.begun"]
        return queue[0] if queue else None

    def next(self, kind: str, branch: str) -> Effect | None:
        """The next effect of this kind on this branch, left where it is. None: there is none, or it was cut off."""
        begun = self.begun(kind, branch)
        done = self._done.get(begun["seq"]) if begun else None
        return Effect(begun, done) if begun and done else None

    def take(self, kind: str, branch: str) -> Effect | None:
        """The next effect of this kind on this branch, or None for one that was cut off."""
        effect = self.next(kind, branch)
        if queue := self._waiting[branch, f"{kind}.begun"]:
            self._ahead.pop(queue.popleft()["seq"], None)
        if effect:
            self.taken[kind] += 1
            del self._done[effect.begun["seq"]]
        return effect

    def take_cut_off(self, kind: str, branch: str, fingerprint: str) -> Event | None:
        """The event that begins the next effect, if that was cut off and asks for just this. One that asks for
        something else was given up."""
        queue = self._waiting[branch, f"{kind}.begun"]
        while queue and queue[0]["seq"] not in self._done:
            begun = queue.popleft()
            if begun["request"] == fingerprint:
                return begun
        return None

    def take_event(self, kind: str, branch: str) -> Event | None:
        """The next event of a kind that is not an effect."""
        queue = self._waiting[branch, kind]
        return queue.popleft() if queue else None

    def left(self) -> list[Event]:
        """What was not handed out, in order: events that begin effects, and those of what was handed in besides."""
        kinds = [kind for kind in self._waiting if kind[1].endswith(".begun") or kind[1] == "handed_in"]
        events = (event for kind in kinds for event in self._waiting[kind])
        ended = (event for event in events if event["seq"] in self._done or event["kind"] == "handed_in")
        return sorted(ended, key=lambda event: int(event["seq"]))

    def pass_over(self, source: Recorded) -> None:
        """What this log holds, `source` has answered: it is taken there."""
        for (branch, kind), queue in self._waiting.items():
            for event in queue:
                if not _begins(kind):
                    source.take_event(kind, branch)
                elif event["seq"] in self._done:
                    source.take(kind.removesuffix(".begun"), branch)

    def holds(self, event: str, branch: str, *, before: str) -> bool | None:
        """Is there an event of this kind on this branch before the next one of the kind `before`? None: there is
        neither, so that it is for the program to say."""
        queue, limit = self._waiting[branch, event], self._waiting[branch, before]
        if not queue:
            return False if limit else None
        return not limit or bool(queue[0]["seq"] < limit[0]["seq"])

    def reply(self, done: Event) -> Reply:
        """The answer of a model, as recorded by `generate.done`."""
        return reply_from_event(done, self.messages[done["message"]])

    def unpack(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        return unpack(value, self.load)


def _begins(kind: str) -> bool:
    """Does an event of this kind begin an effect? (A scaffold may call its notes what it likes.)"""
    return kind.endswith(".begun") and not kind.startswith("note.")


def reply_from_event(done: Event, message: Message) -> Reply:
    return Reply(
        message=message,
        stop_reason=done["stop_reason"],
        usage=Usage(**done["usage"]),
        cost_usd=done["cost_usd"],
        latency_s=done["latency_s"],
        waited_s=done["waited_s"],
        dropped=tuple(done.get("dropped", ())),
        **{name: done[name] for name in RARE if name in done and name != "dropped"},
    )


def message_of(event: Event, load: Callable[[str], bytes]) -> Message:
    """What an event `message` holds."""
    return message_from_json(json.loads(load(event["blob"])) if "blob" in event else event, load)


def unpack(value: Mapping[str, Any], load: Callable[[str], bytes]) -> Mapping[str, Any]:
    """What stands inline or, where it is long, in a blob."""
    if value.keys() == {"blob"}:
        unpacked: Mapping[str, Any] = json.loads(load(value["blob"]))
        return unpacked
    return value
