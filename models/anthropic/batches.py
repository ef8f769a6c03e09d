"""Batches of Anthropic: requests go up in one, and answers come down as lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trellis.models.batch import Params, Stage
from trellis.models.client import Endpoint, json_lines
from trellis.models.retry import TransientError

_BETA = "anthropic-beta"


class MessageBatches:
    """Batches of Messages. A `BatchApi`."""

    most_requests = 100_000
    most_bytes = 256_000_000
    """"Create a Message Batch", Anthropic's API reference."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    @property
    def account(self) -> str:
        return self._endpoint.account

    async def create(self, requests: Mapping[str, Params]) -> str:
        sent = [{"custom_id": id_, "params": _params(request)} for id_, request in requests.items()]
        betas = {request["extra_headers"][_BETA] for request in requests.values() if "extra_headers" in request}
        headers = {_BETA: ",".join(sorted(betas))} if betas else None
        made = await self._endpoint.send(
            lambda client: client.messages.batches.with_streaming_response.create(requests=sent, extra_headers=headers),
            check=_is_batch,
        )
        return str(made.body["id"])

    async def stage(self, batch: str) -> Stage:
        found = await self._endpoint.send(
            lambda client: client.messages.batches.with_streaming_response.retrieve(batch), check=_is_batch
        )
        counts = found.body.get("request_counts") or {}
        total = sum(counts.values())
        return Stage(found.body.get("processing_status") == "ended", total - (counts.get("processing") or 0), total)

    async def results(self, batch: str) -> Mapping[str, Params | Exception]:
        answer = await self._endpoint.send(
            lambda client: client.messages.batches.with_streaming_response.results(batch), read=json_lines
        )
        return {str(line.get("custom_id")): self._result(line.get("result") or {}) for line in answer.body["lines"]}

    def _result(self, result: Mapping[str, Any]) -> Params | Exception:
        match result.get("type"):
            case "succeeded":
                message = result["message"]
                return {**message, "usage": {**(message.get("usage") or {}), "service_tier": "batch"}}
            case "errored":
                return self._endpoint.failure(result.get("error") or {})
            case other:
                return TransientError(f"the request was not answered: {other}")


def _params(request: Params) -> dict[str, Any]:
    """The body of a request for a message, without what belongs to its sending."""
    body = {name: value for name, value in request.items() if name not in ("stream", "extra_headers", "extra_body")}
    return {**body, **request.get("extra_body", {})}


def _is_batch(body: Mapping[str, Any]) -> None:
    if not isinstance(body.get("id"), str):
        raise TransientError("the answer is no batch")
