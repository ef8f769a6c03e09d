"""Do two short answers mean the same? By rules that can be read, erring on the side of no.

What is made alike: case, whitespace, Unicode forms, quotes, Markdown and LaTeX wrappers, a leading article, a full
stop at the end; numbers as decimals, fractions, percentages and powers of ten. What is not: synonyms, units, algebra.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUPERSCRIPT_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_SIGNS = str.maketrans(
    {"−": "-", "–": "-", "—": "-", "×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/", "⁄": "/"}
    | {"“": '"', "”": '"', "‘": "'", "’": "'", "π": "pi", "√": "sqrt"}
)

_MATHS_MARKS = re.compile(r"\$|\\[()\[\]]|\\(?:left|right|displaystyle|limits)\b|\\[,;:! ]")
_WRAPPER = re.compile(r"\\(?:boxed|text|textbf|textit|mathrm|mathbf|mathit|mathsf|operatorname)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_BRACED = re.compile(r"([\^_])\s*\{([^{}]*)\}")
_COMMAND = re.compile(r"\\([A-Za-z]+|[%_&#{}])")

_AROUND = re.compile(r"\s*([-+*/^=,;<>()\[\]{}|])\s*")
_ARTICLE = re.compile(r"^(?:the|an?)\s+(?=\w{2})")
_ABOUT = re.compile(r"^(?:≈|~|∼|approximately\b|approx\b\.?|about\b|roughly\b)\s*")
_PAIRS = ("**", "__", "*", "_", "`", '"', "'")

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"(?P<sign>[-+]?)(?:(?P<mantissa>{_DIGITS})(?:(?:e|[*x]10\^)\(?(?P<exponent>[-+]?\d+)\)?)?|10\^\(?(?P<power>[-+]?\d+)\)?)"
    r"(?P<percent>%?)"
)
_RATIO = re.compile(rf"(?P<sign>[-+]?)\(?(?P<top>[-+]?(?:{_DIGITS}))\)?/\(?(?P<bottom>{_DIGITS})\)?")
_LARGEST_EXPONENT = 400
_LONGEST_NUMBER = 400
_LONGEST_ANSWER = 2000
"""Characters up to which wrappers are looked for; what is longer is an essay, and compared as it is."""

_FEWEST_DIGITS = 3
"""A rounded number stands for a fraction if it has this many significant digits."""


@dataclass(frozen=True, slots=True)
class Number:
    value: Fraction
    step: Fraction = Fraction(0)
    """One unit in the last place that was written; 0 for what is exact (whole numbers, fractions)."""
    digits: int = 0
    """Significant digits that were written."""


def same(given: str, correct: str) -> bool:
    """Does the answer `given` mean the `correct` one?"""
    mine, right = normalise(given), normalise(correct)
    if "=" in mine and "=" not in right:
        mine = mine.rpartition("=")[2]
    if not mine or not right:
        return False
    if mine == right:
        return True
    number, goal = parse_number(_ABOUT.sub("", mine)), parse_number(_ABOUT.sub("", right))
    return number is not None and goal is not None and _close(number, goal)


def normalise(text: str) -> str:
    """The text without what does not change its meaning."""
    if len(text) > _LONGEST_ANSWER:
        return " ".join(text.casefold().split())
    text = _SUPERSCRIPT_RUN.sub(lambda run: f"^({run[0].translate(_SUPERSCRIPTS)})", text).translate(_SIGNS)
    text = unicodedata.normalize("NFKC", _without_latex(text)).casefold()
    text = _AROUND.sub(r"\1", " ".join(text.split()))
    text = re.sub(r"\^\((\w+|[-+]\d+)\)", r"^\1", text).replace(" %", "%")
    before = None
    while text != before:
        before = text
        text = text.strip().rstrip(".,;:")
        for mark in _PAIRS:
            if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
                text = text[len(mark) : -len(mark)]
    return _ARTICLE.sub("", text)


def parse_number(text: str) -> Number | None:
    """The number that a normalised text is, None if it is something else."""
    if len(text) > _LONGEST_NUMBER:
        return None
    if ratio := _RATIO.fullmatch(text):
        top, bottom = (Fraction(ratio[part].replace(",", "")) for part in ("top", "bottom"))
        return Number(-top / bottom if ratio["sign"] == "-" else top / bottom) if bottom else None
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    mantissa = (found["mantissa"] or "1").replace(",", "")
    exponent = int(found["exponent"] or found["power"] or 0)
    if abs(exponent) > _LARGEST_EXPONENT:
        return None
    scale = Fraction(10) ** exponent / (100 if found["percent"] else 1)
    value = Fraction(mantissa) * scale * (-1 if found["sign"] == "-" else 1)
    decimals = len(mantissa.partition(".")[2])
    rounded = decimals > 0 or found["exponent"] is not None
    step = scale / 10**decimals if rounded else Fraction(0)
    return Number(value, step, len(mantissa.replace(".", "").lstrip("0")))


def _close(given: Number, goal: Number) -> bool:
    """Equal to the precision of `goal`; where that is an exact fraction, to the precision of `given`."""
    difference = abs(given.value - goal.value)
    if goal.step:
        return difference <= goal.step / 2
    if goal.value.denominator > 1 and given.digits >= _FEWEST_DIGITS:
        return difference <= given.step / 2
    return difference == 0


def _without_latex(text: str) -> str:
    text = _MATHS_MARKS.sub(" ", text)
    before = None
    while text != before:
        before = text
        text = _WRAPPER.sub(r" \1 ", text)
        text = _FRACTION.sub(lambda f: f"{_grouped(f[1])}/{_grouped(f[2])}", text)
        text = _BRACED.sub(lambda b: f"{b[1]}({b[2]})", text)
    text = re.sub(r"\\(?:cdot|times|ast)\b", "*", text)
    return _COMMAND.sub(r"\1", text)


def _grouped(term: str) -> str:
    term = term.strip()
    return term if re.fullmatch(r"-?\\?[\w.]+", term) else f"({term})"
