"""What the clients of all providers share: options, one request with retries, and errors in one clear line."""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from trellis.models.messages import Media, Part
from trellis.models.model import Effort, GenerateConfig, ModelRequestError
from trellis.models.retry import RetryPolicy, TransientError, passes, retry_after_s, with_retries


class ClientOptions(BaseModel):
    """Options of every client of a provider (`-M key=value`). There is none for the key itself: options are written
    into experiment files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str | None = None
    """Where the server listens; the provider's own address by default."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key, for example OPENAI_API_KEY."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Deadline of one attempt, from connecting to the last byte."""
    connect_timeout_s: float = Field(default=10.0, gt=0)
    """Deadline of connecting."""
    retry_budget_s: float = Field(default=600.0, ge=0)
    """No attempt begins later than this after the first one."""
    retry_initial_wait_s: float = Field(default=1.0, ge=0)
    """Upper bound of the first wait before trying again; it doubles each time."""
    retry_max_wait_s: float = Field(default=60.0, ge=0)
    """Upper bound of one wait, unless the provider asks for a longer one."""
    temperature: float | None = None
    """For calls that do not say; the provider decides by default."""
    max_output_tokens: int | None = Field(default=None, gt=0)
    """For calls that do not say."""
    reasoning_effort: Effort | None = None
    """For calls that do not say; the provider decides by default."""

    @property
    def retry_policy(self) -> RetryPolicy:
        return RetryPolicy(self.retry_budget_s, self.retry_initial_wait_s, self.retry_max_wait_s)

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
    """The JSON document that a provider answered with, exactly as it was sent. Times in seconds."""

    body: Mapping[str, Any]
    latency_s: float
    waited_s: float


class Declined(Exception):
    """The provider turned the request down on policy grounds: a refusal, not an error."""


Post = Callable[[Any], Awaitable[Any]]
"""Sends one request with the SDK's client, through its `with_raw_response`."""
Check = Callable[[Mapping[str, Any]], None]
"""Raises `TransientError`, `Declined` or `ModelRequestError` for a body that reports a failure under HTTP 200."""


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
        refusal_codes: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        """The model's name; every message begins with it."""
        self._sdk_name, self._client_name = sdk, client
        self._key = key
        self._options = options
        self._refusal_codes = refusal_codes
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(self, post: Post, check: Check = lambda body: None) -> Answer:
        """Post until there is an answer that passes `check`.

        Raises:
            Declined: on policy grounds.
            ModelRequestError: the request can never succeed as it is.
            ModelFault: the retry budget is spent.
        """
        started = time.monotonic()
        client = self._connect()

        async def attempt() -> Mapping[str, Any]:
            body = await self._attempt(post, client)
            check(body)
            return body

        body, waited_s = await with_retries(attempt, self._options.retry_policy, self.name)
        return Answer(body, time.monotonic() - started, waited_s)

    async def close(self) -> None:
        """Close the connections. The next request opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def one_line(self, text: object) -> str:
        """Text of a provider in one line, without control characters, keys or excess."""
        clean = re.sub(r"[^\x20-\x7e\xa0-\U0010ffff]+|\s+", " ", self._key.redact(str(text))).strip()
        return clean if len(clean) <= 300 else f"{clean[:300]}..."

    def _connect(self) -> Any:
        """The SDK's client. Its connections belong to the event loop that opened them: another loop gets another."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            sdk, options = self._sdk(), self._options
            self._loop = loop
            self._client = getattr(sdk, self._client_name)(
                api_key=self._key.value or "none",
                base_url=options.base_url,
                timeout=sdk.Timeout(options.timeout_s, connect=options.connect_timeout_s),
                max_retries=0,
            )
        return self._client

    def _sdk(self) -> Any:
        return importlib.import_module(self._sdk_name)

    async def _attempt(self, post: Post, client: Any) -> Mapping[str, Any]:
        sdk, timeout_s = self._sdk(), self._options.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                content: bytes = (await post(client)).http_response.content
        except sdk.APIStatusError as error:
            raise self._explain(error) from None
        except (sdk.APITimeoutError, TimeoutError):
            raise TransientError(f"no answer within {timeout_s:g} s") from None
        except sdk.APIConnectionError as error:
            raise TransientError(f"connection failed: {self.one_line(error.__cause__ or error)}") from None
        try:
            body = json.loads(content)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise TransientError("the answer was not a JSON object (cut off, or sent by something in between)")
        return body

    def _explain(self, error: Any) -> Exception:
        """An HTTP error as the exception that its status and code call for."""
        status: int = error.status_code
        detail = error_detail(error.body)
        code = str(detail.get("code") or detail.get("type") or "")
        said = self.one_line(detail.get("message") or error.message)
        if code in self._refusal_codes:
            return Declined(said)
        advice = _ADVICE_BY_CODE.get(code)
        if advice is None and passes(status):
            return TransientError(f"HTTP {status}: {said}", retry_after_s(error.response.headers))
        advice = advice or _ADVICE.get(status, "the request is wrong as it is")
        return ModelRequestError(f"{self.name}: {advice.format(key=self._key.env)} (HTTP {status}: {said})")


