"""Batches of OpenAI: requests go up as a file, and answers come down as one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from trellis.models.batch import Params, Stage
from trellis.models.client import Endpoint, json_lines
from trellis.models.failures import Declined
from trellis.models.model import ModelRequestError
from trellis.models.retry import TransientError

_ENDED = ("completed", "failed", "expired", "cancelled")
_NOT_IN_BATCHES = ("stream", "service_tier")
_FULL = "token_limit_exceeded"
"""The code of a batch that does not fit into the queue beside those that are under way (OpenAI, "Batch API", rate
limits)."""


class ResponsesBatches:
    """Batches of Responses. A `BatchApi`."""

    most_requests = 50_000
    most_bytes = 200_000_000
    """Of one file (`openai.types.BatchCreateParams.input_file_id`)."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    @property
    def account(self) -> str:
        return self._endpoint.account

    async def create(self, requests: Mapping[str, Params]) -> str:
        lines = (_line(id_, params) for id_, params in requests.items())
        file = ("requests.jsonl", "\n".join(lines).encode(), "application/jsonl")
        uploaded = await self._endpoint.send(
            lambda client: client.files.with_streaming_response.create(file=file, purpose="batch"), check=_has_id
        )
        made = await self._endpoint.send(_Creation(uploaded.body["id"]), check=_has_id)
        return str(made.body["id"])

    async def stage(self, batch: str) -> Stage:
        found = await self._retrieve(batch)
        counts = found.get("request_counts") or {}
        done = (counts.get("completed") or 0) + (counts.get("failed") or 0)
        return Stage(found.get("status") in _ENDED, done, counts.get("total") or 0)

    async def results(self, batch: str) -> Mapping[str, Params | Exception]:
        found = await self._retrieve(batch)
        if found.get("status") == "failed":
            raise self._failed(found)
        results: dict[str, Params | Exception] = {}
        for file in (found.get("output_file_id"), found.get("error_file_id")):
            if file:
                results |= dict(await self._read(file))
        return results

    async def _retrieve(self, batch: str) -> Mapping[str, Any]:
        answer = await self._endpoint.send(lambda client: client.batches.with_streaming_response.retrieve(batch))
        return answer.body

    async def _read(self, file: str) -> Iterator[tuple[str, Params | Exception]]:
        answer = await self._endpoint.send(
            lambda client: client.files.with_streaming_response.content(file), read=json_lines
        )
        return ((str(line.get("custom_id")), self._result(line)) for line in answer.body["lines"])

    def _result(self, line: Mapping[str, Any]) -> Params | Exception:
        response = line.get("response") or {}
        body = response.get("body")
        if error := line.get("error"):  # it was not executed: expired, cancelled, or timed out
            return TransientError(self._endpoint.one_line(error.get("message") or error.get("code")))
        if response.get("status_code") != 200 or not isinstance(body, dict):
            return self._endpoint.failure(body or {}, response.get("status_code") or 500)
        return {**body, "service_tier": "batch"}

    def _failed(self, batch: Mapping[str, Any]) -> Exception:
        """A batch that was not accepted: its requests are wrong, or there is no room for it now."""
        errors = (batch.get("errors") or {}).get("data") or [{}]
        first = errors[0]
        if first.get("code") == _FULL:
            return TransientError(self._endpoint.one_line(first.get("message") or _FULL))
        failure = self._endpoint.failure({"error": first}, 400)
        return failure if not isinstance(failure, Declined) else ModelRequestError(str(failure))


class _Creation:
    """Makes a batch of a file. Tried again, it first looks whether the attempt before, whose answer was lost, has made
    it already: another one would be paid for as well."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._tried = False

    @asynccontextmanager
    async def __call__(self, client: Any) -> AsyncIterator[Any]:
        known = await self._made(client) if self._tried else None
        self._tried = True
        batches = client.batches.with_streaming_response
        if known:
            sent = batches.retrieve(known)
        else:
            sent = batches.create(input_file_id=self._file, endpoint="/v1/responses", completion_window="24h")
        async with sent as response:
            yield response

    async def _made(self, client: Any) -> str | None:
        newest = await client.batches.list(limit=100)
        return next((batch.id for batch in newest.data if batch.input_file_id == self._file), None)


def _line(id_: str, params: Params) -> str:
    body = {name: value for name, value in params.items() if name not in _NOT_IN_BATCHES}
    return json.dumps({"custom_id": id_, "method": "POST", "url": "/v1/responses", "body": body})


def _has_id(body: Mapping[str, Any]) -> None:
    if not isinstance(body.get("id"), str):
        raise TransientError("the answer names no id")
