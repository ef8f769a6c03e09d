"""Somebody at a terminal: what is shown there cannot steer it, and a line that is typed can be waited for."""

from __future__ import annotations

import asyncio
import os
import sys
import unicodedata

SHOWN_CHARS = 20_000
"""How much of one text is shown; the middle of a longer one is left out, with a notice."""
UNKNOWN_COLUMNS = 80
"""Of a terminal that does not tell its width."""
_STEERING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str) -> str:
    """`text` with every character that steers instead of showing (control, bidirectional, zero-width) made visible."""
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _STEERING else _escape(c) for c in text)


def _escape(char: str) -> str:
    return (
        f"\\x{ord(char):02x}"
        if ord(char) < 256
        else f"\\u{ord(char):04x}"
        if ord(char) < 65536
        else "\N{REPLACEMENT CHARACTER}"
    )


def columns() -> int:
    """How wide the terminal is on which things are shown."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or UNKNOWN_COLUMNS
    except OSError:
        return UNKNOWN_COLUMNS


def behind(margin: str, content: str, columns: int) -> list[str]:
    """The lines of what somebody else wrote, made visible, behind a margin: none so long that a terminal would wrap it
    to its edge, where it could pass for our own words. The middle of a very long text is left out, with a notice."""
    from rich.cells import chop_cells

    shown, room = visible(content), max(2, columns - len(margin))
    if len(shown) > SHOWN_CHARS:
        half = SHOWN_CHARS // 2
        shown = f"{shown[:half]}\n[... {len(shown) - 2 * half:,} characters are not shown ...]\n{shown[-half:]}"
    return [f"{margin}{piece}" for line in shown.split("\n") for piece in chop_cells(line.expandtabs(), room) or [""]]


def at_terminal() -> bool:
    """Can somebody be asked?"""
    return sys.stdin.isatty() and sys.stderr.isatty()


def forget_typed() -> None:
    """What was typed before a question does not answer it."""
    import termios

    termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


async def read_line(prompt: str) -> str | None:
    """A line that is typed, without its end; None at the end of the input. Can be cancelled at any time."""
    print(prompt, end="", file=sys.stderr, flush=True)
    try:
        line = await _typed(sys.stdin.fileno())
    except asyncio.CancelledError:
        print(file=sys.stderr, flush=True)
        raise
    if not line:
        print(file=sys.stderr, flush=True)
        return None
    return line.decode("utf-8", "replace").removesuffix("\n")


async def _typed(fd: int) -> bytes:
    loop = asyncio.get_running_loop()
    typed: asyncio.Future[bytes] = loop.create_future()

    def receive() -> None:
        if not typed.done():
            try:
                typed.set_result(os.read(fd, 4096))
            except OSError:  # the terminal is gone
                typed.set_result(b"")

    loop.add_reader(fd, receive)
    try:
        return await typed
    finally:
        loop.remove_reader(fd)
