"""Images, sounds and documents counted as the providers document it."""

from __future__ import annotations

import io
import struct
import wave

import pytest

from trellis.models.media_tokens import UNKNOWN, image_tokens, media_tokens
from trellis.models.messages import Audio, Document, Image, Video, user
from trellis.models.pixels import size_of
from trellis.models.tokens import estimate_message

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480)
GIF = b"GIF89a" + struct.pack("<HH", 640, 480)
JPEG = (
    b"\xff\xd8\xff\xe0\x00\x10" + b"J" * 14 + b"\xff\xff\xc4\x00\x04\x00\x00"
    b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", 480, 640)
)
WEBP = {
    "lossy": b"RIFF\0\0\0\0WEBPVP8 " + b"\0" * 10 + struct.pack("<HH", 640, 480),
    "lossless": b"RIFF\0\0\0\0WEBPVP8L" + b"\0" * 4 + b"\x2f" + struct.pack("<I", 639 | 479 << 14),
    "extended": b"RIFF\0\0\0\0WEBPVP8X" + b"\0" * 8 + b"\x7f\x02\0" + b"\xdf\x01\0",
}


@pytest.mark.parametrize("data", [PNG, GIF, JPEG, *WEBP.values()])
def test_the_header_tells_the_size(data: bytes) -> None:
    assert size_of(data) == (640, 480)
    assert size_of(data[: len(data) // 2]) is None


@pytest.mark.parametrize(
    "data", [b"", b"BM", b"\xff\xd8\xff\xda\x00\x02", b"RIFF\0\0\0\0WEBPVP8?" + b"\0" * 20, PNG[:16] + b"\0" * 8]
)
def test_what_does_not_tell(data: bytes) -> None:
    assert size_of(data) is None
    assert media_tokens(Image(data, "image/png")) == UNKNOWN


@pytest.mark.parametrize(
    ("model", "width", "height", "tokens"),
    [
        # "Images and vision", OpenAI's documentation: the examples
        ("openai/gpt-5.4", 1024, 1024, 1229),
        ("openai/gpt-5.4-mini-2026-03-17", 2048, 2048, 3000),
        ("openai/gpt-4o", 1024, 1024, 765),
        ("openai/gpt-4o-2024-08-06", 2048, 4096, 1105),
        # measured by its users (community.openai.com: "Vision pricing calculator", GPT-5-mini's "discrepancy")
        ("openai/gpt-4.1", 2049, 513, 1445),
        ("openai/gpt-4.1", 2050, 513, 765),
        ("openai/gpt-5-mini", 1280, 720, 1104),
        ("openai/gpt-5-mini", 2048, 768, 1844),
        ("openai/gpt-4o-mini", 512, 512, 8500),
        # by the rules
        ("openai/gpt-5", 1024, 1024, 70 + 4 * 140),
        ("openai/gpt-5.1", 1024, 1024, 70 + 4 * 140),
        ("openai/o3", 1024, 1024, 75 + 4 * 150),
        ("openai/o4-mini", 1024, 1024, 1762),
        ("openai/gpt-4.1-nano", 1800, 2400, 3572),
        ("openai/gpt-5.6-sol", 8000, 4000, 37500),
        ("azure/gpt-4o", 1024, 1024, 765),
        # "Images and vision", Anthropic's documentation
        ("anthropic/claude-sonnet-4-5", 1000, 1000, 1296),
        ("anthropic/claude-3-5-sonnet-20241022", 4000, 3000, 1568),
        ("anthropic/claude-opus-4-7", 1000, 1000, 1296),
        ("anthropic/claude-opus-4-7", 2576, 1400, 92 * 50),
        ("bedrock/anthropic.claude-opus-4-6-v1:0", 1568, 1568, 1568),
        ("anthropic/claude-sonnet-4-20250514", 1568, 1568, 1568),
        ("anthropic/claude-sonnet-5", 2576, 2576, 4784),
        ("openai-compatible/qwen", 28, 56, 2),
    ],
)
def test_images(model: str, width: int, height: int, tokens: int) -> None:
    assert image_tokens(width, height, model) == pytest.approx(tokens, abs=1)


@pytest.mark.parametrize(
    "model", ["openai/gpt-4o", "openai/gpt-5.4", "openai/o4-mini", "anthropic/claude-opus-4-6", ""]
)
@pytest.mark.parametrize("size", [(1, 1), (1, 9000), (9000, 1), (8000, 8000), (31, 33)])
def test_any_size_has_a_price(model: str, size: tuple[int, int]) -> None:
    assert 1 <= image_tokens(*size, model) <= 5000
    assert image_tokens(*size, model) == image_tokens(size[1], size[0], model)


def test_sounds_by_their_length() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(b"\0\0" * 16_000 * 3)
    heard = Audio(file.getvalue(), "audio/wav")
    assert media_tokens(heard) == 30
    assert media_tokens(heard, spoken=True) == 60
    mp3 = b"ID3\x04\0\0\0\0\0\x05hello" + b"\xff\xfb\x90\x00" + b"\0" * (16_000 * 2 - 4)  # 128 kbit/s
    assert media_tokens(Audio(mp3, "audio/mpeg")) == 20
    assert media_tokens(Audio(b"OggS", "audio/ogg")) == UNKNOWN


def test_documents_by_their_pages() -> None:
    pdf = b"%PDF-1.4\n<< /Type /Pages /Count 2 >>\n<< /Type /Page >>\n<< /Type/Page /Parent 1 0 R >>\n"
    assert media_tokens(Document(pdf, "application/pdf")) == 2 * media_tokens(Document(b"%PDF-1.7", "application/pdf"))


def test_messages_count_their_media_by_model() -> None:
    picture = user(Image(PNG, "image/png"))
    assert estimate_message(picture, "openai/gpt-4o") == 4 + 85 + 2 * 170
    assert estimate_message(picture, "anthropic/claude-opus-4-6") == 4 + 23 * 18
    assert estimate_message(user(Video(b"", "video/mp4"))) == 4 + UNKNOWN
