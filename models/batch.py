"""Calls that can wait go to a provider together, as a batch at half the price, and each waits for its own answer.

What is under way is on disk under the hash of each request, so that a run that was killed attaches to the batch that
it has paid for already instead of asking again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, Field

from trellis.models.batch_ledger import Ledger
from trellis.models.client import Answer, Check
from trellis.models.failures import Declined
from trellis.models.model import ModelFault, ModelRequestError
from trellis.models.retry import TransientError
from trellis.models.user_folder import user_folder

Params = Mapping[str, Any]
"""The body of a request."""

_MOST_BATCHES = 3
"""How many batches one request may go through: what expired or failed in the last of them is a fault."""
_SLOWER = 1.5
_SLOWEST = 20
"""A wait between two looks grows by this factor, up to so many times the first one."""
_CLOSE_S = 30.0
"""How long closing waits for batches that are being handed over: their ids are worth money."""


class BatchOptions(BaseModel):
    """Options of clients whose provider has batches."""

    batch: bool = False
    """Send calls in batches: half the price, and up to a day until they are answered. Give the run many `--jobs`, for
    only calls of episodes that run at the same time can go together."""
    batch_wait_s: float = Field(default=5.0, ge=0)
    """How long calls are collected, from the first one on."""
    batch_size: int = Field(default=10_000, ge=1)
    """Calls in one batch, at most."""
    batch_poll_s: float = Field(default=15.0, gt=0)
    """Wait before the first look whether a batch has ended; further ones are longer and longer, up to 20 times this."""


@dataclass(frozen=True, slots=True)
class Stage:
    """How far a batch is."""

    ended: bool
    done: int
    total: int


class BatchApi(Protocol):
    """What a provider does with batches. All may raise as `Endpoint.send` does."""

    most_requests: int
    most_bytes: int

    @property
    def account(self) -> str:
        """Names whose batches they are, without telling the key."""
        ...

    async def create(self, requests: Mapping[str, Params]) -> str:
        """Hand over requests by id; the batch's id."""
        ...

    async def stage(self, batch: str) -> Stage:
        """Raises ModelRequestError where the provider does not know the batch (any more)."""
        ...

    async def results(self, batch: str) -> Mapping[str, Params | Exception]:
        """Of a batch that has ended: the body of each answer, or why there is none.

        Raises:
            TransientError, ModelRequestError: the batch failed as a whole.
        """
        ...


@runtime_checkable
class Batching(Protocol):
    """A model whose calls may wait in batches."""

    @property
    def waiting(self) -> str:
        """One line on what waits; empty where nothing does."""
        ...


@dataclass(slots=True)
class _Asked:
    """A request that somebody waits for."""

    params: Params
    outcome: asyncio.Future[Params]
    callers: int = 0


@dataclass(slots=True)
class _Batch:
    """One that is under way, as far as it is known."""

    requests: int
    since: float = field(default_factory=time.monotonic)
    done: int = 0


