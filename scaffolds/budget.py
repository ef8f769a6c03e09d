"""What an episode may spend. A spent budget ends the loop, and the episode is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from trellis.models.carry import most
from trellis.models.model import Reply, Usage
from trellis.scaffolds.purse import CapReached, Purse
from trellis.scaffolds.waits import Waits


class LimitReached(Exception):
    """The budget is spent; `limit` names which part of it ("steps", "tokens", "cost_usd", "time_s")."""

    def __init__(self, limit: str, allowed: float) -> None:
        super().__init__(f"{limit} limit of {allowed:g} reached")
        self.limit = limit
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Calls:
    """What the provider made of calls that were answered in the end, all together."""

    retries: int = 0
    """Attempts that failed."""
    throttles: int = 0
    """How many of them were turned away for asking too often (HTTP 429)."""
    waited_s: float = 0.0
    """Spent on back-off and rate limits; calls that wait at the same time all count."""
    saved_usd: float = 0.0
    """Of the cost, what nobody paid: the reply came from a cache."""
    dropped: tuple[str, ...] = ()
    """What of a conversation could not be carried to the provider: of each kind, the most that one call left behind."""

    @classmethod
    def of(cls, reply: Reply) -> Calls:
        saved_usd = reply.cost_usd or 0.0 if reply.cached else 0.0
        return cls(reply.retries, reply.throttles, reply.waited_s, saved_usd, reply.dropped)

    def __add__(self, other: Calls) -> Calls:
        return Calls(
            self.retries + other.retries,
            self.throttles + other.throttles,
            self.waited_s + other.waited_s,
            self.saved_usd + other.saved_usd,
            most(self.dropped, other.dropped),
        )


@dataclass(frozen=True, slots=True)
class Spent:
    """What some calls came to."""

    steps: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    """Of those whose price is known."""


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
    calls: Calls = field(default_factory=Calls, init=False)
    clock: Callable[[], float] = field(default_factory=lambda: lambda: 0.0, init=False, repr=False)
    """Seconds since the episode began; set when the episode is opened."""
    ahead: Callable[[], Spent] = field(default_factory=lambda: Spent, init=False, repr=False)
    """What the log holds of calls that the program has not come to yet; set when the episode is opened. It is spent:
    no other branch may spend it once more."""
    _purse: Purse = field(init=False, repr=False)
    _under_way: int = field(default=0, init=False, repr=False)
    _waits: Waits = field(default_factory=Waits, init=False, repr=False)
    _asked: list[float] = field(default_factory=list, init=False, repr=False)
    """When the waits for a human began that last still."""

    def __post_init__(self) -> None:
        self._purse = Purse(self.cost_usd)
        self._purse.ahead_usd = lambda: self.ahead().cost_usd

    @property
    def waited_s(self) -> float:
        """Seconds in which somebody waited, on whichever branch."""
        return self._waits.total_s

    @property
    def worked_s(self) -> float:
        now, waited_s = self.clock(), self.waited_s
        if self._asked:
            since = min(self._asked)
            waited_s += now - since - self._waits.since(since)
        return max(0.0, now - waited_s)

    @property
    def steps_left(self) -> int | None:
        return None if self.steps is None else max(0, self.steps - self.spent_steps - self._under_way)

    @property
    def tokens_left(self) -> int | None:
        return None if self.tokens is None else max(0, self.tokens - self.spent_usage.total)

    @property
    def time_left_s(self) -> float | None:
        return None if self.time_s is None else max(0.0, self.time_s - self.worked_s)

    async def begin_step(self, worst_usd: float | None = None) -> float:
        """Take a step out of the budget, and the money that it may cost at most (None: unknown). What it returns goes
        to `end_step`, which settles it, or to `abandon_step`, which gives it back.

        Raises:
            LimitReached: something is spent, or the step might exceed the cost.
        """
        self.check()
        ahead = self.ahead()
        if self.steps is not None and self.spent_steps + self._under_way + ahead.steps >= self.steps:
            raise LimitReached("steps", self.steps)
        if self.tokens is not None and self.spent_usage.total + ahead.tokens >= self.tokens:
            raise LimitReached("tokens", self.tokens)
        self._under_way += 1
        try:
            return await self._purse.hold(worst_usd)
        except CapReached as reached:
            self._under_way -= 1
            raise LimitReached("cost_usd", reached.cap_usd) from None
        except BaseException:
            self._under_way -= 1
            raise

    def abandon_step(self, held_usd: float) -> None:
        self._under_way -= 1
        self._purse.settle(held_usd)

    def end_step(self, reply: Reply, at: float, held_usd: float) -> None:
        self._under_way -= 1
        self._purse.settle(held_usd)
        self.spend(reply, at)

    def spend(self, reply: Reply, at: float) -> None:
        """A step that ended at `at` on the episode's clock. Its wait lay at its beginning."""
        self.spent_steps += 1
        self.spent_usage += reply.usage
        self.calls += Calls.of(reply)
        self._waits.add(at - reply.latency_s, at - reply.latency_s + reply.waited_s)
        self._purse.settle(0.0, reply.cost_usd or 0.0)
        if reply.cost_usd is None:
            self.spent_cost_usd = None
        elif self.spent_cost_usd is not None:
            self.spent_cost_usd += reply.cost_usd

    def begin_wait(self) -> float:
        """Until `end_wait` the agent waits for a human: its time stands still. Returns the moment, for `end_wait`."""
        now = self.clock()
        self._asked.append(now)
        return now

    def end_wait(self, began: float) -> float:
        """Seconds that it lasted; those that no other wait has counted are added to `waited_s`."""
        self._asked.remove(began)
        now = self.clock()
        self.wait(began, now)
        return now - began

    def wait(self, start: float, end: float) -> None:
        """The agent waited then, as a log says."""
        self._waits.add(start, end)

    def check(self) -> None:
        """Raises LimitReached when the time is up."""
        if self.time_s is not None and self.worked_s >= self.time_s:
            raise LimitReached("time_s", self.time_s)
