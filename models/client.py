"""What the clients of all providers share: options, one request with retries, and errors in one clear line."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from trellis.models import sse
from trellis.models.deadline import Deadline
from trellis.models.failures import Declined, Failures, is_error
from trellis.models.keys import Key
from trellis.models.limiter import limiter_of
from trellis.models.limits import exhausted_s, of_limits
from trellis.models.messages import Message, Text
from trellis.models.model import Effort, GenerateConfig, ModelFault, ModelRequestError, Reply, StopReason, Usage
from trellis.models.prices import Prices
from trellis.models.retry import RetryPolicy, TransientError, with_retries
from trellis.models.sse import Assembler, Event

_GRACE_S = 5.0
"""How long a stream may stay open after the mark of its end: a server that forgets to close it holds nobody up."""
_STREAM_TYPES = ("text/event-stream", "application/vnd.amazon.eventstream")
_STREAM_BEGINNINGS = (b"data:", b"event:", b":")
"""How server-sent events begin, and JSON does not."""


class ClientOptions(BaseModel):
    """Options of every client of a provider (`-M key=value`). There is none for the key itself: options are written
    into experiment files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str | None = None
    """Where the server listens; the provider's own address by default."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key, for example OPENAI_API_KEY."""
    stream: bool = True
    """Have answers streamed, so that a stall is noticed. A server that answers in one piece all the same is
    understood."""
    timeout_s: float = Field(default=1800.0, gt=0)
    """Deadline of one attempt, from connecting to the last byte."""
    stall_timeout_s: float = Field(default=300.0, gt=0)
    """Deadline between two pieces of a stream, and before the first. OpenAI may be silent for as long as it reasons,
    and a server that does not stream is silent until its answer is whole: give those more. Without `stream` only
    `timeout_s` counts."""
    connect_timeout_s: float = Field(default=10.0, gt=0)
    """Deadline of connecting."""
    retry_budget_s: float = Field(default=600.0, ge=0)
    """No attempt begins later than this after the first one."""
    retry_initial_wait_s: float = Field(default=1.0, ge=0)
    """Upper bound of the first wait before trying again; it doubles each time."""
    retry_max_wait_s: float = Field(default=60.0, ge=0)
    """Upper bound of one wait, unless the provider asks for a longer one."""
    max_concurrency: int = Field(default=256, ge=1)
    """Calls at a time with one key. Below it, the limit finds itself by what the provider takes; all agents and judges
    of the process that use the same key at the same address share it."""
    prices: str | None = None
    """A file of prices (TOML or JSON, written as the package's `prices.json`) whose rows stand in the place of the
    package's, or beside them."""
    temperature: float | None = None
    """For calls that do not say; the provider decides by default."""
    max_output_tokens: int | None = Field(default=None, gt=0)
    """For calls that do not say."""
    reasoning_effort: Effort | None = None
    """For calls that do not say; the provider decides by default."""

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, address: str | None) -> str | None:
        parts = urlsplit(address or "http://default")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("no address of a server; give one such as http://localhost:8000/v1")
        return address

    @field_validator("prices")
    @classmethod
    def _readable(cls, file: str | None) -> str | None:
        Prices.listed(file)
        return file

    @property
    def price_list(self) -> Prices:
        """What tokens cost, and how large models' windows are."""
        return Prices.listed(self.prices)

    @property
    def retry_policy(self) -> RetryPolicy:
        return RetryPolicy(self.retry_budget_s, self.retry_initial_wait_s, self.retry_max_wait_s, self.max_concurrency)

    def complete(self, config: GenerateConfig) -> GenerateConfig:
        """The configuration of a call, filled up with these options where it says nothing."""
        return replace(
            config,
            temperature=config.temperature if config.temperature is not None else self.temperature,
            max_output_tokens=config.max_output_tokens or self.max_output_tokens,
            reasoning_effort=config.reasoning_effort or self.reasoning_effort,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider answered, and what it took to get it. Times in seconds."""

    body: Mapping[str, Any]
    """The JSON document exactly as it was sent, whether in one piece or in a stream."""
    latency_s: float
    waited_s: float
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those about limits."""
    retries: int = 0
    throttles: int = 0
    declined: str = ""
    """What the provider said when it turned the request down on policy grounds; `body` is empty then."""

    def reply(
        self,
        message: Message,
        stop_reason: StopReason,
        usage: Usage = Usage(),
        cost_usd: float | None = None,
        tier: str = "",
    ) -> Reply:
        """What a client makes of it."""
        waiting = (self.latency_s, self.waited_s)
        return Reply(message, stop_reason, usage, cost_usd, *waiting, tier, self.retries, self.throttles)

    def refusal(self) -> Reply:
        """What `declined` is for a scaffold."""
        return self.reply(Message("assistant", (Text(self.declined),)), "refusal")


Call = Callable[[Any], AbstractAsyncContextManager[Any]]
"""Sends one request with the SDK's client, through its `with_streaming_response`."""
Check = Callable[[Mapping[str, Any]], None]
"""Raises `TransientError`, `Declined` or `ModelRequestError` for a body that reports a failure under HTTP 200."""
Read = Callable[[bytes], Mapping[str, Any]]
"""Makes the body of what was sent in one piece. Raises `TransientError` for what is cut off."""
Events = Callable[[Any, AsyncIterator[bytes]], AsyncIterator[Event]]
"""Makes events of the bytes of a stream; given the SDK's client too, which may know how (`sse_events` does not need
it)."""


def sse_events(client: Any, chunks: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    return sse.events(chunks)


class Endpoint:
    """One model at one provider: sends requests until one is answered, and says why if none is.

    `openai` and `anthropic` were made by the same generator: their clients take the same arguments and their
    exceptions have the same names and shapes. The SDK is imported with the first request.
    """

    def __init__(
        self,
        name: str,
        sdk: str,
        client: str,
        key: Key,
        options: ClientOptions,
        *,
        arguments: Mapping[str, Any] | None = None,
        events: Events = sse_events,
    ) -> None:
        """`client` is the SDK's class, constructed with the options' address and deadlines and with `arguments`, which
        are the key alone by default."""
        self.name = name
        """The model's name; every message begins with it."""
        self._sdk_name, self._client_name = sdk, client
        self._key = key
        self._options = options
        self._arguments = {"api_key": key.value or "none"} if arguments is None else arguments
        self._events = events
        self._failures = Failures(name, key)
        self._limiter = limiter_of(options.base_url or client, key.value)
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(
        self,
        call: Call,
        assembler: Callable[[], Assembler] | None = None,
        check: Check = lambda body: None,
        read: Read | None = None,
    ) -> Answer:
        """Call until there is an answer that passes `check`; a streamed one is put together by an `assembler`, any
        other is read as a JSON object unless `read` says how.

        Raises:
            ModelRequestError: the request can never succeed as it is.
            ModelFault: the retry budget is spent.
        """
        started = time.monotonic()
        client = self._connect()

        async def attempt() -> tuple[Mapping[str, Any], Mapping[str, str], str]:
            try:
                body, headers = await self._attempt(client, call, assembler, read or _json_object)
                check(body)
            except Declined as declined:
                return {}, {}, str(declined)
            return body, headers, ""

        try:
            tried = await with_retries(attempt, self._options.retry_policy, self.name, self._limiter)
        except (ModelRequestError, ModelFault) as error:
            error.__context__ = None  # the SDK's own error holds the request, and with it the key
            raise
        (body, headers, declined), latency_s = tried.value, time.monotonic() - started
        if used_up_s := exhausted_s(headers):  # the next call would be turned away
            self._limiter.pause(min(used_up_s, self._options.retry_max_wait_s))
        return Answer(body, latency_s, tried.waited_s, headers, tried.retries, tried.throttles, declined)

    async def close(self) -> None:
        """Close the connections. The next request opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def one_line(self, text: object) -> str:
        """See `Key.one_line`."""
        return self._key.one_line(text)

    def failure(self, error: Mapping[str, Any], status: int | None = None) -> Exception:
        """The exception for an error object that a body under HTTP 200 contains; `status`: if it has one of its own."""
        return self._failures.of_event(error) if status is None else self._failures.of_response(status, error, {})

    @property
    def account(self) -> str:
        """Names who asks and where, without telling the key."""
        place = self._options.base_url or self._client_name
        return hashlib.sha256(f"{place}\n{self._key.value}".encode()).hexdigest()[:16]

    def _connect(self) -> Any:
        """The SDK's client. Its connections belong to the event loop that opened them: another loop gets another."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            sdk, options = importlib.import_module(self._sdk_name), self._options
            timeout = sdk.Timeout(options.timeout_s, connect=options.connect_timeout_s)
            general = {"base_url": options.base_url, "timeout": timeout, "max_retries": 0}
            self._loop = loop
            self._client = getattr(sdk, self._client_name)(**general | dict(self._arguments))  # no name for the key
        return self._client

    async def _attempt(
        self, client: Any, call: Call, assembler: Callable[[], Assembler] | None, read: Read
    ) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        """One request: the body of its answer, and the answer's headers.

        Raises:
            TransientError, ModelRequestError, Declined: with the headers' advice in them.
        """
        import httpx2

        sdk, options = importlib.import_module(self._sdk_name), self._options
        stream = assembler() if assembler else None
        deadline = Deadline(options.timeout_s, options.stall_timeout_s if stream and options.stream else math.inf)
        headers: Mapping[str, str] = {}
        try:
            async with deadline, call(client) as response:
                deadline.heard()
                headers = of_limits(response.headers)
                body = await self._body(client, response, stream, deadline, read)
        except sdk.APIStatusError as error:
            raise self._failures.of_response(
                error.status_code, error.body, error.response.headers, error.message
            ) from None
        except (sdk.APIConnectionError, httpx2.HTTPError, TimeoutError) as error:
            ended = stream.whole() if stream else None  # what breaks after the mark of the end does no harm
            if ended is None:
                raise self._broken(error, deadline) from None
            body = ended
        body = self._key.cut_from(body)  # also what a stream brought piece by piece
        if is_error(body):
            raise self._failures.of_event(body, headers)
        return body, headers

    async def _body(
        self, client: Any, response: Any, stream: Assembler | None, deadline: Deadline, read: Read
    ) -> Mapping[str, Any]:
        """The body of an answer, in whichever way it is sent."""

        async def chunks() -> AsyncIterator[bytes]:
            async for chunk in response.iter_bytes():
                deadline.heard()
                yield chunk

        pieces = chunks()
        if stream is None or not response.headers.get("content-type", "").startswith(_STREAM_TYPES):
            content = b"".join([chunk async for chunk in pieces])
            if stream is None or not content.startswith(_STREAM_BEGINNINGS):
                return read(content)
            pieces = _in_one(content)  # a stream whose type is wrong
        async for event in self._without_key(self._events(client, pieces)):
            if is_error(event):
                raise self._failures.of_event(event, response.headers)
            _feed(stream, event)
            if deadline.silence_s > _GRACE_S and stream.whole() is not None:
                deadline.silence_s = _GRACE_S
                deadline.heard()
        body = stream.whole()
        if body is None:
            raise TransientError("the stream ended before the answer was whole")
        return body

    async def _without_key(self, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
        async for event in events:
            yield self._key.cut_from(event)

    def _broken(self, error: Exception, deadline: Deadline) -> TransientError:
        """The error for a connection that did not hold."""
        import httpx2

        cause = error if isinstance(error, TimeoutError) else error.__cause__ or error
        if isinstance(cause, httpx2.ConnectTimeout):
            return TransientError(f"no connection within {self._options.connect_timeout_s:g} s")
        if isinstance(cause, TimeoutError) and not deadline.is_over:
            return TransientError(f"nothing came for {deadline.silence_s:g} s")
        if isinstance(cause, httpx2.TimeoutException | TimeoutError):
            return TransientError(f"no answer within {self._options.timeout_s:g} s")
        return TransientError(f"connection failed: {self.one_line(cause) or type(cause).__name__}")


async def _in_one(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _feed(stream: Assembler, event: Event) -> None:
    try:
        stream.feed(event)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise TransientError(f"the stream is damaged: {type(error).__name__} {error} in an event") from None


def _json_object(content: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise TransientError("the answer was not a JSON object (cut off, or sent by something in between)")
    return body


def json_lines(content: bytes) -> Mapping[str, Any]:
    """A `Read` for JSON Lines: a body whose `lines` they are."""
    try:
        lines = [json.loads(line) for line in content.split(b"\n") if line.strip()]
    except ValueError:
        lines = [None]
    if not all(isinstance(line, dict) for line in lines):
        raise TransientError("the results are not JSON objects, one a line (cut off, or sent by something in between)")
    return {"lines": lines}
