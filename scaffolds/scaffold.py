"""The loops that turn a model into an agent: the protocol, and the base of their options."""

from __future__ import annotations

from typing import ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from trellis.scaffolds.episode import Episode


class Scaffold(Protocol):
    @property
    def name(self) -> str: ...

    async def solve(self, episode: Episode) -> None:
        """Attempt the episode's task: plain Python in which every effect goes through the episode.

        Randomness comes from `episode.random`, time from `episode.now()`. When the budget is spent, `generate` and
        `act` raise `LimitReached`: let it pass, the episode is then scored with what was handed in.
        """
        ...


class ScaffoldOptions(BaseModel):
    """Base of the shipped scaffolds: their fields are the options that `-S key=value` sets."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: ClassVar[str]