class Batcher:
    """Collects the calls of one model into batches, and hands each its own answer."""

    def __init__(self, name: str, api: BatchApi, options: BatchOptions) -> None:
        """`name` is the model's; every message begins with it."""
        self._name = name
        self._api = api
        self._options = options
        self._ledger: Ledger | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: dict[str, _Asked] = {}
        self._queue: dict[str, int] = {}
        """Bytes of those that no batch has yet."""
        self._arrived: dict[str, Params] = {}
        """Results of batches that ended before somebody asked for them."""
        self._batches: dict[str, _Batch] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._collecting: asyncio.Task[None] | None = None
        self._handing_over: set[asyncio.Task[None]] = set()
        self._without_seed: Counter[str] = Counter()

    @property
    def waiting(self) -> str:
        """See `Batching`."""
        if not self._batches and not self._queue:
            return ""
        parts = [f"{len(self._queue)} calls are collected"] if self._queue else []
        if self._batches:
            done, total = (sum(getattr(b, n) for b in self._batches.values()) for n in ("done", "requests"))
            word = "batch" if len(self._batches) == 1 else "batches"
            parts.append(f"{len(self._batches)} {word} under way, {done} of {total} calls answered")
        return f"{self._name}: {'; '.join(parts)}"

    async def send(self, params: Params, seed: int | None, check: Check = lambda body: None) -> Answer:
        """The answer to a request, whichever batch it comes from. Who asks for the same with the same seed shares it;
        without a seed each asks for itself. A caller who is cancelled leaves the batch alone.

        Raises:
            ModelRequestError: the request can never succeed as it is.
            ModelFault: no batch answered it, or the provider cannot be reached.
        """
        self._begin()
        started, failed = time.monotonic(), 0
        id_ = self._id(params, seed)
        body: Params = {}
        declined = ""
        while True:
            try:
                body = await self._outcome(id_, params)
                self._delivered(id_)  # also where it is wrong: it is nothing to come back for
                check(body)
                break
            except Declined as answer:
                body, declined = {}, str(answer)
                break
            except TransientError as error:
                failed += 1
                if failed >= _MOST_BATCHES:
                    raise ModelFault(f"{self._name}: {failed} batches did not answer it: {error}") from None
        waited_s = time.monotonic() - started  # all of it: none of this time is the agent's
        return Answer(body, waited_s, waited_s, retries=failed, declined=declined)

    async def close(self) -> None:
        """Stop watching. What is being handed over is waited for; batches under way stay so, and are found again."""
        if self._collecting:
            self._collecting.cancel()
        if self._handing_over and self._loop is asyncio.get_running_loop():
            await asyncio.wait(self._handing_over, timeout=_CLOSE_S)
        for task in (*self._handing_over, *self._watchers.values()):
            task.cancel()
        for asked in self._asked.values():
            asked.outcome.cancel()
        self._loop = None

    # --- collecting ---

    def _begin(self) -> None:
        """Read what is under way; futures and tasks belong to the event loop that made them."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        self._loop = loop
        self._asked, self._queue, self._batches, self._watchers = {}, {}, {}, {}
        self._collecting, self._handing_over = None, set()
        self._ledger = Ledger(user_folder("batches") / self._api.account)

    def _id(self, params: Params, seed: int | None) -> str:
        """64 hexadecimal digits: what both providers take as `custom_id`."""
        content = json.dumps(params, sort_keys=True, separators=(",", ":"))
        if seed is not None:
            return hashlib.sha256(f"{seed}\n{content}".encode()).hexdigest()
        plain = hashlib.sha256(content.encode()).hexdigest()
        self._without_seed[plain] += 1
        return hashlib.sha256(f"{plain} {self._without_seed[plain]}".encode()).hexdigest()

    async def _outcome(self, id_: str, params: Params) -> Params:
        if id_ in self._arrived:
            return self._arrived.pop(id_)
        asked = self._asked.get(id_)
        if asked is None:
            asked = self._asked[id_] = _Asked(params, asyncio.get_running_loop().create_future())
            self._enlist(id_, params)
        asked.callers += 1
        try:
            return await asyncio.shield(asked.outcome)
        finally:
            asked.callers -= 1
            if not asked.callers and not asked.outcome.done() and id_ in self._queue:
                del self._queue[id_], self._asked[id_]  # nobody waits, and nobody has paid

    def _enlist(self, id_: str, params: Params) -> None:
        assert self._ledger is not None
        if batch := self._ledger.batch_of(id_):
            self._watch(batch, len(self._ledger.requests(batch)))
            return
        self._queue[id_] = len(json.dumps(params)) + 200
        if self._is_full():
            self._hand_over()
        elif self._collecting is None:
            self._collecting = asyncio.create_task(self._collect())

    def _is_full(self) -> bool:
        most = min(self._options.batch_size, self._api.most_requests)
        return len(self._queue) >= most or sum(self._queue.values()) >= self._api.most_bytes * 0.9

    async def _collect(self) -> None:
        await asyncio.sleep(self._options.batch_wait_s)
        self._collecting = None
        self._hand_over()

    def _hand_over(self) -> None:
        if self._collecting:
            self._collecting.cancel()
            self._collecting = None
        ids = tuple(self._queue)
        self._queue.clear()
        if ids:
            task = asyncio.create_task(self._create(ids))
            self._handing_over.add(task)
            task.add_done_callback(self._handing_over.discard)

    async def _create(self, ids: Sequence[str]) -> None:
        assert self._ledger is not None
        try:
            batch = await self._api.create({id_: self._asked[id_].params for id_ in ids})
            self._ledger.began(batch, ids)
        except Exception as error:
            self._settle(ids, error)
        else:
            self._watch(batch, len(ids))

    # --- waiting ---

    def _watch(self, batch: str, requests: int) -> None:
        if batch not in self._watchers:
            self._batches[batch] = _Batch(requests)
            self._watchers[batch] = asyncio.create_task(self._see_through(batch))

    async def _see_through(self, batch: str) -> None:
        """Look again and again until a batch has ended, and hand out what it brought."""
        assert self._ledger is not None
        try:
            if await self._ended(batch):
                self._hand_out(batch, await self._api.results(batch))
            else:
                self._fail(batch, TransientError("the provider does not know the batch any more"))
        except (TransientError, ModelRequestError) as error:
            self._fail(batch, error)
        except Exception as error:  # it cannot be reached, and goes on without us: whoever asks again finds it
            self._settle(tuple(self._ledger.requests(batch)), error)
        finally:
            self._batches.pop(batch, None)
            self._watchers.pop(batch, None)

    async def _ended(self, batch: str) -> bool:
        """Wait for the end of a batch; False if there is none of that name."""
        first_s = wait_s = self._options.batch_poll_s
        while True:
            try:
                stage = await self._api.stage(batch)
            except ModelRequestError:  # were it the key, the next batch would say so
                return False
            self._batches[batch].done = stage.done
            if stage.ended:
                return True
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * _SLOWER, first_s * _SLOWEST)

    def _hand_out(self, batch: str, results: Mapping[str, Params | Exception]) -> None:
        assert self._ledger is not None
        nothing = TransientError("the batch ended without an answer to it")
        for id_ in self._ledger.requests(batch):
            result = results.get(id_, nothing)
            if isinstance(result, Exception):
                self._delivered(id_)
                self._settle([id_], result)
            elif id_ in self._asked and self._asked[id_].callers:
                self._settle([id_], result)
            else:  # its episode was stopped, or has not come so far again
                self._asked.pop(id_, None)
                self._arrived[id_] = result

    def _fail(self, batch: str, error: Exception) -> None:
        """Nothing comes of this batch any more."""
        assert self._ledger is not None
        ids = tuple(self._ledger.requests(batch))
        self._ledger.forget(batch)
        self._settle(ids, error)

    def _delivered(self, id_: str) -> None:
        assert self._ledger is not None
        self._ledger.delivered(id_)

    def _settle(self, ids: Sequence[str], result: Params | Exception) -> None:
        """Answer those who wait."""
        for id_ in ids:
            asked = self._asked.pop(id_, None)
            if asked is None or asked.outcome.done():
                continue
            if isinstance(result, Exception):
                asked.outcome.set_exception(result)
                asked.outcome.exception()  # it counts as seen: perhaps nobody waits any more
            else:
                asked.outcome.set_result(result)
