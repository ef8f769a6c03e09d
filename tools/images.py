"""What an image file is, read from its own bytes without decoding it: format, size, frames, and whether it is whole."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trellis.models.messages import Image
from trellis.models.pixels import webp_size
from trellis.tools.tool import ToolError

ACCEPTED_EDGE_PX = 2000
"""Anthropic refuses a longer edge in requests with more than 20 images ("Vision: general limits"), and an agent's
conversation soon has as many."""

ACCEPTED_BYTES = 3_750_000
"""Anthropic takes 5 MB of base64 for one image; OpenAI takes more."""

MOST = 8
"""So many images one result shows."""


@dataclass(frozen=True, slots=True)
class Picture:
    format: str
    """"PNG", "JPEG", "GIF" or "WebP"."""
    width: int
    height: int
    animated: bool = False

    @property
    def media_type(self) -> str:
        return f"image/{self.format.lower()}"


def add(images: list[Image], name: str, data: bytes) -> str:
    """Add an image that came out of a world or from a server to those that a result shows; if it cannot be shown, what
    to say in its place."""
    try:
        picture = look(name, data)
    except ToolError as reason:
        return f"[{reason}]"
    if len(images) >= MOST:
        return f"[{name} is left out: a result shows {MOST} at most]"
    if picture.animated or not fits(picture, data, ACCEPTED_EDGE_PX):
        return (
            f"[{name} is left out: it has {picture.width} x {picture.height} pixels and {len(data):,} bytes; at most "
            f"{ACCEPTED_EDGE_PX} x {ACCEPTED_EDGE_PX} pixels and {ACCEPTED_BYTES:,} bytes of one frame can be shown]"
        )
    images.append(Image(data, picture.media_type))
    return ""


def fits(picture: Picture, data: bytes, edge: int) -> bool:
    return max(picture.width, picture.height) <= edge and len(data) <= ACCEPTED_BYTES


def look(path: str, data: bytes) -> Picture:
    """What is in `data`, by its content; the name says nothing.

    Raises:
        ToolError: not an image of the four formats that providers take, or a damaged one.
    """
    for begins, name, read in _FORMATS:
        if begins(data):
            try:
                picture = read(data)
            except (struct.error, IndexError, ValueError, KeyError) as error:
                why = f": {error}" if type(error) is ValueError else ""
                raise ToolError(f"{path} is a damaged {name} file{why}: make it again") from None
            if not picture.width or not picture.height:
                raise ToolError(f"{path} is a damaged {name} file: it has no pixels")
            return picture
    raise ToolError(f"{path} {_instead(path, data)}")


def first_frame(gif: bytes) -> bytes:
    """An animated GIF without what comes after its first image."""
    for kind, end in _gif_blocks(gif):
        if kind == _GIF_IMAGE:
            return gif[:end] + bytes([_GIF_END])
    raise ValueError("it holds no image")


def _instead(path: str, data: bytes) -> str:
    """What a file is that cannot be shown, and what to do."""
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not data:
        return "is empty"
    if data.startswith(b"%PDF-"):
        return "is a PDF: make an image of a page with a command, such as `pdftoppm -png -r 80 -f 1 -l 1 FILE page`"
    if head.startswith((b"<svg", b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in head:
        return "is an SVG drawing, which is text: read it with edit, or make a PNG of it with a command (rsvg-convert)"
    if data.startswith((b"BM", b"II*\0", b"MM\0*")) or data[4:8] == b"ftyp":
        return "is an image or a film in another format: make a PNG, JPEG, GIF or WebP of it with a command"
    return f"is not an image ({len(data):,} bytes): only PNG, JPEG, GIF and WebP can be shown"


# --- formats ---------------------------------------------------------------------------------------------------------


def _png(data: bytes) -> Picture:
    width, height, at, seen = 0, 0, 8, set[bytes]()
    while b"IEND" not in seen:
        (size,), kind = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        (checksum,) = struct.unpack_from(">I", data, at + 8 + size)
        if zlib.crc32(data[at + 4 : at + 8 + size]) != checksum:
            raise ValueError("a checksum is wrong")
        if kind == b"IHDR":
            width, height = struct.unpack_from(">II", data, at + 8)
        seen.add(kind)
        at += 12 + size
    if b"IDAT" not in seen:
        raise ValueError("it holds no image")
    return Picture("PNG", width, height, b"acTL" in seen)


def _jpeg(data: bytes) -> Picture:
    at, width, height = 2, 0, 0
    while True:
        if data[at] != 0xFF:
            raise ValueError("it has no markers")
        kind = data[at + 1]
        if kind == 0xFF:
            at += 1
            continue
        (size,) = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
        at += 2 + size
        if kind == 0xDA:
            break
    if data.find(b"\xff\xd9", at) < 0:
        raise ValueError("its end is missing")
    return Picture("JPEG", width, height)


_GIF_EXTENSION, _GIF_IMAGE, _GIF_END = 0x21, 0x2C, 0x3B


def _gif(data: bytes) -> Picture:
    width, height = struct.unpack_from("<HH", data, 6)
    images = sum(kind == _GIF_IMAGE for kind, _ in _gif_blocks(data))
    if not images:
        raise ValueError("it holds no image")
    return Picture("GIF", width, height, images > 1)


def _gif_blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Kind and end of every block up to the closing one."""
    at = 13 + _colours(data[10])
    while (kind := data[at]) != _GIF_END:
        if kind == _GIF_IMAGE:
            at += 11 + _colours(data[at + 9])
        elif kind == _GIF_EXTENSION:
            at += 2
        else:
            raise ValueError("it has an unknown block")
        while data[at]:
            at += data[at] + 1
        at += 1
        yield kind, at


def _colours(flags: int) -> int:
    """The size of the colour table that follows, in bytes."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(data: bytes) -> Picture:
    (size,) = struct.unpack_from("<I", data, 4)
    if len(data) < size + 8:
        raise ValueError("its end is missing")
    return Picture("WebP", *webp_size(data), data[12:16] == b"VP8X" and bool(data[20] & 2))


_FORMATS: tuple[tuple[Callable[[bytes], bool], str, Callable[[bytes], Picture]], ...] = (
    (lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"), "PNG", _png),
    (lambda data: data.startswith(b"\xff\xd8\xff"), "JPEG", _jpeg),
    (lambda data: data.startswith((b"GIF87a", b"GIF89a")), "GIF", _gif),
    (lambda data: data.startswith(b"RIFF") and data[8:12] == b"WEBP", "WebP", _webp),
)
