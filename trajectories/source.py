"""One log that answers another: what a fork goes on from, and what a replay runs over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from trellis.models.messages import Message
from trellis.models.model import ToolSpec
from trellis.trajectories.log import Event
from trellis.trajectories.recorded import Recorded


class ReplayMismatch(Exception):
    """The program asks for something else than what its log recorded at this point."""

    def __init__(self, said: str, kind: str, branch: str, recorded: Event | None, asked: Asked) -> None:
        super().__init__(said)
        self.kind = kind
        self.branch = branch
        self.recorded = recorded
        """The event that begins the recorded effect; None: nothing more is recorded."""
        self.asked = asked
        """What the program asks for now."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a model is asked."""

    role: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    config: Mapping[str, Any]


Asked: TypeAlias = Request | Mapping[str, Any]
"""Of a model, or any other effect's request."""


@dataclass(frozen=True, slots=True)
class Source:
    """Another log, which answers what an episode's own does not hold (yet): a fork goes on from it, a replay runs over
    it. What it answers is written to the episode's own log as if it had happened there."""

    recorded: Recorded
    strict: bool = True
    """Another request than the recorded one is a `ReplayMismatch`. Otherwise (the program was changed knowingly) a
    recorded reply answers whatever the model is asked, and any other effect happens anew if it is another."""
    variation: str = ""
    """Seeds the calls beyond what is recorded, so that forks of one trajectory go different ways."""
    message: Message | None = None
    """What is to be said to the model in the first call beyond what is recorded."""
    branch: str = "main"
    """Where it is to be said (or on a branch that begins afterwards)."""
    alone: bool = False
    """Nothing else answers: what it does not hold is a `ReplayMismatch` as well, and nothing happens anew. The clock
    shows the times that are recorded."""
    mismatches: list[ReplayMismatch] = field(default_factory=list)
    """All that were raised: a program may catch one, or be stopped on several branches at a time."""
