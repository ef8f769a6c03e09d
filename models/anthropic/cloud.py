"""`bedrock/*` and `vertex/*`: Anthropic's models on the platforms of Amazon and Google, by the SDK's classes."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from trellis.models.anthropic.client import CountingModel, MessagesModel, MessagesOptions
from trellis.models.anthropic.wire import PROVIDER
from trellis.models.client import Endpoint
from trellis.models.keys import Key
from trellis.models.model import ModelRequestError
from trellis.models.options import parse_options
from trellis.models.retry import TransientError
from trellis.models.sse import Event

_NAME = re.compile(r"claude-[a-z]+(-\d{1,2})+(?!\d)")
"""Anthropic's own name in that of a platform: the rest is a region, a date and a version."""


class Hosted(MessagesModel):
    """A model on another's platform: its window is as on Anthropic's own, its prices are the platform's affair.

    Whether it can read the thinking of another model is not said there.
    """

    @property
    def context_tokens(self) -> int | None:
        """See `HasWindow`."""
        return self._window[0]

    @property
    def max_output_tokens(self) -> int | None:
        """See `HasWindow`."""
        return self._window[1]

    @property
    def _window(self) -> tuple[int | None, int | None]:
        found, prices = _NAME.search(self._model), self._options.price_list
        listed = prices.window(self.name)
        return prices.window(f"{PROVIDER}/{found[0]}") if found and listed == (None, None) else listed


class BedrockOptions(MessagesOptions):
    """Options of `bedrock/*`. Credentials are AWS's: AWS_BEARER_TOKEN_BEDROCK (or the variable that `api_key_env`
    names), AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role of the machine."""

    region: str | None = None
    """For example us-east-1; AWS_REGION, AWS_DEFAULT_REGION or that of the profile by default."""
    profile: str | None = None
    """A profile of AWS's own configuration."""


class Bedrock(Hosted):
    """A model of Anthropic on Amazon Bedrock, which neither counts tokens nor compacts."""

    def __init__(self, model: str, **options: Any) -> None:
        """`model` is Amazon's name for it, for example us.anthropic.claude-opus-4-1-20250805-v1:0.

        Raises:
            ValueError: an unknown or impossible option.
            ModelRequestError: the extra, or the region, is missing.
        """
        name = f"bedrock/{model}"
        _require(name, "boto3", "bedrock")
        parsed = parse_options(BedrockOptions, options, name)
        region = parsed.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        region = region or _region_of(name, parsed.profile)
        token = os.environ.get(parsed.api_key_env or "AWS_BEARER_TOKEN_BEDROCK", "").strip()
        if parsed.api_key_env:
            token = Key.read(name, parsed.api_key_env).value
        arguments: dict[str, Any] = {"aws_region": region}
        if token and not parsed.profile:
            key = Key(parsed.api_key_env or "AWS_BEARER_TOKEN_BEDROCK", token)
            arguments["api_key"] = token
        else:
            key = Key("the AWS credentials", os.environ.get("AWS_SECRET_ACCESS_KEY", ""))
            arguments["aws_profile"] = parsed.profile
        endpoint = Endpoint(
            name, "anthropic", "AsyncAnthropicBedrock", key, parsed, arguments=arguments, events=_aws_events
        )
        super().__init__(name, model, parsed, endpoint)

    def _call(self, client: Any, method: str, request: dict[str, Any]) -> AbstractAsyncContextManager[Any]:
        from botocore.exceptions import BotoCoreError

        advice = "no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or -M profile=..."
        return _with_credentials(super()._call(client, method, request), self.name, BotoCoreError, advice)


class VertexOptions(MessagesOptions):
    """Options of `vertex/*`. Credentials are Google's application default ones, or an access token in the variable that
    `api_key_env` names."""

    project: str | None = None
    """The Google Cloud project; ANTHROPIC_VERTEX_PROJECT_ID or GOOGLE_CLOUD_PROJECT by default."""
    region: str | None = None
    """For example us-east5, or global; CLOUD_ML_REGION by default."""


class Vertex(Hosted, CountingModel):
    """A model of Anthropic on Google's Vertex AI."""

    def __init__(self, model: str, **options: Any) -> None:
        """`model` is Google's name for it, for example claude-opus-4-1@20250805.

        Raises:
            ValueError: an unknown or impossible option.
            ModelRequestError: the extra, the project or the region is missing.
        """
        name = f"vertex/{model}"
        parsed = parse_options(VertexOptions, options, name)
        project = (
            parsed.project or os.environ.get("ANTHROPIC_VERTEX_PROJECT_ID") or os.environ.get("GOOGLE_CLOUD_PROJECT")
        )
        if not project:
            raise ModelRequestError(f"{name}: no project; set ANTHROPIC_VERTEX_PROJECT_ID, or -M project=...")
        region = parsed.region or os.environ.get("CLOUD_ML_REGION")
        if not region:
            raise ModelRequestError(f"{name}: no region; set CLOUD_ML_REGION, or -M region=... (for example global)")
        arguments: dict[str, Any] = {"region": region, "project_id": project}
        key = Key("the Google credentials", "")
        if parsed.api_key_env:
            key = Key.read(name, parsed.api_key_env)
            arguments["access_token"] = key.value
        else:
            _require(name, "google.auth", "vertex")
        endpoint = Endpoint(name, "anthropic", "AsyncAnthropicVertex", key, parsed, arguments=arguments)
        super().__init__(name, model, parsed, endpoint)

    def _call(self, client: Any, method: str, request: dict[str, Any]) -> AbstractAsyncContextManager[Any]:
        if self._options.api_key_env:
            return super()._call(client, method, request)
        from google.auth.exceptions import GoogleAuthError

        advice = "no Google credentials; run `gcloud auth application-default login`, or name a variable with an "
        advice += "access token: -M api_key_env=..."
        return _with_credentials(super()._call(client, method, request), self.name, GoogleAuthError, advice)


def _require(name: str, module: str, extra: str) -> None:
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is in
        found = False
    if not found:
        raise ModelRequestError(f"{name}: needs {module}; pip install 'trellis-agents[{extra}]'")


def _region_of(name: str, profile: str | None) -> str:
    """The region of a profile.

    Raises:
        ModelRequestError: there is no such profile, or it has no region.
    """
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        region = boto3.Session(profile_name=profile).region_name
    except BotoCoreError as error:
        raise ModelRequestError(f"{name}: {error}") from None
    if not region:
        raise ModelRequestError(f"{name}: no region; set AWS_REGION, or -M region=... (for example us-east-1)")
    return str(region)


@asynccontextmanager
async def _with_credentials(
    sent: AbstractAsyncContextManager[Any], name: str, fault: type[Exception], advice: str
) -> AsyncIterator[Any]:
    """A request, with one line for credentials that are missing or cannot be used.

    The SDKs find credentials when they send, and say RuntimeError where there are none.
    """
    try:
        response = await sent.__aenter__()
    except (RuntimeError, fault) as error:
        said = " ".join(str(error).split())
        raise ModelRequestError(f"{name}: {advice} ({said[:200]})") from None
    try:
        yield response
    finally:
        await sent.__aexit__(None, None, None)


async def _aws_events(client: Any, chunks: AsyncIterator[bytes]) -> AsyncIterator[Event]:
    """The events in Amazon's binary framing, by the SDK's decoder. A frame that is cut off is none."""
    from botocore.eventstream import ParserError

    try:
        async for event in client._make_sse_decoder().aiter_bytes(chunks):
            yield json.loads(event.data)
    except (ParserError, ValueError) as error:
        raise TransientError(f"the stream is damaged: {error}") from None
