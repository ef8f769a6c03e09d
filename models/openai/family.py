"""What is known of OpenAI's models by their names: whether they reason, how hard, and whose instructions they take."""

from __future__ import annotations

import re
from typing import Literal

from trellis.models.effort import nearest
from trellis.models.model import Effort

_WITHOUT_REASONING = re.compile(r"(gpt-3\.5|gpt-4|chatgpt-4|gpt-audio|gpt-5-chat|gpt-5-search)")
_KNOWN: tuple[tuple[str, str], ...] = (
    (r"o\d|codex-mini", "low medium high"),
    (r"gpt-5-pro", "high"),
    (r"gpt-5\.\d-chat", "medium"),
    (r"gpt-5\.\d-pro", "medium high xhigh"),
    (r"gpt-5(\.1)?-codex(?!-max)", "low medium high"),
    (r"gpt-5\.\d-codex", "low medium high xhigh"),
    (r"gpt-5(?!\.)", "minimal low medium high"),
    (r"gpt-5\.1", "none low medium high"),
    (r"gpt-5\.[2-5]", "none low medium high xhigh"),
    (r"gpt-5\.", "none low medium high xhigh max"),
)
"""Efforts by beginning of the name, the first that fits. OpenAI's reference ("reasoning.effort"), its error messages
("Supported values are: ...") and its pages of the single models, as collected by users in "Compatibility matrix:
reasoning effort", OpenAI developer community, 2026."""


def reasons(model: str) -> bool:
    """Does it take reasoning items? The others reject `include: reasoning.encrypted_content`."""
    return _WITHOUT_REASONING.match(model) is None


def instructing_role(model: str) -> Literal["developer", "system"]:
    """The role of instructions: "With o1 models and newer, `developer` messages replace the previous `system`
    messages" (OpenAI's reference). OpenAI turns each into the other where a model knows one only."""
    return "developer" if reasons(model) else "system"


def nearest_effort(model: str, effort: Effort | None) -> Effort | None:
    """The effort nearest to the wish that the model knows, the higher of two; None for a model that does not reason. A
    model that is not known is asked as it is."""
    if effort is None or not reasons(model):
        return None
    known = next((efforts.split() for name, efforts in _KNOWN if re.match(name, model)), [effort])
    return nearest(effort, known)


def speaks(model: str) -> bool:
    """Is it one of the models that hear and speak, and answer over Chat Completions alone?"""
    return re.match(r"gpt-(4o-(mini-)?)?audio", model) is not None
