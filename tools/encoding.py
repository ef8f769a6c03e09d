"""Bytes of a file as text, and back: whatever was not meant to change comes back as it was."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from trellis.tools.tool import ToolError

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a file's text is stored. The byte order mark is no part of the text."""

    name: str = "utf-8"
    mark: bytes = b""

    def encode(self, text: str) -> bytes:
        return self.mark + text.encode(self.name, "surrogateescape" if self.name == "utf-8" else "strict")


UTF_8 = Encoding()


def decode(path: str, data: bytes) -> tuple[str, Encoding]:
    """UTF-8 with or without a mark, or UTF-16 with one. Bytes that are not UTF-8 (Latin-1, say) survive as surrogates.

    Raises:
        ToolError: not a text file.
    """
    encoding = next((Encoding(name, mark) for mark, name in _MARKS if data.startswith(mark)), UTF_8)
    content = data[len(encoding.mark) :]
    if encoding.name != "utf-8":
        try:
            return content.decode(encoding.name), encoding
        except UnicodeDecodeError as error:
            raise ToolError(
                f"{path} is marked as UTF-16 and is not, from byte {len(encoding.mark) + error.start} on: "
                "look at it with a command (python3)"
            ) from None
    if b"\0" not in content[:8192]:
        return content.decode("utf-8", "surrogateescape"), encoding
    raise ToolError(f"{path} is not a text file ({len(data):,} bytes): look at it with a command that knows its format")


def undecodable(text: str) -> bool:
    """Has it bytes that are not UTF-8? They are shown as U+FFFD, and nothing that a model writes is equal to them."""
    return any("\udc80" <= char <= "\udcff" for char in text)
