"""Spans by OpenTelemetry's conventions: into its own exporter in memory, to a real endpoint, into a file."""

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from trellis.trajectories.converters import to_otel
from trellis.trajectories.converters.converter import ConversionError, Losses
from trellis.trajectories.converters.lost import PAYLOADS
from trellis.trajectories.converters.telling import Outcome, Told

pytest.importorskip("opentelemetry.sdk", reason="needs the extra otel")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra otel")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from trellis.trajectories.converters import otlp

Telling = Callable[..., Told]
BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SCORE = {"value": 0.5, "success": False, "valid": True, "explanation": "half", "evidence": {}, "flags": []}


def kept(told: Told, *, run: str = "", content: bool = False) -> tuple[list[ReadableSpan], dict[str, int]]:
    """What OpenTelemetry's exporter in memory is given."""
    memory, losses = InMemorySpanExporter(), Losses()
    count = to_otel.write([told], otlp.Collector("unused", memory), losses, run=run, content=content)
    spans = list(memory.get_finished_spans())
    assert len(spans) == count
    return spans, {loss.what: loss.count for loss in losses}


def named(spans: Sequence[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


def told_of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_run_an_episode_its_calls_and_its_tools(react: Path, telling: Telling) -> None:
    outcome = Outcome("run-1", "completed", score=SCORE, cost_usd=0.75, started_at=BEGAN)
    spans, lost = kept(telling(react, outcome), run="run-1")
    (run,), (episode,) = named(spans, "run run-1"), named(spans, "invoke_agent react")
    assert run.parent is None
    assert episode.parent is not None
    assert run.context is not None
    assert episode.parent.span_id == run.context.span_id
    assert {span.context.trace_id for span in spans if span.context} == {run.context.trace_id}
    assert len({span.context.span_id for span in spans if span.context}) == len(spans)
    about = told_of(episode)
    assert about["gen_ai.operation.name"] == "invoke_agent"
    assert about["gen_ai.provider.name"] == "anthropic"
    assert about["gen_ai.usage.input_tokens"] == 180
    assert about["trellis.cost_usd"] == 0.75
    (event,) = episode.events
    assert event.name == "gen_ai.evaluation.result"
    assert dict(event.attributes or {}) == {
        "gen_ai.evaluation.name": "swe", "gen_ai.evaluation.score.value": 0.5, "gen_ai.evaluation.score.label": "fail",
    }  # fmt: skip
    chats = named(spans, "chat claude")
    assert len(chats) == 4
    first = told_of(chats[0])
    assert first["gen_ai.request.model"] == "claude"
    assert first["gen_ai.request.temperature"] == 0.5
    assert first["gen_ai.response.finish_reasons"] == ["tool_calls"]
    assert (first["gen_ai.usage.input_tokens"], first["gen_ai.usage.cache_read.input_tokens"]) == (150, 40)
    assert chats[0].start_time == int(BEGAN.timestamp() * 1e9)
    assert chats[0].end_time == int((BEGAN.timestamp() + 1) * 1e9)
    assert chats[0].kind.name == "CLIENT"
    (judge,) = named(spans, "chat judge")
    assert told_of(judge)["trellis.role"] == "judge"
    tools = named(spans, "execute_tool shell")
    assert [told_of(tool)["gen_ai.tool.call.id"] for tool in tools] == ["c1", "c2", "c3", "main-use-1", "c4", "c5"]
    assert [told_of(tool).get("error.type") for tool in tools] == [None, None, None, None, "tool_error", "cut_off"]
    assert [tool.status.is_ok for tool in tools] == [True] * 4 + [False] * 2
    assert told_of(tools[2])["trellis.exit_code"] == 1
    parents = {span.parent.span_id for span in (*chats, *tools) if span.parent}
    assert episode.context is not None
    assert parents == {episode.context.span_id}
    everything = json.dumps([told_of(span) for span in spans], default=str)
    assert "Looking" not in everything
    assert "cat x" not in everything
    assert "half" not in str(event.attributes), "what was said is left out unless it is asked for"
    assert lost[to_otel.SAID] > 0


def test_what_was_said_can_be_asked_for(react: Path, telling: Telling) -> None:
    spans, lost = kept(telling(react), content=True)
    chats = [told_of(span) for span in named(spans, "chat claude")]
    assert json.loads(chats[0]["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be careful."}]
    assert json.loads(chats[0]["gen_ai.input.messages"])[0]["parts"][0] == {"type": "text", "content": "Fix it."}
    parts = json.loads(chats[0]["gen_ai.output.messages"])[0]["parts"]
    assert [part["type"] for part in parts] == ["reasoning", "text", "tool_call", "tool_call"]
    assert json.loads(chats[0]["gen_ai.tool.definitions"])[0]["name"] == "shell"
    told = [json.loads(chat["gen_ai.input.messages"]) for chat in chats]
    assert [len(messages) for messages in told] == [1, 3, 3, 3], "each message is told once"
    tool = told_of(named(spans, "execute_tool shell")[0])
    assert json.loads(tool["gen_ai.tool.call.arguments"]) == {"command": "ls"}
    assert tool["gen_ai.tool.call.result"] == "x\ny"
    assert to_otel.SAID not in lost
    assert lost[PAYLOADS] == 1


def test_branches_are_spans_with_their_nodes(tree: Path, telling: Telling) -> None:
    spans, _ = kept(telling(tree))
    (episode,) = named(spans, "invoke_agent tree")
    assert episode.parent is None
    branch = named(spans, "branch main/node-1")[0]
    about = told_of(branch)
    assert (about["trellis.node.stage"], about["trellis.node.metric"], about["trellis.node.best"]) == (
        "debug",
        0.75,
        True,
    )
    assert branch.parent is not None
    assert episode.context is not None
    assert branch.parent.span_id == episode.context.span_id
    inside = [span.name for span in spans if span.parent and branch.context
              and span.parent.span_id == branch.context.span_id]  # fmt: skip
    assert inside == ["chat claude", "execute_tool python", "chat claude"]
    assert all(span.start_time and span.end_time and span.start_time <= span.end_time for span in spans)


class _Collector(BaseHTTPRequestHandler):
    """Takes OTLP over HTTP and parses it with the protocol's own classes."""

    requests: list[ExportTraceServiceRequest]
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        assert self.path == "/v1/traces"
        assert self.headers["Content-Type"] == "application/x-protobuf"
        self.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def collector(status: int = 200) -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    requests: list[ExportTraceServiceRequest] = []
    handler = type("Handler", (_Collector,), {"requests": requests, "status": status})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_collector_takes_them(react: Path, telling: Telling) -> None:
    with collector() as (endpoint, requests):
        target = otlp.Collector(endpoint)
        count = to_otel.write([telling(react, Outcome("r", started_at=BEGAN))], target, Losses(), run="r")
        target.close()
    spans = [span for request in requests for resource in request.resource_spans
             for scope in resource.scope_spans for span in scope.spans]  # fmt: skip
    assert len(spans) == count == 13
    by_id = {span.span_id: span for span in spans}
    roots = [span.name for span in spans if not span.parent_span_id]
    assert roots == ["run r"]
    assert all(not span.parent_span_id or span.parent_span_id in by_id for span in spans)
    assert {len(span.trace_id) for span in spans} == {16}
    service = requests[0].resource_spans[0].resource.attributes
    assert [(each.key, each.value.string_value) for each in service] == [("service.name", "trellis")]


def test_a_collector_that_refuses(react: Path, telling: Telling) -> None:
    with collector(status=400) as (endpoint, _):
        target = otlp.Collector(f"{endpoint}/v1/traces")
        with pytest.raises(ConversionError, match=r"/v1/traces did not take the spans"):
            to_otel.write([telling(react)], target, Losses())
        target.close()


def test_a_file_holds_requests_as_json(react: Path, telling: Telling) -> None:
    file = StringIO()
    to_otel.write([telling(react, Outcome("r", started_at=BEGAN))], otlp.File(file), Losses())
    (line,) = file.getvalue().splitlines()
    spans = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert all(len(span["traceId"]) == 32 and len(span["spanId"]) == 16 for span in spans)
    assert all(int(span["traceId"], 16) for span in spans)
    kinds = {span["name"]: span["kind"] for span in spans}
    assert kinds["chat claude"] == 3
    assert isinstance(spans[0]["startTimeUnixNano"], str)


async def test_half_of_a_surrogate_pair_is_written_out(
    looped: Callable[..., Any], telling: Telling, tmp_path: Path
) -> None:
    log = await looped(tmp_path / "odd", task="a\ud800b")
    with (tmp_path / "spans.json").open("w", encoding="utf-8") as file:
        to_otel.write([telling(log)], otlp.File(file), Losses())
    assert '"a\\\\ud800b"' in (tmp_path / "spans.json").read_text("utf-8")
