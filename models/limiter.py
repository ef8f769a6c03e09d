"""How many calls go to a provider at a time with one key: as many as it takes without turning any away.

Additive increase, multiplicative decrease, as TCP finds its rate (Chiu and Jain, 1989; RFC 5681): the limit doubles
with each round of calls until the first is turned away, is halved then, and grows by one with each further round.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from weakref import WeakValueDictionary

_FIRST_LIMIT = 16.0
_DECREASE = 0.5


class Paused(Exception):
    """The provider asks everybody to wait for longer than this caller would."""

    def __init__(self, left_s: float) -> None:
        super().__init__(f"paused for another {left_s:.0f} s")
        self.left_s = left_s


@dataclass(order=True)
class _Waiter:
    """One caller in the queue: the earlier its ticket, the sooner its turn."""

    ticket: int
    ceiling: float = field(compare=False)
    loop: asyncio.AbstractEventLoop = field(compare=False)
    turn: asyncio.Event = field(compare=False, default_factory=asyncio.Event)
    admitted: bool = field(compare=False, default=False)
    gone: bool = field(compare=False, default=False)

    def wake(self) -> bool:
        """Have it look again; False if its event loop is closed, for then nobody waits there any more."""
        try:
            self.loop.call_soon_threadsafe(self.turn.set)
        except RuntimeError:
            self.gone = True
        return not self.gone


class Place:
    """A call that is under way."""

    def __init__(self, limiter: Limiter, burst: int, full: bool) -> None:
        self._limiter = limiter
        self._burst = burst
        """How often the limit had been lowered when the call began."""
        self._full = full
        """Were all places taken then?"""
        self._crowded = False

    def crowded(self, retry_after_s: float | None = None) -> None:
        """The call was turned away because there were too many; the provider may have said for how long."""
        self._crowded = True
        self._limiter._lower(self._burst)
        if retry_after_s:
            self._limiter.pause(retry_after_s)

    @property
    def _shows_room(self) -> bool:
        return self._full and not self._crowded


class Limiter:
    """Places for the calls of one key, given in the order of tickets. For any number of event loops and threads.

        async with limiter.place(limiter.ticket()) as place:
            ...

    A caller who tries again keeps its ticket, so that it is served before those who came later.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = _FIRST_LIMIT
        """Calls at a time, at present."""
        self.under_way = 0
        self._clock = clock
        self._tickets = itertools.count()
        self._queue: list[_Waiter] = []
        self._bursts = 0
        self._paused_until = -math.inf
        self._lock = threading.Lock()

    def ticket(self) -> int:
        return next(self._tickets)

    @property
    def paused_s(self) -> float:
        """How long nobody is let through from now on."""
        return max(0.0, self._paused_until - self._clock())

    def pause(self, seconds: float) -> None:
        """Let nobody through for so long: the provider asked for it, or a limit of its is used up."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock() + seconds)
            for waiter in self._queue:  # each of them minds the end of the pause itself
                waiter.wake()

    @asynccontextmanager
    async def place(
        self, ticket: int, *, ceiling: float = math.inf, patience_s: float = math.inf
    ) -> AsyncIterator[Place]:
        """Wait for a place and hold it. No more than `ceiling` calls are under way when this one begins; those behind
        it in the queue wait as well then.

        Every call has a deadline, so the queue moves; only a pause can last.

        Raises:
            Paused: for longer than `patience_s`.
        """
        place = await self._enter(_Waiter(ticket, ceiling, asyncio.get_running_loop()), patience_s)
        done = False
        try:
            yield place
            done = True
        finally:
            self._leave(place, ceiling, done)

    async def _enter(self, waiter: _Waiter, patience_s: float) -> Place:
        with self._lock:
            heappush(self._queue, waiter)
        try:
            self._admit()
            while not waiter.admitted:
                waiter.turn.clear()
                pause_s = self.paused_s
                if pause_s > patience_s:
                    raise Paused(pause_s)
                try:
                    async with asyncio.timeout(pause_s or None):
                        await waiter.turn.wait()
                except TimeoutError:
                    self._admit()
        except BaseException:
            with self._lock:
                waiter.gone = True
                self.under_way -= waiter.admitted  # a place that nobody took goes to the next
            self._admit()
            raise
        with self._lock:
            return Place(self, self._bursts, self.under_way >= math.floor(self.limit))

    def _leave(self, place: Place, ceiling: float, done: bool) -> None:
        with self._lock:
            self.under_way -= 1
            if done and place._shows_room and self.limit < ceiling:
                self.limit += 1.0 / self.limit if self._bursts else 1.0
        self._admit()

    def _lower(self, burst: int) -> None:
        """Once for all the calls that were under way together: they were turned away for one reason."""
        with self._lock:
            if burst == self._bursts:
                self._bursts += 1
                self.limit = max(1.0, min(self.limit, self.under_way) * _DECREASE)

    def _admit(self) -> None:
        """Give free places to those who wait, in order."""
        with self._lock:
            while self._queue and self._clock() >= self._paused_until:
                first = self._queue[0]
                if not first.gone:
                    if self.under_way >= max(1.0, min(math.floor(self.limit), first.ceiling)):
                        return
                    first.admitted = True  # before it is woken: it may look at once, from another thread
                    self.under_way += first.wake()
                heappop(self._queue)


_limiters: WeakValueDictionary[str, Limiter] = WeakValueDictionary()
_registry = threading.Lock()
# One for the whole process, unlike all else here: a provider counts the calls of a key, whoever makes them. A limiter
# goes with the last client that uses it. Other processes have their own, and meet this one at the provider.


def limiter_of(address: str, key: str) -> Limiter:
    """The limiter that all clients of this process share that use the same key at the same address."""
    name = hashlib.sha256(f"{address}\n{key}".encode()).hexdigest()  # not the key itself
    with _registry:
        return _limiters.setdefault(name, Limiter())
