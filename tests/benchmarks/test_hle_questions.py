"""The sample is what it says: official fields, right answers, images that show what is asked."""

import base64
import datetime
import json
import math
import re
import struct
import zlib
from collections import Counter, deque
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations, permutations, product
from pathlib import Path

import pytest

from trellis.benchmarks.hle import draw
from trellis.benchmarks.hle.questions import SAMPLE, Question, load

QUESTIONS = {question.id: question for question in load(SAMPLE)}


def test_the_lines_have_the_official_fields() -> None:
    names = [
        *("id", "question", "image", "image_preview", "answer", "answer_type", "author_name", "rationale"),
        *("rationale_image", "raw_subject", "category", "canary"),
    ]
    for line in SAMPLE.read_text("utf-8").splitlines():
        assert list(json.loads(line)) == names


def test_the_mixture() -> None:
    kinds = Counter(question.answer_type for question in QUESTIONS.values())
    assert len(QUESTIONS) >= 36
    assert kinds["multipleChoice"] >= 10
    assert len({question.category for question in QUESTIONS.values()}) == 8
    assert sum(bool(question.image) for question in QUESTIONS.values()) == 6
    for question in QUESTIONS.values():
        assert question.answer
        assert question.rationale
        assert question.canary


def test_choices_have_their_letter_among_the_options() -> None:
    for question in QUESTIONS.values():
        if question.answer_type == "multipleChoice":
            letters = re.findall(r"^([A-Z])\. \S", question.question, re.MULTILINE)
            assert letters == sorted(set(letters))
            assert question.answer in letters


# --- answers that can be worked out ----------------------------------------------------------------------------------