@dataclass(frozen=True, slots=True)
class Key:
    """A secret that comes from the environment and does not appear in any text."""

    env: str
    value: str

    def __repr__(self) -> str:
        return f"Key({self.env})"

    @classmethod
    def read(cls, name: str, env: str) -> Key:
        """The key in environment variable `env`, for the model `name`.

        Raises:
            ModelRequestError: the variable is not set.
        """
        if value := os.environ.get(env, "").strip():
            return cls(env, value)
        raise ModelRequestError(
            f"{name}: no key; set the environment variable {env}, or name another: -M api_key_env=..."
        )

    def redact(self, text: str) -> str:
        """`text` without this key and without anything that looks like one (providers quote keys half masked)."""
        text = text.replace(self.value, "[key]") if self.value else text
        return re.sub(r"\b(sk|pk)-[\w*.-]{4,}", "[key]", text)


_ADVICE = {
    401: "the key was not accepted; check {key}",
    402: "the account cannot pay; check its billing",
    403: "the key may not do this; check the rights of {key} and of its project",
    404: "unknown model or address; check the model's name and base_url",
    413: "the request is too large; send less",
}
_ADVICE_BY_CODE = {
    "context_length_exceeded": "the conversation is longer than the model's context window; send less",
    "insufficient_quota": "the account's quota is used up; check its plan and billing",
    "billing_error": "the account cannot pay; check its billing",
    "model_not_found": "unknown model; check its name and the rights of {key}",
}


def error_detail(body: object) -> Mapping[str, Any]:
    """The error object of an error body: both `{"error": {...}}` and the object itself occur."""
    if isinstance(body, dict):
        inner = body.get("error", body)
        return inner if isinstance(inner, dict) else {"message": inner}
    return {}


def raw_item(part: Part, provider: str) -> Any:
    """The provider's own item kept beside a part, or None if the part came from somewhere else."""
    raw = getattr(part, "raw", None)
    return raw["item"] if raw and raw.get("provider") == provider else None


def parse_arguments(written: Any) -> tuple[dict[str, Any], str]:
    """A tool call's arguments as a provider wrote them, and, if they are no JSON object, the text that was written."""
    if isinstance(written, dict):
        return written, ""
    text = str(written or "")
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}, text
    return (value, "") if isinstance(value, dict) else ({}, text)


def data_url(medium: Media) -> str:
    """A medium as a URL that contains it."""
    return f"data:{medium.media_type};base64,{base64.b64encode(medium.data).decode()}"


def unsupported(model: str, part: Part) -> ModelRequestError:
    """The error for a part that this client cannot send."""
    return ModelRequestError(f"{model}: this client cannot send a part of type {type(part).__name__} here")
