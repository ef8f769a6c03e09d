"""The batches of both providers as strict servers run them: files, lines, stages, and what becomes of each request."""

from __future__ import annotations

import email.parser
import email.policy
import json
import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from openai.types import BatchCreateParams

from .anthropic_blocks import Rejected as AnthropicRejected
from .anthropic_blocks import known as anthropic_known
from .anthropic_wire import KEY as anthropic_key
from .anthropic_wire import MessagesServer
from .loopback import JSON, Request, Response
from .openai_content import check_key, known
from .openai_wire import Rejected, ResponsesServer

Fate = Literal["answered", "expired", "cancelled", "broken", "failed", "full"]
"""What becomes of a batch: all its requests are answered; every second one expires, or is cancelled, or meets an error
of the server; or (OpenAI) the whole is not accepted, for it is wrong, or because the queue is full."""


@dataclass
class Batch:
    id: str
    requests: Mapping[str, JSON]
    fate: Fate
    looks: int
    """How often it is still under way when somebody looks."""
    headers: Mapping[str, str]
    answers: list[JSON] = field(default_factory=list)
    """The lines of its results, once it has ended."""

    def lost(self) -> set[str]:
        """Ids of requests that are not answered."""
        return set(list(self.requests)[::2]) if self.fate in ("expired", "cancelled", "broken") else set()


@dataclass
class Batches:
    """What both servers have in common."""

    looks: int = 2
    fates: deque[Fate] = field(default_factory=deque)
    batches: dict[str, Batch] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    """How often each request, by its id, was accepted."""

    def accept(self, prefix: str, requests: Mapping[str, JSON], headers: Mapping[str, str]) -> Batch:
        fate = self.fates.popleft() if self.fates else "answered"
        batch = Batch(f"{prefix}_{len(self.batches) + 1}", requests, fate, self.looks, headers)
        self.batches[batch.id] = batch
        self.asked.update(requests.keys())
        return batch


class OpenAIBatches(Batches):
    def __init__(self, looks: int = 2) -> None:
        super().__init__(looks)
        self.inner = ResponsesServer()
        self.files: dict[str, bytes] = {}
        self.file_of: dict[str, str] = {}

    def handle(self, request: Request) -> Response:
        try:
            check_key(request)
            match request.method, request.path.strip("/").split("/"):
                case "POST", ["files"]:
                    return Response(self._upload(request))
                case "GET", ["files", id_, "content"] if id_ in self.files:
                    return Response({}, content=self.files[id_], headers={"content-type": "application/octet-stream"})
                case "POST", ["batches"]:
                    return Response(self._shown(self._create(request)))
                case "GET", ["batches", id_] if id_ in self.batches:
                    return Response(self._shown(self.batches[id_]))
                case "GET", ["batches"]:
                    shown = [self._shown(batch) for batch in reversed(list(self.batches.values()))]
                    return Response({"object": "list", "data": shown, "has_more": False})
                case "GET", _:
                    raise Rejected(f"No such object: {request.path}", 404)
            return self.inner.handle(request)
        except Rejected as rejected:
            return rejected.response

    def _upload(self, request: Request) -> JSON:
        head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + request.content)
        parts: dict[str, Any] = {str(p.get_param("name", header="content-disposition")): p for p in form.iter_parts()}
        if parts["purpose"].get_content().strip() != "batch" or not parts["file"].get_filename().endswith(".jsonl"):
            raise Rejected("Invalid file format for Batch API. Must be .jsonl")
        return self._store(parts["file"].get_payload(decode=True))

    def _store(self, content: bytes) -> JSON:
        id_ = f"file-{len(self.files) + 1}"
        self.files[id_] = content
        return {"id": id_, "object": "file", "bytes": len(content), "created_at": 0, "filename": "requests.jsonl",
                "purpose": "batch", "status": "processed"}  # fmt: skip

    def _create(self, request: Request) -> Batch:
        body = request.body
        known(body, BatchCreateParams, "body")
        if body["endpoint"] != "/v1/responses" or body["completion_window"] != "24h":
            raise Rejected("Invalid value for 'endpoint' or 'completion_window'.")
        if body["input_file_id"] not in self.files:
            raise Rejected(f"No such File object: {body['input_file_id']}", 404)
        lines = [json.loads(line) for line in self.files[body["input_file_id"]].splitlines()]
        for line in lines:
            if line.keys() != {"custom_id", "method", "url", "body"} or line["method"] != "POST":
                raise Rejected("A line of the file is not a request.")
            if line["url"] != body["endpoint"] or line["body"].get("stream") is not None:
                raise Rejected("The URL of a line is another one than the batch's, or it is to be streamed.")
        if len({line["body"]["model"] for line in lines}) != 1:
            raise Rejected("All requests of a batch must be for the same model.")
        requests = {line["custom_id"]: line["body"] for line in lines}
        if len(requests) != len(lines):
            raise Rejected("The custom_id of two lines is the same.")
        batch = self.accept("batch", requests, request.headers)
        self.file_of[batch.id] = body["input_file_id"]
        return batch

    def _shown(self, batch: Batch) -> JSON:
        """The batch as it is now; looking at it lets time go on."""
        shown: JSON = {
            "id": batch.id, "object": "batch", "endpoint": "/v1/responses", "completion_window": "24h",
            "created_at": 0, "input_file_id": self.file_of[batch.id], "errors": None, "output_file_id": None,
            "error_file_id": None,
        }  # fmt: skip
        total = len(batch.requests)
        if batch.looks > 0:
            batch.looks -= 1
            status = "validating" if batch.looks else "in_progress"
            return shown | {"status": status, "request_counts": {"total": total, "completed": 0, "failed": 0}}
        if batch.fate in ("failed", "full"):
            error = {"code": "invalid_request", "message": "Line 1 is wrong.", "line": 1, "param": None}
            if batch.fate == "full":
                error |= {"code": "token_limit_exceeded", "message": "Enqueued token limit reached."}
            return shown | {"status": "failed", "errors": {"object": "list", "data": [error]}}
        if not batch.answers:
            batch.answers = list(self._lines(batch))
        good = [line for line in batch.answers if (line["response"] or {}).get("status_code") == 200]
        bad = [line for line in batch.answers if line not in good]
        files = {name: self._store(b"\n".join(json.dumps(line).encode() for line in lines))["id"] if lines else None
                 for name, lines in (("output_file_id", good), ("error_file_id", bad))}  # fmt: skip
        status = batch.fate if batch.fate in ("expired", "cancelled") else "completed"
        counts = {"total": total, "completed": len(good), "failed": len(bad)}
        return shown | {"status": status, "request_counts": counts, **files}

    def _lines(self, batch: Batch) -> Iterator[JSON]:
        for id_, body in reversed(list(batch.requests.items())):
            line: JSON = {"id": f"batch_req_{id_[:8]}", "custom_id": id_, "response": None, "error": None}
            if id_ in batch.lost() and batch.fate != "broken":
                yield line | {"error": {"code": f"batch_{batch.fate}", "message": "This request was not executed."}}
                continue
            answer = self.inner.handle(Request("/responses", batch.headers, body))
            if id_ in batch.lost():
                answer = Response({"error": {"message": "The server had an error.", "type": "server_error"}}, 500)
            yield line | {"response": {"status_code": answer.status, "request_id": "r", "body": answer.body}}