def valuation(n: int, prime: int) -> int:
    return sum(n // prime**k for k in range(1, 20))


def avoiding_paths() -> int:
    ways = {(0, 0): 1}
    for x, y in product(range(9), repeat=2):
        if (x, y) != (0, 0):
            allowed = y <= x and (x, y) != (4, 4)
            ways[x, y] = ways.get((x - 1, y), 0) + ways.get((x, y - 1), 0) if allowed else 0
    return ways[8, 8]


def determinant(matrix: list[list[int]]) -> Fraction:
    rows, value = [[Fraction(x) for x in row] for row in matrix], Fraction(1)
    for column in range(len(rows)):
        value *= rows[column][column]
        for lower in rows[column + 1 :]:
            factor = lower[column] / rows[column][column]
            lower[:] = [a - factor * b for a, b in zip(lower, rows[column], strict=True)]
    return value


def order(permutation: tuple[int, ...]) -> int:
    lengths, seen = [], set[int]()
    for start in range(len(permutation)):
        length, at = 0, start
        while at not in seen:
            seen.add(at)
            length, at = length + 1, permutation[at]
        lengths.append(length or 1)
    return math.lcm(*lengths)


def words(length: int) -> int:
    return sum("11" not in "".join(bits) for bits in product("01", repeat=length))


def spanning_trees() -> Fraction:
    laplacian = [[0] * 7 for _ in range(7)]
    for a, b in product(range(3), range(3, 7)):
        laplacian[a][b] = laplacian[b][a] = -1
        laplacian[a][a] += 1
        laplacian[b][b] += 1
    return determinant([row[1:] for row in laplacian[1:]])


def minimal_states() -> int:
    """Words are equivalent if the same endings make them accepted; words of up to 4 letters reach every state."""
    endings = ["".join(e) for n in range(4) for e in product("ab", repeat=n)]
    starts = ["".join(s) for n in range(5) for s in product("ab", repeat=n)]
    return len({tuple((start + end)[-3:-2] == "a" for end in endings) for start in starts})


def dominating_queens() -> int:
    squares = list(product(range(8), repeat=2))
    attacked = {
        q: sum(
            1 << (8 * x + y)
            for x, y in squares
            if x == q[0] or y == q[1] or x - y == q[0] - q[1] or x + y == q[0] + q[1]
        )
        for q in squares
    }
    whole = 2**64 - 1

    def covers(seen: int, left: int) -> bool:
        if seen == whole:
            return True
        if left == 0:
            return False
        free = next(s for s in squares if not seen >> (8 * s[0] + s[1]) & 1)
        return any(covers(seen | mask, left - 1) for q, mask in attacked.items() if mask >> (8 * free[0] + free[1]) & 1)

    return next(n for n in range(1, 9) if covers(0, n))


def triangles() -> int:
    edges = set(map(frozenset, draw.EDGES))
    return sum(all(frozenset(p) in edges for p in combinations(t, 2)) for t in combinations(range(draw.NODES), 3))


def shortest_way() -> int:
    cells = {(x, y): cell for y, row in enumerate(draw.MAZE) for x, cell in enumerate(row) if cell != "#"}
    start = next(place for place, cell in cells.items() if cell == "S")
    steps, waiting = {start: 0}, deque([start])
    while waiting:
        x, y = waiting.popleft()
        for place in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
            if place in cells and place not in steps:
                steps[place] = steps[x, y] + 1
                waiting.append(place)
    return next(count for place, count in steps.items() if cells[place] == "T")


def weak_acid() -> str:
    ka, c = 1.8e-5, 0.010
    return f"{-math.log10((-ka + math.sqrt(ka**2 + 4 * ka * c)) / 2):.2f}"


def muon() -> str:
    metres = 0.98 * 2.998e8 * 2.2e-6 / math.sqrt(1 - 0.98**2)
    return str(round(metres, -1))[:4]


def profits() -> str:
    return str(max(range(10, 51), key=lambda price: (price - 10) * (100 - 2 * price)))


def line_option() -> str:
    (x0, y0), (x1, y1) = draw.LINE
    slope = Fraction(y1 - y0, x1 - x0)
    return {(Fraction(1, 2), Fraction(-1)): "C"}[slope, y0 - slope * x0]


WORKED_OUT: dict[str, Callable[[], object]] = {
    "math-factorial": lambda: min(valuation(2026, 2) // 2, valuation(2026, 3)),
    "math-partitions": lambda: sum(sum(c) == 30 for n in range(1, 7) for c in combinations(range(1, 31, 2), n)),
    "math-paths": avoiding_paths,
    "math-gcd-matrix": lambda: determinant([[math.gcd(i, j) for j in range(1, 9)] for i in range(1, 9)]),
    "math-series": lambda: "$\\frac{3}{2}$" if abs(sum(n**2 / 3**n for n in range(99)) - 1.5) < 1e-12 else "?",
    "math-order-six": lambda: sum(order(p) == 6 for p in permutations(range(6))),
    "math-expression": lambda: 17**3 - 4 * (28 + 15) ** 2 // 2,
    "math-coins": lambda: Fraction(words(5), 32),
    "math-last-digits": lambda: pow(7, 2026, 1000),
    "physics-balmer": lambda: round(1e9 / (1.097e7 * (1 / 4 - 1 / 9))),
    "physics-ladder": lambda: f"{(1 + math.sqrt(5)) / 2:.3f}",
    "physics-muon": muon,
    "physics-spin": lambda: 2**3 - 4,
    "chemistry-acid": weak_acid,
    "chemistry-half-life": lambda: f"{6.4 * 0.5 ** (40 / 8):.2f}",
    "biology-carriers": lambda: f"{2 * 0.98 * 0.02:.4f}",
    "biology-cross": lambda: Fraction(3 * 3 * 3, 4**3),
    "cs-no-ones": lambda: words(10),
    "cs-automaton": minimal_states,
    "cs-float": lambda: struct.pack(">f", -6.5).hex().upper(),
    "cs-spanning-trees": spanning_trees,
    "cs-python": lambda: [i for i in range(20) if i & (i >> 1) == 0][-1],
    "engineering-beam": lambda: 10 * 4 // 4,
    "engineering-decibel": lambda: round(10 * math.log10(0.001)),
    "engineering-gears": lambda: Fraction(1800 * 20 * 15, 60 * 45),
    "humanities-pareto": profits,
    "other-queens": dominating_queens,
    "other-calendar": lambda: f"{datetime.date(2100, 3, 1):%A}",
    "other-mersenne": lambda: "No" if (2**67 - 1) % 193707721 == 0 else "Yes",
    "image-bars": lambda: sum(draw.BARS),
    "image-graph": triangles,
    "image-clock": lambda: f"{draw.CLOCK[0]}:{draw.CLOCK[1]:02}",
    "image-squares": lambda: draw.BYTES[0] ^ draw.BYTES[1],
    "image-maze": shortest_way,
    "image-plot": line_option,
}


@pytest.mark.parametrize("question_id", WORKED_OUT)
def test_the_answer_can_be_worked_out(question_id: str) -> None:
    assert str(WORKED_OUT[question_id]()) == QUESTIONS[question_id].answer


# --- images ----------------------------------------------------------------------------------------------------------


def pixels(png: bytes) -> tuple[int, int, bytes]:
    """Width, height and RGB pixels of a PNG without filters; checks every chunk's sum."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, []
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + data)
        chunks.append((kind, data))
        at += 12 + length
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colour = struct.unpack(">IIBB", chunks[0][1][:10])
    assert (depth, colour) == (8, 2)
    raw, stride = zlib.decompress(chunks[1][1]), 3 * width + 1
    assert len(raw) == stride * height
    assert not any(raw[row * stride] for row in range(height))
    return width, height, b"".join(raw[row * stride + 1 : (row + 1) * stride] for row in range(height))


@pytest.mark.parametrize("question_id", draw.IMAGES)
def test_images_are_those_that_the_script_draws(question_id: str) -> None:
    picture = QUESTIONS[question_id].picture()
    assert picture is not None
    assert picture.media_type == "image/png"
    assert pixels(picture.data) == pixels(draw.IMAGES[question_id]().png())
    assert len(set(pixels(picture.data)[2])) > 1


def test_every_image_has_its_script_and_the_script_changes_nothing_else(tmp_path: Path) -> None:
    assert {question.id for question in QUESTIONS.values() if question.image} == set(draw.IMAGES)
    copy = tmp_path / "questions.jsonl"
    copy.write_bytes(SAMPLE.read_bytes())
    draw.main(copy)
    before, after = (re.sub(r'"image": "data:[^"]*"', "", p.read_text("utf-8")) for p in (SAMPLE, copy))
    assert before == after


# --- files of one's own ----------------------------------------------------------------------------------------------

GOOD = {"id": "a", "question": "?", "answer": "1", "answer_type": "exactMatch", "image": ""}
PIXEL = base64.b64encode(draw.Canvas(1, 1).png()).decode()


def write(folder: Path, *rows: object) -> Path:
    file = folder / "questions.jsonl"
    file.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), "utf-8")
    return file


def test_official_fields_that_are_null_or_new_are_read(tmp_path: Path) -> None:
    row = GOOD | {"image_preview": {"bytes": None}, "rationale_image": None, "added_later": [1]}
    assert load(write(tmp_path, row)) == [Question.model_validate(row)]


def test_other_image_types_are_read(tmp_path: Path) -> None:
    (question,) = load(write(tmp_path, GOOD | {"image": f"data:image/jpeg;base64,{PIXEL}"}))
    picture = question.picture()
    assert picture is not None
    assert picture.media_type == "image/jpeg"


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (["{"], "line 1: question: Invalid JSON"),
        ([GOOD, "[1]"], "line 2: question: Input should be an object"),
        ([{k: v for k, v in GOOD.items() if k != "answer"}], "line 1: answer: Field required"),
        ([GOOD | {"answer_type": "exact_match"}], "line 1: answer_type: Input should be 'exactMatch' or"),
        ([GOOD | {"image": "http://somewhere/x.png"}], "line 1: question a: image is not a data URI"),
        ([GOOD | {"image": "data:image/png;base64,abc"}], "line 1: question a: image is not base64"),
        ([GOOD, GOOD], "line 2: the id 'a' occurs twice"),
        ([""], "holds no questions"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, rows: list[object], complaint: str) -> None:
    file = write(tmp_path, *rows)
    with pytest.raises(ValueError, match=re.escape(complaint)) as caught:
        load(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "hle.parquet"
    file.write_bytes(b"PAR1\xff\xfe\x00")
    with pytest.raises(ValueError, match="export the data set as JSONL"):
        load(file)
    with pytest.raises(ValueError, match="Is a directory"):
        load(tmp_path)
