"""What every client of a language model must do, as checks that anybody can run over theirs.

    for name, check in CHECKS.items():
        await check(model)

The prompts are plain enough for a real model to follow; a check raises AssertionError with what went wrong. Our own
tests run them over the real SDKs against loopback servers that speak the providers' formats.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping

from trellis.models.messages import Image, Message, Reasoning, Text, ToolCall, ToolResult, assistant, system, user
from trellis.models.model import GenerateConfig, Model, Reply, ToolSpec

Check = Callable[[Model], Awaitable[None]]

LOOKUP = ToolSpec(
    "lookup",
    "Look up the secret word that belongs to a key.",
    {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]},
)
LOOK = ToolSpec("look", "Take a picture of what is in front of the camera.", {"type": "object", "properties": {}})
_WORDS = {"alpha": "zebra417", "beta": "quartz902"}
_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "inhabitants": {"type": "integer"}},
    "required": ["city", "inhabitants"],
    "additionalProperties": False,
}


async def text(model: Model) -> None:
    """Answers a question in text, and says what it used."""
    reply = await model.generate([system("You are terse."), user("Answer with the one word: pong")])
    _expect(reply.message.role == "assistant", "the reply's role must be assistant", reply)
    _expect("pong" in reply.text.lower(), "the answer must be pong", reply)
    _expect(reply.stop_reason == "stop" and not reply.tool_calls, "the reply must end by itself", reply)
    _expect(reply.latency_s >= reply.waited_s >= 0, "waiting is a part of the latency", reply)


async def usage(model: Model) -> None:
    """Counts tokens by class: a longer question costs more input, and reasoning is a part of the output."""
    short = await model.generate([user("Answer with the one word: pong")])
    long = await model.generate(
        [user("Ignore this list: " + "one two three " * 200), user("Answer with the one word: pong")]
    )
    _expect(short.usage.output > 0, "an answer has output tokens", short)
    asked = [reply.usage.total - reply.usage.output for reply in (short, long)]
    _expect(0 < asked[0] < asked[1], f"a longer question must cost more input than a shorter one, not {asked}", long)
    _expect(0 <= short.usage.reasoning <= short.usage.output, "reasoning is a part of the output", short)
    _expect(short.cost_usd is None or short.cost_usd > 0, "an unknown price is None, never 0", short)


async def tool_round_trip(model: Model) -> None:
    """Calls a tool with arguments, and uses what came back, over two turns."""
    messages = [user('Call the tool `lookup` with the key "alpha", then answer with the word that it returned.')]
    reply = await model.generate(messages, tools=[LOOKUP])
    _expect(reply.stop_reason == "tool_calls", "the stop reason must be tool_calls", reply)
    _expect([c.arguments for c in reply.tool_calls] == [{"key": "alpha"}], "lookup(key=alpha) must be called", reply)
    messages += [reply.message, *_answers(reply)]
    reply = await model.generate(messages, tools=[LOOKUP])
    _expect(_WORDS["alpha"] in reply.text, "the tool's word must be in the answer", reply)
    _expect(reply.stop_reason == "stop", "the reply must end by itself", reply)
    messages += [reply.message, user('Now the same with the key "beta": call the tool `lookup` and answer.')]
    reply = await model.generate(messages, tools=[LOOKUP])
    _expect([c.arguments for c in reply.tool_calls] == [{"key": "beta"}], "lookup(key=beta) must be called", reply)


async def parallel_calls(model: Model) -> None:
    """Calls tools in parallel in one reply, with ids of their own, and takes all results, also failed ones."""
    keys = '"alpha", "beta" and "gamma"'
    messages = [
        user(f"In one turn, call the tool `lookup` three times, with the keys {keys}. Then answer with all words.")
    ]
    reply = await model.generate(messages, tools=[LOOKUP])
    _expect(len(reply.tool_calls) == 3, "there must be three calls in one reply", reply)
    _expect(len({call.id for call in reply.tool_calls}) == 3, "every call must have an id of its own", reply)
    reply = await model.generate([*messages, reply.message, *_answers(reply)], tools=[LOOKUP])
    _expect(all(word in reply.text for word in _WORDS.values()), "both words must be in the answer", reply)


async def forced_tool(model: Model) -> None:
    """`tool_choice` makes it call a tool, the one that is named, or none."""
    messages = [user("Good morning.")]
    for choice in ("lookup", "required"):
        reply = await model.generate(messages, tools=[LOOKUP], config=GenerateConfig(tool_choice=choice))
        _expect({call.name for call in reply.tool_calls} == {"lookup"}, f"tool_choice={choice} forces a call", reply)
    messages = [user('Call the tool `lookup` with the key "alpha".')]
    reply = await model.generate(messages, tools=[LOOKUP], config=GenerateConfig(tool_choice="none"))
    _expect(not reply.tool_calls, "tool_choice=none forbids calls", reply)


async def length_stop(model: Model) -> None:
    """Says so when it was cut off, and goes on after it."""
    messages = [user("Count from 1 to 500, separated by spaces.")]
    reply = await model.generate(messages, config=GenerateConfig(max_output_tokens=32))
    _expect(reply.stop_reason == "length", "the stop reason must be length", reply)
    reply = await model.generate([*messages, reply.message, user("Enough. Answer with the one word: pong")])
    _expect("pong" in reply.text.lower(), "it must go on after a reply that was cut off", reply)


async def image_input(model: Model) -> None:
    """Sees an image in a message."""
    reply = await model.generate([user("Which colour has this picture? Answer with one word.", solid_png((255, 0, 0)))])
    _expect("red" in reply.text.lower(), "the picture is red", reply)


async def image_result(model: Model) -> None:
    """Sees an image that a tool returned."""
    messages = [user("Call the tool `look`, then answer with one word: which colour has the picture?")]
    reply = await model.generate(messages, tools=[LOOK])
    _expect([call.name for call in reply.tool_calls] == ["look"], "look() must be called", reply)
    seen = ToolResult(reply.tool_calls[0].id, "look", (Text("The picture:"), solid_png((0, 0, 255))))
    reply = await model.generate([*messages, reply.message, seen.message], tools=[LOOK])
    _expect("blue" in reply.text.lower(), "the picture is blue", reply)


async def structured_output(model: Model) -> None:
    """Writes JSON that satisfies a schema."""
    config = GenerateConfig(response_schema=_SCHEMA)
    reply = await model.generate([user("Name a city and the number of its inhabitants, as JSON.")], config=config)
    value = json.loads(reply.text)
    _expect(value.keys() == {"city", "inhabitants"}, "the properties must be those of the schema", reply)
    _expect(isinstance(value["inhabitants"], int), "inhabitants must be an integer", reply)


async def foreign_history(model: Model) -> None:
    """Goes on with a conversation that another provider's model began."""
    raw = {"provider": "elsewhere", "item": {"type": "mystery"}}
    calls = [ToolCall(f"call:{n}/{key}", "lookup", {"key": key}, raw=raw) for n, key in enumerate(("alpha", "beta"))]
    messages = [
        system("You are terse."),
        user('Call the tool `lookup` with the keys "alpha" and "beta", then answer with the words.'),
        assistant(Reasoning("I had better look.", raw), Text("Looking.", raw), *calls),
        *(ToolResult(call.id, "lookup", (Text(_WORDS[call.arguments["key"]]),)).message for call in calls),
    ]
    reply = await model.generate(messages, tools=[LOOKUP])
    _expect(all(word in reply.text for word in _WORDS.values()), "both words must be in the answer", reply)


