"""Models that hear and speak: sounds in and out, and what stands for a sound in later turns."""

from __future__ import annotations

import io
import json
import wave

import pytest

from trellis.models.conformance import LOOKUP, sine_wav, solid_png
from trellis.models.messages import Audio, Text, ToolResult, user
from trellis.models.model import GenerateConfig, Model, ModelRequestError

from .conftest import Connect
from .talk import ASK, PING, sent, through_json
from .voice import SAMPLES, Voices

pytestmark = pytest.mark.wire


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "in one piece"])
async def test_speech_is_a_file_that_plays(connect: Connect, stream: bool) -> None:
    wire = await connect("openai audio")
    reply = await wire.load(stream=stream).generate([PING])
    sound = reply.message.parts[0]
    assert isinstance(sound, Audio)
    assert sound.media_type == "audio/wav"
    with wave.open(io.BytesIO(sound.data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)
        assert file.readframes(file.getnframes()) == SAMPLES
    assert sent(wire)["audio"] == {"voice": "alloy", "format": "pcm16" if stream else "wav"}
    assert reply.text == "pong"


async def test_speech_in_another_format_is_not_streamed(connect: Connect) -> None:
    wire = await connect("openai audio")
    reply = await wire.load(audio_format="mp3").generate([PING])
    assert "stream" not in sent(wire)
    assert isinstance(reply.message.parts[0], Audio)
    assert reply.message.parts[0].media_type == "audio/mpeg"
    assert (await wire.load(audio_format="mp3", voice=None).generate([user("Is this silence?", sine_wav(0))])).text
    assert sent(wire)["stream"] is True, "there is no speech in it"


async def test_a_call_has_its_own_voice(connect: Connect) -> None:
    wire = await connect("openai audio")
    await wire.load().generate([PING], config=GenerateConfig(voice="marin"))
    assert sent(wire)["audio"]["voice"] == "marin"


async def test_speech_is_referred_to_while_it_lives(connect: Connect) -> None:
    wire = await connect("openai audio")
    model = wire.load()
    reply = through_json((await model.generate([PING])).message)
    assert (await model.generate([PING, reply, PING])).text == "pong"
    said = sent(wire)["messages"][1]
    assert said.keys() == {"role", "content", "audio"}
    assert (said["content"], list(said["audio"])) == (None, ["id"])


async def test_the_words_of_speech_that_is_gone_stand_for_it(connect: Connect) -> None:
    wire = await connect("openai audio", voices=Voices(life_s=5))
    model = wire.load()
    reply = through_json((await model.generate([PING])).message)
    assert (await model.generate([PING, reply, PING])).text == "pong"
    assert sent(wire)["messages"][1] == {"role": "assistant", "content": "pong"}


async def test_speech_moves_to_other_providers_by_its_words(connect: Connect) -> None:
    reply = through_json((await (await connect("openai audio")).load().generate([PING])).message)
    for provider in ("openai", "anthropic", "openai-compatible"):
        wire = await connect(provider)
        again = await wire.load().generate([PING, reply, PING])
        assert "pong" in json.dumps(sent(wire)["messages" if "messages" in sent(wire) else "input"][1])
        assert again.dropped == ("1 audio reference of openai-audio",)


async def test_speech_has_its_price(connect: Connect) -> None:
    wire = await connect("openai audio")
    reply = await wire.load().generate([PING])
    used = reply.usage
    assert (used.audio_input, used.audio_output) == (7, 5)
    cost = used.input * 2.5 + used.output * 10 + 7 * 32 + 5 * 64
    assert reply.cost_usd == pytest.approx(cost / 1e6)


async def test_without_any_sound_it_is_one_line(connect: Connect) -> None:
    wire = await connect("openai audio")
    with pytest.raises(ModelRequestError, match="either input content or output modality contain audio"):
        await wire.load(voice=None).generate([PING])


async def test_unknown_voices_and_pictures_are_rejected(connect: Connect) -> None:
    wire = await connect("openai audio")
    with pytest.raises(ModelRequestError, match="Invalid value: 'nobody'"):
        await wire.load(voice="nobody").generate([PING])
    with pytest.raises(ModelRequestError, match="Invalid content type image_url"):
        await wire.load().generate([user("Look.", solid_png((1, 2, 3)))])


async def test_calls_of_a_model_that_speaks(connect: Connect) -> None:
    wire = await connect("openai audio")
    model: Model = wire.load()
    reply = await model.generate([ASK], tools=[LOOKUP])
    assert not [part for part in reply.message.parts if isinstance(part, Audio)]
    results = [ToolResult(call.id, call.name, (Text("zebra"),)).message for call in reply.tool_calls]
    assert (await model.generate([ASK, reply.message, *results], tools=[LOOKUP])).text == "zebra"
