"""`offline/chance`: what a question can be answered without knowing anything, as a floor for comparisons.

It picks an option by the seed, says yes or no by the seed, works out plain arithmetic, and otherwise says "unknown",
with a confidence that is right on average. A pure function of the messages' text and `config.seed`; images are not
looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from random import Random

from trellis.models.messages import Message, assistant
from trellis.models.model import GenerateConfig, Reply, ToolSpec
from trellis.models.tokens import estimate_usage

_OPTION = re.compile(r"^\s*[(\[]?([A-Z])[)\].:]\s+\S", re.MULTILINE)
_YES_NO = re.compile(r"\byes or no\b|\btrue or false\b", re.IGNORECASE)
_ARITHMETIC = re.compile(
    r"\b(?:what is|compute|calculate|evaluate|find the value of)\b[\s:$]*"
    r"(?P<expression>[\d\s.,+\-−*×·/÷^()]*\d[\d\s.,+\-−*×·/÷^()]*?)[\s$]*(?:[?]|[.](?:\s|$)|$)",
    re.IGNORECASE | re.MULTILINE,
)
_LABEL = re.compile(r"^\s*(exact answer)\s*:", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Guess:
    answer: str
    confidence: int
    explanation: str


class Chance:
    name = "offline/chance"

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        config: GenerateConfig = GenerateConfig(),
    ) -> Reply:
        asked = "\n".join(message.text for message in messages if message.role in ("system", "user"))
        found = guess(asked, Random(config.seed or 0))
        label = "Exact Answer" if _LABEL.search(asked) else "Answer"
        message = assistant(
            f"Explanation: {found.explanation}\n{label}: {found.answer}\nConfidence: {found.confidence}%"
        )
        return Reply(message, usage=estimate_usage(messages, message, tools), cost_usd=0.0)


def guess(question: str, random: Random) -> Guess:
    """An answer, and how likely it is to be right for one who knows nothing."""
    letters = sorted(set(_OPTION.findall(question)))
    if len(letters) > 1:
        share = round(100 / len(letters))
        return Guess(random.choice(letters), share, f"One of {len(letters)} options, taken by chance.")
    if found := _ARITHMETIC.search(question):
        try:
            value = evaluate(found["expression"])
        except ValueError:
            pass
        else:
            return Guess(_written(value), 95, "Worked out.")
    if said := _YES_NO.search(question):
        words = said[0].lower().split(" or ")
        return Guess(random.choice(words).capitalize(), 50, "One of two, taken by chance.")
    return Guess("unknown", 0, "This model knows nothing.")


def _written(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


# --- arithmetic ------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"\s*(\d+(?:,\d{3})*(?:\.\d+)?|\.\d+|\*\*|[-+*/^()])")
_SPELLINGS = str.maketrans({"−": "-", "×": "*", "·": "*", "÷": "/"})
_DEEPEST = 50
_LARGEST_EXPONENT = 64
_LARGEST_BITS = 1024


def evaluate(expression: str) -> Fraction:
    """The exact value of `+ - * / ^ **` and parentheses over decimal numbers, of bounded size.

    Raises:
        ValueError: not such an expression, a division by zero, or a number beyond the bounds.
    """
    tokens, at, text = [], 0, expression.translate(_SPELLINGS).strip()
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise ValueError(f"no arithmetic: {text[at:][:20]!r}")
        tokens.append(token[1])
        at = token.end()
    parser = _Parser(tokens)
    value = parser.sum(0)
    if parser.at != len(tokens):
        raise ValueError(f"unexpected {tokens[parser.at]!r}")
    return value


class _Parser:
    """Recursive descent: sum = product {+- product}; product = sign {*/ sign}; sign = {+-} power;
    power = atom [^ sign].
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tokens
        self.at = 0

    def sum(self, depth: int) -> Fraction:
        value = self.product(depth)
        while (operator := self._take("+", "-")) is not None:
            value = value + self.product(depth) if operator == "+" else value - self.product(depth)
        return value

    def product(self, depth: int) -> Fraction:
        value = self.sign(depth)
        while (operator := self._take("*", "/")) is not None:
            other = self.sign(depth)
            if operator == "/" and other == 0:
                raise ValueError("division by zero")
            value = _bounded(value * other if operator == "*" else value / other)
        return value

    def sign(self, depth: int) -> Fraction:
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        operator = self._take("+", "-")
        if operator is None:
            return self.power(depth)
        value = self.sign(depth + 1)
        return -value if operator == "-" else value

    def power(self, depth: int) -> Fraction:
        base = self.atom(depth)
        if self._take("^", "**") is None:
            return base
        exponent = self.sign(depth + 1)
        if exponent.denominator != 1 or abs(exponent) > _LARGEST_EXPONENT or (base == 0 and exponent < 0):
            raise ValueError(f"no power with exponent {exponent}")
        return _bounded(base ** int(exponent))

    def atom(self, depth: int) -> Fraction:
        if self._take("(") is not None:
            value = self.sum(depth + 1)
            if self._take(")") is None:
                raise ValueError("a parenthesis is not closed")
            return value
        if self.at == len(self.tokens) or not self.tokens[self.at][-1].isdigit():
            raise ValueError("a number is missing")
        self.at += 1
        return Fraction(self.tokens[self.at - 1].replace(",", ""))

    def _take(self, *wanted: str) -> str | None:
        if self.at < len(self.tokens) and self.tokens[self.at] in wanted:
            self.at += 1
            return self.tokens[self.at - 1]
        return None


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _LARGEST_BITS:
        raise ValueError("a number beyond the bounds")
    return value
