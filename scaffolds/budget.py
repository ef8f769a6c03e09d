"""What an episode may spend. A spent budget ends the loop, and the episode is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from trellis.models.model import Reply, Usage


class LimitReached(Exception):
    """The budget is spent; `limit` names which part of it ("steps", "tokens", "cost_usd", "time_s")."""

    def __init__(self, limit: str, allowed: float) -> None:
        super().__init__(f"{limit} limit of {allowed:g} reached")
        self.limit = limit


@dataclass
class Budget:
    """Limits of one episode (None is unlimited) and what was spent of them.

    A step is one model reply. `time_s` is the time the agent worked: waiting on rate limits, back-off and approval does
    not count. `cost_usd` only counts priced calls; `spent_cost_usd` is None once a call had no known price.
    """

    steps: int | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    time_s: float | None = None

    spent_steps: int = field(default=0, init=False)
    spent_usage: Usage = field(default_factory=Usage, init=False)
    spent_cost_usd: float | None = field(default=0.0, init=False)
    waited_s: float = field(default=0.0, init=False)
    clock: Callable[[], float] = field(default_factory=lambda: lambda: 0.0, init=False, repr=False)
    """Seconds since the episode began; set when the episode is opened."""
    _priced_usd: float = field(default=0.0, init=False, repr=False)
    _under_way: int = field(default=0, init=False, repr=False)
    _waiting: int = field(default=0, init=False, repr=False)
    _waiting_since: float = field(default=0.0, init=False, repr=False)

    @property
    def worked_s(self) -> float:
        waiting_s = self.clock() - self._waiting_since if self._waiting else 0.0
        return max(0.0, self.clock() - self.waited_s - waiting_s)

    @property
    def steps_left(self) -> int | None:
        return None if self.steps is None else max(0, self.steps - self.spent_steps - self._under_way)

    @property
    def tokens_left(self) -> int | None:
        return None if self.tokens is None else max(0, self.tokens - self.spent_usage.total)

    @property
    def time_left_s(self) -> float | None:
        return None if self.time_s is None else max(0.0, self.time_s - self.worked_s)

    def begin_step(self) -> None:
        """Take a step out of the budget, to be settled by `end_step` or given back by `abandon_step`.

        Raises:
            LimitReached: something is spent.
        """
        self.check()
        if self.steps is not None and self.spent_steps + self._under_way >= self.steps:
            raise LimitReached("steps", self.steps)
        if self.tokens is not None and self.spent_usage.total >= self.tokens:
            raise LimitReached("tokens", self.tokens)
        if self.cost_usd is not None and self._priced_usd >= self.cost_usd:
            raise LimitReached("cost_usd", self.cost_usd)
        self._under_way += 1

    def abandon_step(self) -> None:
        self._under_way -= 1

    def end_step(self, reply: Reply) -> None:
        self._under_way -= 1
        self.spend(reply)

    def spend(self, reply: Reply) -> None:
        self.spent_steps += 1
        self.spent_usage += reply.usage
        self.waited_s += reply.waited_s
        self._priced_usd += reply.cost_usd or 0.0
        if reply.cost_usd is None:
            self.spent_cost_usd = None
        elif self.spent_cost_usd is not None:
            self.spent_cost_usd += reply.cost_usd

    def begin_wait(self) -> None:
        """Until `end_wait` the agent waits for a human: its time stands still. Waits of branches may overlap."""
        if not self._waiting:
            self._waiting_since = self.clock()
        self._waiting += 1

    def end_wait(self) -> float:
        """Seconds of waiting that no other wait has counted; they are added to `waited_s`."""
        now = self.clock()
        waited_s, self._waiting_since = now - self._waiting_since, now
        self._waiting -= 1
        self.waited_s += waited_s
        return waited_s

    def check(self) -> None:
        """Raises LimitReached when the time is up."""
        if self.time_s is not None and self.worked_s >= self.time_s:
            raise LimitReached("time_s", self.time_s)
