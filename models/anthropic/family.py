"""What is known of Anthropic's models by their names, on whichever platform.

Both are lists of the past: a model that is not in them is asked as the newest are.
"""

from __future__ import annotations

import re

from trellis.models.effort import nearest
from trellis.models.model import Effort

_UNBOUND = re.compile(r"claude-(\d|instant|mythos-preview|[a-z]+-4\b|[a-z]+-5(?!-\d(?!\d)))")
"""Models that take thinking back whatever stands before it: all up to Claude Opus 5, Sonnet 5, Fable 5 and Mythos 5
("Preserved thinking", Anthropic's documentation, November 2026)."""
_EFFORTS: tuple[tuple[str, str], ...] = (
    (r"claude-(\d|instant|(haiku|sonnet)-4(?!-[6-9])|opus-4(?!-[5-9]))", ""),
    (r"claude-opus-4-5", "low medium high"),
    (r"claude-(opus|sonnet)-4-6", "low medium high max"),
    (r"", "low medium high xhigh max"),
)
"""Efforts by name, the first that fits: Opus 4.5 was the first model with any ("What's new in Claude 4.5"), `max` came
with Claude 4.6 and `xhigh` with Opus 4.7 ("Effort", Anthropic's documentation)."""


def binds_thinking(model: str) -> bool:
    """Does this model reject thinking before which the conversation was edited?"""
    return _UNBOUND.search(model) is None


def nearest_effort(model: str, effort: Effort | None) -> Effort | None:
    """The effort nearest to the wish that the model knows; None for a model that knows none."""
    known = next(efforts for name, efforts in _EFFORTS if re.search(name, model))
    return nearest(effort, known.split()) if effort else None
