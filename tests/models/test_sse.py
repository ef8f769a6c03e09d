"""Server-sent events from raw bytes, and what OpenAI's formats make of them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trellis.models.openai.streams import ChatAssembler, ResponsesAssembler
from trellis.models.retry import TransientError
from trellis.models.sse import DONE, Event, events


async def read(*chunks: bytes) -> list[Event]:
    async def sent() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [event async for event in events(sent())]


@given(
    texts=st.lists(st.text(), max_size=5),
    end=st.sampled_from([b"\n", b"\r", b"\r\n"]),
    cuts=st.lists(st.integers(0, 400), max_size=20),
)
async def test_what_is_cut_anywhere_is_read_as_a_whole(texts: list[str], end: bytes, cuts: list[int]) -> None:
    """Also with characters in it that end a line elsewhere, such as U+2028."""
    stream = b"".join(
        b": a comment"
        + end
        + b"event: x"
        + end
        + b"data: "
        + json.dumps({"t": t}, ensure_ascii=False).encode()
        + end * 2
        for t in texts
    )
    places = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    chunks = [stream[a:b] for a, b in pairwise(places)]
    assert await read(*chunks) == [{"t": text} for text in texts]


async def test_data_in_several_lines() -> None:
    assert await read(b'data: {"a":\ndata:1}\n\n') == [{"a": 1}]


async def test_an_event_that_has_not_ended_is_none() -> None:
    assert await read(b'data: {"a": 1}\n\ndata: {"a": 2}\n') == [{"a": 1}]


async def test_the_end_mark() -> None:
    assert (await read(b"data: [DONE]\n\n"))[0] is DONE


@pytest.mark.parametrize("data", [b"{", b"[1]", b"hello", b'"text"'])
async def test_data_that_is_no_object_is_damage(data: bytes) -> None:
    with pytest.raises(TransientError, match="the stream is damaged"):
        await read(b"data: " + data + b"\n\n")


# --- Responses ---


def fed(assembler: Any, sent: Sequence[Event]) -> Any:
    for event in sent:
        assembler.feed(event)
    return assembler.whole()


def item_done(number: int, index: int, item: Any) -> Event:
    return {"type": "response.output_item.done", "sequence_number": number, "output_index": index, "item": item}


CREATED: Event = {"type": "response.created", "sequence_number": 0, "response": {"id": "r"}}


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed"])
def test_a_response_is_what_its_last_event_says(status: str) -> None:
    body = {"id": "r", "status": status, "output": [{"type": "message"}]}
    last = {"type": f"response.{status}", "sequence_number": 9, "response": body}
    assert fed(ResponsesAssembler(), [CREATED]) is None
    assert fed(ResponsesAssembler(), [CREATED, CREATED, last, last]) == body


def test_items_that_the_last_event_leaves_out() -> None:
    last = {"type": "response.completed", "sequence_number": 9, "response": {"id": "r", "output": []}}
    items = [item_done(1, 1, {"id": "b"}), item_done(2, 0, {"id": "a"})]
    assert fed(ResponsesAssembler(), [CREATED, *items, last])["output"] == [{"id": "a"}, {"id": "b"}]


def test_a_second_response_in_a_stream_is_damage() -> None:
    with pytest.raises(TransientError, match="a second response"):
        fed(ResponsesAssembler(), [CREATED, {**CREATED, "sequence_number": 1}])


# --- Chat Completions ---


def chunk(delta: Any, finish: str | None = None, **more: Any) -> Event:
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def message(*sent: Event) -> Any:
    return fed(ChatAssembler(), sent)["choices"][0]["message"]


def calls(*deltas: Any) -> Any:
    sent = [chunk({"tool_calls": [delta]}) for delta in deltas]
    return [
        (call.get("id"), call["function"]["name"], call["function"]["arguments"])
        for call in message(*sent, chunk({}, "tool_calls"))["tool_calls"]
    ]


def call(name: str | None = None, arguments: Any = None, **more: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {**more, "function": function}


def test_a_completion_needs_an_end() -> None:
    assembler = ChatAssembler()
    assert fed(assembler, [chunk({"role": "assistant", "content": "Hel"})]) is None
    assert fed(assembler, [chunk({"content": "lo"})]) is None
    body = fed(assembler, [chunk({}, "stop"), {"choices": [], "usage": {"prompt_tokens": 3}}])
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Hello"}
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 3}
    assert body["id"] == "c"


def test_done_alone_is_an_end() -> None:
    assert message(chunk({"content": "Hi"}), DONE)["content"] == "Hi"
    assert fed(ChatAssembler(), [DONE])["choices"] == []


def test_reasoning_in_whichever_field() -> None:
    sent = [chunk({"reasoning_content": "H"}), chunk({"reasoning_content": "m"}), chunk({"content": "x"}, "stop")]
    assert message(*sent)["reasoning_content"] == "Hm"
    detail = {"type": "reasoning.text", "index": 0, "format": "f"}
    pieces = [{**detail, "text": "H"}, {**detail, "text": "m"}, {**detail, "signature": "s"}]
    other = {"type": "reasoning.encrypted", "index": 1, "data": "d"}
    sent = [chunk({"reasoning_details": [piece]}) for piece in [*pieces, other]]
    assert message(*sent, DONE)["reasoning_details"] == [{**detail, "text": "Hm", "signature": "s"}, other]


def test_calls_told_apart_by_index() -> None:
    first = [call("a", "", id="1", index=0), call(None, '{"x":', index=0), call("b", "{}", id="2", index=1)]
    assert calls(*first, call(None, "1}", index=0)) == [("1", "a", '{"x":1}'), ("2", "b", "{}")]


def test_calls_told_apart_by_id_where_all_have_one_index() -> None:
    assert calls(call("a", "{}", id="1", index=0), call("b", "{}", id="2", index=0)) == [
        ("1", "a", "{}"),
        ("2", "b", "{}"),
    ]


def test_calls_without_index() -> None:
    assert calls(call("a", "{", id="1"), call(None, "}"), call("b", "{}", id="2"), call(None, "}", id="1")) == [
        ("1", "a", "{}}"),
        ("2", "b", "{}"),
    ]


def test_calls_without_index_and_id() -> None:
    assert calls(call("a", {"x": 1}), call("a", '{"x":'), call(None, "2}")) == [
        (None, "a", {"x": 1}),
        (None, "a", '{"x":2}'),
    ]


def test_a_name_that_is_repeated_is_said_once() -> None:
    assert calls(call("a", "{", id="1", index=0), call("a", "}", id="1", index=0)) == [("1", "a", "{}")]


def test_what_a_call_has_besides_is_kept() -> None:
    signed = {**call("a", "{}", id="1", index=0), "extra_content": {"google": {"thought_signature": "s"}}}
    (made,) = message(chunk({"tool_calls": [signed]}), DONE)["tool_calls"]
    assert made["extra_content"] == {"google": {"thought_signature": "s"}}


def test_content_in_parts() -> None:
    parts = [{"type": "text", "text": "a"}]
    assert message(chunk({"content": parts}), chunk({"content": "b"}), DONE)["content"] == [
        *parts,
        {"type": "text", "text": "b"},
    ]


def test_a_message_in_one_piece_as_an_event() -> None:
    whole = {"role": "assistant", "content": "Hi"}
    assert message({"choices": [{"index": 0, "message": whole, "finish_reason": "stop"}]})["content"] == "Hi"


def test_usage_in_a_choice_and_null_usage() -> None:
    odd = {
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": {"prompt_tokens": 1}}],
        "usage": None,
    }
    assert fed(ChatAssembler(), [odd])["usage"] == {"prompt_tokens": 1}


@pytest.mark.parametrize("size", [3, 4, 5, 22])
def test_sound_in_pieces_that_are_base64_each_or_cuts_of_one(size: int) -> None:
    data = bytes(range(100))
    each = [base64.b64encode(data[at : at + size]).decode() for at in range(0, 100, size)]
    whole = base64.b64encode(data).decode()
    cuts = [whole[at : at + size] for at in range(0, len(whole), size)]
    for pieces in (each, cuts):
        audio = message(*[chunk({"audio": {"data": piece}}) for piece in pieces], DONE)["audio"]
        assert base64.b64decode(audio["data"]) == data


def test_events_that_all_come_twice_are_damage() -> None:
    sent = [chunk({"role": "assistant"}), chunk({"content": "ha"}), chunk({"content": "ha"}), chunk({}, "stop")]
    assert message(*sent)["content"] == "haha"
    with pytest.raises(TransientError, match="every event comes twice"):
        fed(ChatAssembler(), [event for event in sent for _ in range(2)])
