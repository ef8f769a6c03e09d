"""What images, sounds and documents cost in tokens, by the formulas that providers document.

Sources, as of November 2026: "Images and vision" and "Managing costs" (Realtime) of OpenAI's documentation; "Images and
vision" and "PDF support" of Anthropic's.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass

from trellis.models.messages import Audio, Document, Image, Media
from trellis.models.pixels import size_of

UNKNOWN = 1000
"""For an image whose header does not tell its size, and for media that no formula is documented for. A square of 1,024
pixels costs 765 to 1,444 tokens on most models."""
_PAGE_TEXT, _PAGE_IMAGE = 2250, 1568
"""A page of a PDF: text of 1,500 to 3,000 tokens, and an image of the page (Anthropic; OpenAI takes both too)."""
_PER_SECOND_HEARD, _PER_SECOND_SPOKEN = 10, 20
"""A token for 100 ms of the user's voice, and for 50 ms of the assistant's (OpenAI)."""


def media_tokens(medium: Media, model: str = "", *, spoken: bool = False) -> int:
    """Tokens of a medium for a model named "provider/model". `spoken`: it was the model that spoke."""
    match medium:
        case Image():
            size = size_of(medium.data)
            return UNKNOWN if size is None else image_tokens(*size, model)
        case Audio():
            seconds = _seconds(medium.data)
            return (
                UNKNOWN
                if seconds is None
                else math.ceil(seconds * (_PER_SECOND_SPOKEN if spoken else _PER_SECOND_HEARD))
            )
        case Document() if medium.media_type == "application/pdf":
            return (_PAGE_TEXT + _PAGE_IMAGE) * max(1, _pages(medium.data))
    return UNKNOWN


def image_tokens(width: int, height: int, model: str = "") -> int:
    """Tokens of an image of so many pixels, sent as our clients send it (OpenAI: `detail: auto`).

    A model that is not known is taken to cost what the newer Claudes do: a token for a patch of 28 x 28 pixels, as on
    many open models too.
    """
    name = model.rpartition("/")[2].lower()
    if tiles := next((rule for pattern, rule in _TILES if re.match(pattern, name)), None):
        return tiles.tokens(width, height)
    if patches := next((rule for pattern, rule in _PATCHES if re.match(pattern, name)), None):
        return patches.tokens(width, height)
    low = "claude" in name and _LOW_RESOLUTION.search(name)
    return _claude(width, height, *((1568, 1568) if low else (2576, 4784)))


# --- Anthropic ---

_LOW_RESOLUTION = re.compile(r"claude-(\d|instant)|claude-[a-z]+-4(?!-[7-9](?!\d))")
"""Models before 4.7: at most 1,568 pixels and as many tokens; later ones see 2,576 pixels and 4,784 tokens."""


def _claude(width: int, height: int, longest: int, most: int) -> int:
    """A token for each patch of 28 x 28 pixels, after the image was made to fit."""
    scale = min(1.0, longest / max(width, height), math.sqrt(most * 28 * 28 / (width * height)))
    return min(most, math.ceil(width * scale / 28) * math.ceil(height * scale / 28))


# --- OpenAI ---


def _fit(width: int, height: int, longest: int) -> tuple[int, int]:
    scale = min(1.0, longest / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


@dataclass(frozen=True, slots=True)
class _Tiles:
    """Fit into 2,048 x 2,048, shrink the shorter side to 768, count squares of 512."""

    base: int
    tile: int

    def tokens(self, width: int, height: int) -> int:
        width, height = _fit(width, height, 2048)
        scale = min(1.0, 768 / min(width, height))
        across, down = (math.ceil(max(1, int(side * scale + 1e-6)) / 512) for side in (width, height))
        return self.base + self.tile * across * down


@dataclass(frozen=True, slots=True)
class _Patches:
    """Fit into a square, shrink to a number of patches of 32 x 32, and multiply."""

    multiplier: float
    longest: int
    budget: int | None

    def tokens(self, width: int, height: int) -> int:
        width, height = _fit(width, height, self.longest)
        patches = math.ceil(width / 32) * math.ceil(height / 32)
        if self.budget is not None and patches > self.budget:
            scale = math.sqrt(32 * 32 * self.budget / (width * height))
            scale *= min(max(1, math.floor(s * scale / 32)) / (s * scale / 32) for s in (width, height))
            sides = (max(1, int(side * scale + 1e-6)) for side in (width, height))
            patches = min(self.budget, math.prod(math.ceil(side / 32) for side in sides))
        return math.ceil(patches * self.multiplier - 1e-6)


_TILES = (
    (r"gpt-4o-mini", _Tiles(2833, 5667)),
    (r"(gpt-4o|chatgpt-4o|gpt-4-turbo|gpt-4\.5|gpt-4\.1(?!-mini|-nano))", _Tiles(85, 170)),
    (r"gpt-5(\.1)?(-chat|-codex|-pro|-20|$)", _Tiles(70, 140)),
    (r"(o1|o3)", _Tiles(75, 150)),
)
_PATCHES = (
    (r"gpt-4\.1-nano", _Patches(2.46, 2048, 1536)),
    (r"gpt-4\.1-mini", _Patches(1.62, 2048, 6144)),
    (r"o4-mini|codex-mini", _Patches(1.72, 2048, 1536)),
    (r"gpt-5-nano", _Patches(1.5, 2048, 1536)),
    (r"gpt-5-mini", _Patches(1.2, 2048, 1536)),
    (r"gpt-5\.[23]", _Patches(1.2, 2048, 6144)),
    (r"gpt-5\.4", _Patches(1.2, 2048, 2500)),
    (r"gpt-5\.5", _Patches(1.2, 6000, 10_000)),
    (r"gpt-", _Patches(1.2, 65_535, None)),
)


# --- sounds and documents ---

_MP3_KBIT = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
"""Bit rates of MPEG-1 layer III by their index (ISO/IEC 11172-3); the other versions have about half of them."""


def _seconds(sound: bytes) -> float | None:
    """The length of a WAV file, and about that of an MP3 file of a constant rate."""
    try:
        if sound.startswith(b"RIFF") and sound[8:12] == b"WAVE":
            at = sound.index(b"fmt ") + 16
            (rate,) = struct.unpack_from("<I", sound, at)
            return (len(sound) - sound.index(b"data", at) - 8) / rate if rate else None
        at = 0
        if sound.startswith(b"ID3"):
            at = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(sound[6:10], (21, 14, 7, 0), strict=True))
        if sound[at] == 0xFF and sound[at + 1] & 0xE0 == 0xE0:
            kbit = _MP3_KBIT[sound[at + 2] >> 4] * (1 if sound[at + 1] & 0x18 == 0x18 else 0.5)
            return (len(sound) - at) * 8 / (kbit * 1000) if kbit else None
    except (struct.error, IndexError, ValueError):
        return None
    return None


_PAGE = re.compile(rb"/Type\s*/Page(?![a-zA-Z])")


def _pages(pdf: bytes) -> int:
    """The pages of a PDF as far as its objects can be read; newer files compress them, and then there are none."""
    return len(_PAGE.findall(pdf))
