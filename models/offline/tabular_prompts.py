"""Answers of `offline/tabular` to prompts without tools: a plan and one code block, or a review."""

from __future__ import annotations

import re
from typing import Any

from trellis.models.offline.tabular_coder import Coder
from trellis.models.offline.tabular_designs import Attempt, find_designs
from trellis.models.offline.tabular_reading import read
from trellis.models.offline.tabular_repairs import last_error

_SECTIONS = (
    "Introduction|Task description|Memory|Instructions|Data Overview|Previous solution|"
    r"Previous \(buggy\) implementation|Implementation|Execution output"
)
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_METRIC = re.compile(rf"(?:validation|cv|metric|score)\b[^\n:=]*[:=]\s*({_NUMBER})", re.IGNORECASE)
_CODE = re.compile(r"```(?:python)?\n(.*?)\n```", re.DOTALL)


def answer_prompt(text: str, coder: Coder) -> str:
    """A plan and a code block: a draft, an improvement or a repair, according to what the prompt shows."""
    parts = sections(text)
    reading = read(parts.get("Task description", text), parts.get("Data Overview", text))
    tried = _memory(parts.get("Memory", ""))
    if failed := parts.get("Previous (buggy) implementation"):
        plan, code = coder.repair(_code(failed), parts.get("Execution output", ""), reading)
    elif previous := parts.get("Previous solution"):
        plan, code = coder.improve(_code(previous), reading, tried)
    else:
        plan, code = coder.draft(reading, tried)
    return f"{plan}\n\n```python\n{code.rstrip()}\n```"


def answer_review(text: str) -> dict[str, Any]:
    """Arguments of `submit_review`, from the script and its output."""
    parts = sections(text)
    reading = read(parts.get("Task description", text), "")
    output = parts.get("Execution output", text)
    error = failure(output)
    metric = last_metric(output)
    is_bug = bool(error) or metric is None
    has_submission = reading.submission in parts.get("Implementation", text) and not error
    if error:
        summary = f"The run failed: {error.splitlines()[0][:300]}."
    elif metric is None:
        summary = "The run ended without a validation metric."
    else:
        summary = f"The run ended well, with a validation {reading.metric.name} of {metric:g}."
        if not has_submission:
            summary += f" The predictions are not saved to {reading.submission}."
    return {
        "is_bug": is_bug,
        "has_csv_submission": has_submission,
        "summary": summary,
        "metric": None if is_bug else metric,
        "lower_is_better": reading.metric.lower_is_better,
    }


def failure(output: str) -> str:
    """What went wrong in a run, by its output; empty if nothing did."""
    if "Traceback (most recent call last)" in output or re.search(r"^\s*SyntaxError:", output, re.MULTILINE):
        return last_error(output) or "an exception"
    ended = re.search(r"^\[(?:exit code [1-9]\d*|timed out|the run left no file)[^\]]*\]?", output, re.MULTILINE)
    return ended[0].strip("[]") if ended else ""


def last_metric(output: str) -> float | None:
    found = _METRIC.findall(output)
    return float(found[-1]) if found else None


def sections(text: str) -> dict[str, str]:
    """The sections of a prompt by their headings. Other headings (a task's own) belong to the section they are in."""
    places = list(re.finditer(rf"^# ({_SECTIONS})[ ]*\n", text, re.MULTILINE))
    ends = [place.start() for place in places[1:]] + [len(text)]
    return {place[1]: text[place.end() : end].strip() for place, end in zip(places, ends, strict=True)}


def _memory(text: str) -> list[Attempt]:
    """The designs that the memory tells of, each with the first metric that follows it."""
    attempts = []
    for place, design in find_designs(text):
        metric = re.compile(rf"Validation Metric: ({_NUMBER})").search(text, place)
        attempts.append(Attempt(design, float(metric[1]) if metric else None))
    return attempts


def _code(section: str) -> str:
    found = _CODE.search(section)
    return f"{found[1]}\n" if found else section
