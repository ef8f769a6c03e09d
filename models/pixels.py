"""The size of an image, from the header of its file alone."""

from __future__ import annotations

import struct


def size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, JPEG, GIF or WebP image in pixels; None if the header does not tell."""
    try:
        width, height = _size(data)
    except (struct.error, IndexError, ValueError):
        return None
    return (width, height) if width and height else None


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP image. Raises ValueError, IndexError or struct.error: it does not tell."""
    match data[12:16]:
        case b"VP8X":
            width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
            return width, height
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
    raise ValueError("it holds no image")


def _size(data: bytes) -> tuple[int, int]:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        width, height = struct.unpack_from(">II", data, 16)
    elif data.startswith((b"GIF87a", b"GIF89a")):
        width, height = struct.unpack_from("<HH", data, 6)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return webp_size(data)
    elif data.startswith(b"\xff\xd8\xff"):
        at = 2
        while not (0xC0 <= data[at + 1] <= 0xCF and data[at + 1] not in (0xC4, 0xC8, 0xCC)):  # the frame's header
            if data[at] != 0xFF or data[at + 1] == 0xDA:
                raise ValueError("it has no frame")
            at += 1 if data[at + 1] == 0xFF else 2 + int(struct.unpack_from(">H", data, at + 2)[0])
        height, width = struct.unpack_from(">HH", data, at + 5)
    else:
        raise ValueError("another format")
    return width, height
