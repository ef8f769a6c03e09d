"""Draws the images of the sample questions, in plain Python, and writes them into `sample/questions.jsonl`.

What is drawn is the data below, from which the tests work out the answers:

    python -m trellis.benchmarks.hle.draw
"""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

BARS = (3, 7, 4, 6, 2)
NODES = 6
EDGES = ((0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4), (3, 5), (4, 5), (0, 5))
CLOCK = (7, 25)
BYTES = (0b10110010, 0b01001101)
MAZE = (
    "S.#.....",
    ".##.###.",
    "......#.",
    "##.##.#.",
    "...#..#.",
    ".###.##.",
    "......#T",
)
LINE = ((-4, -3), (4, 1))

WHITE, BLACK, GREY = (255, 255, 255), (0, 0, 0), (200, 200, 200)
BLUE, RED, GREEN = (40, 90, 200), (210, 40, 40), (30, 150, 60)
Colour = tuple[int, int, int]


class Canvas:
    """A picture of RGB pixels, white at first; (0, 0) is the upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.rows = [bytearray(WHITE * width) for _ in range(height)]

    def dot(self, x: int, y: int, colour: Colour) -> None:
        if 0 <= x < self.width and 0 <= y < self.height:
            self.rows[y][3 * x : 3 * x + 3] = bytes(colour)

    def box(self, x: int, y: int, width: int, height: int, colour: Colour) -> None:
        for row in range(y, y + height):
            for column in range(x, x + width):
                self.dot(column, row, colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        for row in range(math.floor(y - radius), math.ceil(y + radius) + 1):
            for column in range(math.floor(x - radius), math.ceil(x + radius) + 1):
                if (column - x) ** 2 + (row - y) ** 2 <= radius**2:
                    self.dot(column, row, colour)

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, thickness: float = 1.5) -> None:
        steps = math.ceil(math.hypot(x1 - x0, y1 - y0)) + 1
        for step in range(steps + 1):
            part = step / steps
            self.disc(x0 + (x1 - x0) * part, y0 + (y1 - y0) * part, thickness / 2, colour)

    def png(self) -> bytes:
        """The picture as a PNG file (RFC 2083): 8 bits per channel, no interlacing, filter 0 in each row."""

        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 2, 0, 0, 0)
        pixels = zlib.compress(b"".join(b"\0" + row for row in self.rows), 9)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def bars() -> Canvas:
    """A bar chart over horizontal grid lines that are one unit apart."""
    canvas, unit, floor = Canvas(240, 210), 20, 190
    for value in range(1, 9):
        canvas.box(20, floor - value * unit, 200, 1, GREY)
    for place, value in enumerate(BARS):
        canvas.box(32 + place * 38, floor - value * unit, 24, value * unit, BLUE)
    canvas.box(20, floor, 200, 2, BLACK)
    canvas.box(20, 20, 2, floor - 20, BLACK)
    return canvas


def graph() -> Canvas:
    """An undirected graph, its nodes on a circle."""
    canvas = Canvas(240, 240)
    places = [
        (120 + 95 * math.sin(math.tau * n / NODES), 120 - 95 * math.cos(math.tau * n / NODES)) for n in range(NODES)
    ]
    for a, b in EDGES:
        canvas.line(*places[a], *places[b], BLACK)
    for place in places:
        canvas.disc(*place, 8, RED)
    return canvas


def clock() -> Canvas:
    """An analogue clock: a thick short hour hand, a thin long minute hand, a mark for each hour."""
    canvas, (hour, minute) = Canvas(220, 220), CLOCK
    canvas.disc(110, 110, 104, BLACK)
    canvas.disc(110, 110, 101, WHITE)

    def hand(turn: float, start: float, end: float, colour: Colour, thickness: float) -> None:
        x, y = math.sin(math.tau * turn), -math.cos(math.tau * turn)
        canvas.line(110 + x * start, 110 + y * start, 110 + x * end, 110 + y * end, colour, thickness)

    for mark in range(12):
        hand(mark / 12, 82 if mark % 3 == 0 else 90, 98, BLACK, 5 if mark == 0 else 3)
    hand((hour + minute / 60) / 12, 0, 52, BLACK, 7)
    hand(minute / 60, 0, 86, BLUE, 3)
    return canvas


def squares() -> Canvas:
    """Two rows of eight squares, black for 1 and white for 0."""
    canvas = Canvas(260, 90)
    for row, value in enumerate(BYTES):
        for column in range(8):
            x, y = 10 + column * 30, 12 + row * 36
            canvas.box(x, y, 28, 28, BLACK)
            if not value >> (7 - column) & 1:
                canvas.box(x + 2, y + 2, 24, 24, WHITE)
    return canvas


def maze() -> Canvas:
    """A maze of square cells: black walls, green start, red target."""
    size = 28
    canvas = Canvas(size * len(MAZE[0]) + 1, size * len(MAZE) + 1)
    for y, row in enumerate(MAZE):
        for x, cell in enumerate(row):
            colour = {"#": BLACK, ".": WHITE, "S": GREEN, "T": RED}[cell]
            canvas.box(x * size, y * size, size + 1, size + 1, GREY)
            canvas.box(x * size + 1, y * size + 1, size - 1, size - 1, colour)
    return canvas


def plot() -> Canvas:
    """A straight line on a grid of unit squares, with both axes."""
    canvas, unit, middle = Canvas(241, 241), 24, 120
    for place in range(0, 241, unit):
        canvas.box(place, 0, 1, 241, GREY)
        canvas.box(0, place, 241, 1, GREY)
    canvas.box(middle - 1, 0, 3, 241, BLACK)
    canvas.box(0, middle - 1, 241, 3, BLACK)
    (x0, y0), (x1, y1) = LINE
    canvas.line(middle + x0 * unit, middle - y0 * unit, middle + x1 * unit, middle - y1 * unit, RED, 3)
    return canvas


IMAGES: dict[str, Callable[[], Canvas]] = {
    "image-bars": bars,
    "image-graph": graph,
    "image-clock": clock,
    "image-squares": squares,
    "image-maze": maze,
    "image-plot": plot,
}
"""Question id -> what draws its image."""


def main(path: Path = Path(__file__).parent / "sample" / "questions.jsonl") -> None:
    questions = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for question in questions:
        if draw := IMAGES.get(question["id"]):
            question["image"] = f"data:image/png;base64,{base64.b64encode(draw().png()).decode()}"
    path.write_text("".join(json.dumps(question, ensure_ascii=False) + "\n" for question in questions), "utf-8")


if __name__ == "__main__":
    main()
