"""When are two observations of the same call the same? Exactly, or but for what no program has in its hand: times,
pids, addresses, temporary paths, and the order of listings that promise none.

Each normaliser is declared here, and a comparison says which of them it took, and what each made equal. Nothing else is
forgiven: numbers that are results, exit codes and names of files count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

from trellis.environments.store import store_folder
from trellis.models.messages import ToolCall, ToolResult

SHOWN = 3
"""Examples of what a normaliser made equal."""


@dataclass(frozen=True, slots=True)
class Normaliser:
    """What matches is written as `<name>`. No pattern spans lines, and each reads a text once."""

    name: str
    pattern: re.Pattern[str]
    only: re.Pattern[str] | None = None
    """Only where the call matches this."""

    def __call__(self, text: str) -> str:
        return self.pattern.sub(f"<{self.name}>", text)

    def applies(self, call: str) -> bool:
        return self.only is None or bool(self.only.search(call))


_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}"
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6},?"
_CLOCK = r"(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:[.,]\d{1,9})?)?(?: ?[AP]M\b)?"
_ALONE = r"(?<![\d.:])(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:[.,]\d{1,9})?(?: ?[AP]M)?| ?[AP]M)(?![\d:])"
_ZONE = r"(?: ?(?:UTC|GMT|Z\b|[+-]\d\d:?\d\d))?"
NORMALISERS = (
    Normaliser(
        "time",
        re.compile(
            rf"\b\d{{4}}-\d\d-\d\d(?:[T_ ]{_CLOCK}{_ZONE})?"  # 2026-11-26T02:16:20.123Z
            rf"|\b(?:{_DAY} )?{_MONTH} {{1,2}}\d{{1,2}},?(?: \d{{4}},?)? {_CLOCK}{_ZONE}(?: \d{{4}})?"  # of date, ls -l
            rf"|\b(?:{_DAY} )?\d{{1,2}} {_MONTH} \d{{4}} {_CLOCK}{_ZONE}"
            rf"|{_ALONE}{_ZONE}"  # without a date only with seconds: 3:21 is as often a score
        ),
    ),
    Normaliser(
        "time",
        re.compile(r"\b1\d{9}(?:\.\d{1,9}|\d{3}|\d{6}|\d{9})?\b"),  # seconds since 1970, or parts of them
        only=re.compile(r"\+%s\b|\+%s%|\btime\.time\(|\btime_ns\(|\bEPOCH(?:SECONDS|REALTIME)\b|\bDate\.now\("),
    ),
    Normaliser(
        "duration",
        re.compile(
            r"\b\d{1,6}m\d{1,2}\.\d{1,9}s\b"  # of bash's time
            r"|\b\d{1,9}\.\d{1,9} ?(?:s|secs?|seconds?|min|minutes?|ms|us|µs|ns)\b"
            r"|\b\d{1,9} ?(?:ms|us|µs|ns|secs?|seconds?)\b"
            r"|(?i:\b(?:in|took|after|elapsed|duration|time)[:=]? )\d{1,9} ?s\b"
        ),
    ),
    Normaliser("address", re.compile(r"\b0x[0-9a-fA-F]{6,16}\b")),
    Normaliser(
        "pid",
        re.compile(r"(?i:\b(?:pid|ppid|pgid|process id)[:= ] ?)\d{1,7}\b|(?<=^\[)\d{1,4}\] \d{1,7}$", re.MULTILINE),
    ),
    Normaliser("pid", re.compile(r"\b\d{1,7}\b"), only=re.compile(r"\$\$|\$!|\$\{?(?:BASHPID|PPID)\b|getpid\(")),
    Normaliser(
        "temporary path",
        re.compile(
            r"(?:/var)?/tmp/pytest-of-[\w.-]{1,64}/pytest-\d{1,6}"
            r"|(?:/var)?/tmp/(?:[\w.-]{0,32}\.)?(?:tmp[\w.]{6,16}|tmp\.\w{6,16}|(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{10})\b"
            r"|\btmp(?:\.\w{10}|[a-z0-9_]{8})\b"
        ),
    ),
    Normaliser("port", re.compile(r"(?<=127\.0\.0\.1:)\d{5}\b|(?<=localhost:)\d{5}\b|(?<=\[::1\]:)\d{5}\b")),
)
ORDER = "order"
_LISTS = re.compile(
    r"\bfind\b|\bls\s[^|;&]*-\w*[Uf]|\bgrep\s[^|;&]*-\w*[rR]|\brg\b|\bdu\b|listdir|scandir|iterdir|\bglob\b|os\.walk|\bset\("
)
"""Calls whose lines come in an order that nothing promises."""


def _place() -> Normaliser:
    """Of a world on its machine: one that is made again lies elsewhere."""
    folder = re.escape(str(store_folder()))
    return Normaliser("place of the world", re.compile(rf"(?:{folder}|/var/tmp/trellis-\d{{1,10}})/[0-9a-f]{{8}}\b"))


@dataclass(frozen=True, slots=True)
class Forgiven:
    """What a normaliser made equal."""

    name: str
    examples: tuple[tuple[str, str], ...]
    """As recorded, and as it is now."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first line that is another, counted from 1; empty where one text is at its end."""

    line: int
    recorded: str
    now: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two observations beside each other."""

    forgiven: tuple[Forgiven, ...] = ()
    difference: Difference | None = None

    @property
    def equal(self) -> bool:
        """Exactly, or after normalising."""
        return self.difference is None

    @property
    def exact(self) -> bool:
        return self.difference is None and not self.forgiven


def text_of(call: ToolCall) -> str:
    """A call as `compare` reads it."""
    return " ".join(str(value) for value in call.arguments.values())


def compare_results(recorded: ToolResult, now: ToolResult, call: ToolCall) -> tuple[str, Comparison]:
    """Two results of the same call: in a few words what is different, empty where nothing is; and their texts. Whether
    it failed, and its exit code, count as they are."""
    comparison = compare(recorded.text, now.text, text_of(call))
    codes = recorded.data.get("exit_code"), now.data.get("exit_code")
    if recorded.is_error != now.is_error:
        return "it succeeds now" if recorded.is_error else "it fails now", comparison
    if codes[0] != codes[1] and "exit_code" in recorded.data:  # an imported result may not say it
        return f"exit code {codes[1]}, was {codes[0]}", comparison
    return "" if comparison.equal else "another observation", comparison


def compare(recorded: str, now: str, call: str = "") -> Comparison:
    """Two texts that came of the same call. `call` is its text (a command): some normalisers hang on it."""
    if recorded == now:
        return Comparison()
    was, is_now, forgiven = recorded, now, []
    for normaliser in (_place(), *NORMALISERS):
        if was == is_now:
            break
        if normaliser.applies(call) and not _too_many(normaliser, call, was, is_now):
            if examples := tuple(_examples(normaliser, was, is_now)):
                forgiven.append(Forgiven(normaliser.name, examples))
            was, is_now = normaliser(was), normaliser(is_now)
    if was != is_now and _LISTS.search(call) and sorted(was.splitlines()) == sorted(is_now.splitlines()):
        first = _first(was, is_now)
        return Comparison((*forgiven, Forgiven(ORDER, ((first.recorded, first.now),))))
    if was == is_now:
        return Comparison(tuple(forgiven))
    number = _first(was, is_now).line
    return Comparison(tuple(forgiven), Difference(number, _line(recorded, number), _line(now, number)))


def _too_many(normaliser: Normaliser, call: str, was: str, is_now: str) -> bool:
    """Does more differ than the call names? `echo $$; wc -l < x` has one pid to print, and a result."""
    if normaliser.only is None:
        return False
    before, after = normaliser.pattern.findall(was), normaliser.pattern.findall(is_now)
    differ = {pair for pair in zip(before, after, strict=False) if pair[0] != pair[1]}
    return len(before) != len(after) or len(differ) > len(normaliser.only.findall(call))


def _examples(normaliser: Normaliser, was: str, is_now: str) -> Iterator[tuple[str, str]]:
    count = 0
    for before, after in zip(normaliser.pattern.finditer(was), normaliser.pattern.finditer(is_now), strict=False):
        if before[0] != after[0]:
            yield before[0], after[0]
            count += 1
            if count == SHOWN:
                return


def _first(was: str, is_now: str) -> Difference:
    for number, (before, after) in enumerate(zip_longest(was.split("\n"), is_now.split("\n"), fillvalue=""), 1):
        if before != after:
            return Difference(number, before, after)
    return Difference(1, was, is_now)


def _line(text: str, number: int) -> str:
    lines = text.split("\n", number)
    return lines[number - 1] if len(lines) >= number else ""
