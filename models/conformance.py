"""What every client of a language model must do, as checks that anybody can run over theirs.

    for name, check in CHECKS.items():
        await check(model)

`ABILITIES` are what only some models can do. The prompts are plain enough for a real model to follow; a check raises
AssertionError with what went wrong. Our own tests run them over the real SDKs against loopback servers that speak the
providers' formats.
"""

from __future__ import annotations

import io
import json
import math
import struct
import wave
import zlib
from collections.abc import Awaitable, Callable, Mapping

from trellis.models.messages import (
    Audio,
    Document,
    Image,
    Message,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    system,
    user,
)
from trellis.models.model import Compacts, CountsTokens, GenerateConfig, Model, Reply, ToolSpec

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


async def long_reply(model: Model) -> None:
    """Writes at length, and nothing of it is lost, doubled or out of order."""
    reply = await model.generate([user("Count from 1 to 500, separated by spaces, without any other words.")])
    _expect(reply.text.split() == [str(n + 1) for n in range(500)], "all numbers in their order", reply)
    _expect(reply.stop_reason == "stop", "the reply must end by itself", reply)


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
        long_reply,
        foreign_history,
    )
}
"""Of every model that calls tools."""


# --- what some models can do besides ---


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


async def document_input(model: Model) -> None:
    """Reads a document (PDF) in a message."""
    ask = "Which secret word is in the document? Answer with that word alone."
    reply = await model.generate([user(ask, one_page_pdf("quartz902"))])
    _expect("quartz902" in reply.text, "the document says quartz902", reply)


async def sound_input(model: Model) -> None:
    """Hears a sound (WAV) in a message."""
    for loudness, word in ((8000, "tone"), (0, "silence")):
        ask = "Is this a tone, or silence? Answer with that one word."
        reply = await model.generate([user(ask, sine_wav(loudness))])
        _expect(word in reply.text.lower(), f"it is {word}", reply)


async def speech(model: Model) -> None:
    """Answers in speech with a voice, gives its words, and goes on after it."""
    messages = [user("Answer with the one word: pong")]
    reply = await model.generate(messages, config=GenerateConfig(voice="alloy"))
    sounds = [part for part in reply.message.parts if isinstance(part, Audio)]
    _expect(len(sounds) == 1 and len(sounds[0].data) > 100, "there must be one sound", reply)
    _expect("pong" in reply.text.lower(), "the words must be given as text", reply)
    _expect(reply.usage.audio_output > 0, "speech has a class of tokens of its own", reply)
    messages += [reply.message, user("Now answer with the one word: ping")]
    reply = await model.generate(messages, config=GenerateConfig(voice="alloy"))
    _expect("ping" in reply.text.lower(), "it must go on after its own speech", reply)


async def counting(model: Model) -> None:
    """Counts the tokens of a conversation without answering it."""
    assert isinstance(model, CountsTokens), f"{model.name} does not count tokens"
    short = await model.count_tokens([user("Hello.")])
    long = await model.count_tokens([user("Hello. " * 200)])
    tools = await model.count_tokens([user("Hello.")], tools=[LOOKUP])
    assert 0 < short.tokens < tools.tokens, f"tools are counted: {short}, {tools}"
    assert short.tokens + 150 < long.tokens, f"a longer conversation has more tokens: {short}, {long}"
    assert short.method == "provider", f"the provider counts: {short}"


async def compaction(model: Model) -> None:
    """Shortens a conversation, and goes on with what it made of it."""
    assert isinstance(model, Compacts), f"{model.name} does not compact"
    rules, ask = system("You are terse."), user('Call the tool `lookup` with the key "alpha", then answer.')
    reply = await model.generate([rules, ask], tools=[LOOKUP])
    past = [rules, ask, reply.message, *_answers(reply)]
    compacted = await model.compact(past, tools=[LOOKUP])
    _expect(compacted.message.role == "assistant", "the reply's role must be assistant", compacted)
    _expect(compacted.usage.total > 0, "a compaction has its usage", compacted)
    messages = [rules, compacted.message, user("Answer with the one word: pong")]
    _expect("pong" in (await model.generate(messages)).text.lower(), "it must go on after a compaction", compacted)


ABILITIES: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        structured_output,
        image_input,
        image_result,
        document_input,
        sound_input,
        speech,
        counting,
        compaction,
    )
}
"""Of models that have them."""


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


def one_page_pdf(words: str) -> Document:
    """A page with one line of text (PDF 1.4, not compressed)."""
    shown = f"BT /F1 24 Tf 72 720 Td ({words}) Tj ET"
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        f"<</Length {len(shown)}>>\nstream\n{shown}\nendstream",
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    pdf, places = "%PDF-1.4\n", []
    for number, content in enumerate(objects):
        places.append(len(pdf))
        pdf += f"{number + 1} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    pdf += f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<</Size {size}/Root 1 0 R>>\nstartxref\n"
    return Document(f"{pdf}{pdf.index('xref')}\n%%EOF\n".encode(), "application/pdf")


def sine_wav(loudness: int, seconds: float = 1.0) -> Audio:
    """A tone of 440 Hz (16-bit samples, mono), or silence."""
    rate = 16_000
    samples = (round(loudness * math.sin(2 * math.pi * 440 * n / rate)) for n in range(int(rate * seconds)))
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return Audio(file.getvalue(), "audio/wav")


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