CHECKS: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        text,
        usage,
        tool_round_trip,
        parallel_calls,
        forced_tool,
        length_stop,
        image_input,
        image_result,
        structured_output,
        foreign_history,
    )
}


async def refusal(model: Model, prompt: str) -> None:
    """Declines `prompt`, which is one that this model is known to decline, with a reply and not with an error."""
    reply = await model.generate([user(prompt)])
    _expect(reply.stop_reason == "refusal", "the stop reason must be refusal", reply)
    _expect(not reply.tool_calls, "a refusal calls no tool", reply)


def solid_png(colour: tuple[int, int, int], size: int = 32) -> Image:
    """A square of one colour (PNG specification, third edition: 8-bit RGB, no filter)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + bytes(colour) * size) * size)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return Image(png, "image/png")


def _answers(reply: Reply) -> list[Message]:
    """The results of all `lookup` calls of a reply; an unknown key is the model's mistake."""
    results = []
    for call in reply.tool_calls:
        word = _WORDS.get(str(call.arguments.get("key")))
        results.append(ToolResult(call.id, call.name, (Text(word or "no such key"),), is_error=word is None).message)
    return results


def _expect(condition: bool, claim: str, reply: Reply) -> None:
    if not condition:
        raise AssertionError(f"{claim}: {reply}")
