"""Spans into OpenTelemetry's own library: to a collector (OTLP over HTTP), or into a file of requests as JSON."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, TextIO

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from trellis.trajectories.converters.pieces import dumped
from trellis.trajectories.converters.telling import encodable
from trellis.trajectories.converters.to_otel import Span

_DEADLINE_S = 30.0
_SCOPE = InstrumentationScope("trellis")
_RESOURCE = Resource({"service.name": "trellis"})
_IDS = ("traceId", "spanId", "parentSpanId")


class Collector:
    """An OTLP endpoint. Headers, certificates and the like are as the variables of OpenTelemetry say."""

    def __init__(self, endpoint: str, exporter: SpanExporter | None = None) -> None:
        """`endpoint` without a path, as in OTEL_EXPORTER_OTLP_ENDPOINT, or the whole address of /v1/traces."""
        address = endpoint.rstrip("/")
        self.address = address if address.endswith("/v1/traces") else f"{address}/v1/traces"
        self._exporter = exporter or OTLPSpanExporter(endpoint=self.address, timeout=_DEADLINE_S)

    def take(self, spans: Sequence[Span]) -> bool:
        return self._exporter.export([readable(span) for span in spans]) is SpanExportResult.SUCCESS

    def close(self) -> None:
        self._exporter.shutdown()

    def __str__(self) -> str:
        return self.address


class File:
    """Requests of OTLP as JSON, one a line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def take(self, spans: Sequence[Span]) -> bool:
        request = MessageToDict(encode_spans([readable(span) for span in spans]), use_integers_for_enums=True)
        self._file.write(dumped(_hexed(request)) + "\n")
        return True


def readable(span: Span) -> ReadableSpan:
    """A span as exporters of OpenTelemetry take it."""
    parent = None if span.parent is None else _context(span.trace, span.parent)
    told = span.evaluation
    return ReadableSpan(
        name=_legal(span.name),
        context=_context(span.trace, span.id),
        parent=parent,
        resource=_RESOURCE,
        attributes={name: _legal(value) for name, value in span.attributes.items()},
        events=()
        if told is None
        else (Event("gen_ai.evaluation.result", {name: _legal(value) for name, value in told.items()}, span.end),),
        kind=SpanKind.CLIENT if span.client else SpanKind.INTERNAL,
        instrumentation_scope=_SCOPE,
        status=Status(StatusCode.ERROR, _legal(span.error)) if span.error else Status(StatusCode.UNSET),
        start_time=span.start,
        end_time=span.end,
    )


def _legal(value: Any) -> Any:
    return encodable(value) if isinstance(value, str) else value


def _context(trace: int, id: int) -> SpanContext:
    return SpanContext(trace, id, False, TraceFlags(TraceFlags.SAMPLED))


def _hexed(value: Any) -> Any:
    """OTLP has ids in hexadecimal digits, where protobuf's JSON has base64."""
    if isinstance(value, dict):
        return {name: base64.b64decode(inner).hex() if name in _IDS else _hexed(inner) for name, inner in value.items()}
    return [_hexed(inner) for inner in value] if isinstance(value, list) else value