class AnthropicBatches(Batches):
    def __init__(self, looks: int = 2) -> None:
        super().__init__(looks)
        self.inner = MessagesServer()

    def handle(self, request: Request) -> Response:
        path = request.path.removeprefix("/v1/messages/batches").strip("/").split("/")
        if not request.path.startswith("/v1/messages/batches"):
            return self.inner.handle(request)
        try:
            if request.headers.get("authorization") != f"Bearer {anthropic_key}":
                raise AnthropicRejected("invalid key", 401, "authentication_error")
            match request.method, path:
                case "POST", [""]:
                    return Response(self._shown(self._create(request), request))
                case "GET", [id_] if id_ in self.batches:
                    return Response(self._shown(self.batches[id_], request))
                case "GET", [id_, "results"] if id_ in self.batches and self.batches[id_].looks <= 0:
                    lines = b"\n".join(json.dumps(line).encode() for line in self.batches[id_].answers)
                    return Response({}, content=lines, headers={"content-type": "application/x-jsonl"})
            raise AnthropicRejected(f"Not found: {request.path}", 404, "not_found_error")
        except AnthropicRejected as rejected:
            return rejected.response

    def _create(self, request: Request) -> Batch:
        sent: Sequence[JSON] = request.body["requests"]
        if request.body.keys() != {"requests"} or not sent:
            raise AnthropicRejected("requests: Field required, and nothing else")
        for each in sent:
            if each.keys() != {"custom_id", "params"} or not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", each["custom_id"]):
                raise AnthropicRejected("requests.custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'")
            params = {name: value for name, value in each["params"].items() if name != "temperature"}
            anthropic_known(params, MessageCreateParamsNonStreaming, "requests.params")
            if params.get("stream"):
                raise AnthropicRejected("requests.params.stream: streaming is not supported in batches")
        requests = {each["custom_id"]: each["params"] for each in sent}
        if len(requests) != len(sent):
            raise AnthropicRejected("requests: custom_id must be unique")
        return self.accept("msgbatch", requests, request.headers)

    def _shown(self, batch: Batch, request: Request) -> JSON:
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        shown: JSON = {
            "id": batch.id, "type": "message_batch", "created_at": "2026-01-01T00:00:00Z",
            "expires_at": "2026-01-02T00:00:00Z", "results_url": None,
        }  # fmt: skip
        if batch.looks > 0:
            batch.looks -= 1
            counts["processing"] = len(batch.requests)
            return shown | {"processing_status": "in_progress", "request_counts": counts}
        if not batch.answers:
            batch.answers = list(self._lines(batch))
        counts |= Counter(line["result"]["type"] for line in batch.answers)
        url = f"http://{request.headers['host']}/v1/messages/batches/{batch.id}/results"
        return shown | {"processing_status": "ended", "request_counts": counts, "results_url": url}

    def _lines(self, batch: Batch) -> Iterator[JSON]:
        for id_, params in reversed(list(batch.requests.items())):
            yield {"custom_id": id_, "result": self._result(batch, id_, params)}

    def _result(self, batch: Batch, id_: str, params: JSON) -> JSON:
        if id_ in batch.lost():
            error = {"type": "error", "error": {"type": "api_error", "message": "Internal server error"}}
            words = {"expired": "expired", "cancelled": "canceled"}
            return {"type": words[batch.fate]} if batch.fate in words else {"type": "errored", "error": error}
        answer = self.inner.handle(Request("/v1/messages", batch.headers, params))
        if answer.status != 200:
            return {"type": "errored", "error": answer.body}
        message = {**answer.body, "usage": {**answer.body["usage"], "service_tier": "batch"}}
        return {"type": "succeeded", "message": message}
