"""How prompts are put together: nested headings as markdown, long output with its middle cut out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

Prompt: TypeAlias = "str | Sequence[str] | Mapping[str, Prompt]"

TRIM_ABOVE_CHARS = 5100
TRIM_TO_CHARS = 2500


def markdown(prompt: Prompt, depth: int = 1) -> str:
    """A mapping becomes headings, deeper ones for nested mappings; a sequence becomes a bullet list."""
    if isinstance(prompt, str):
        return f"{prompt.strip()}\n"
    if isinstance(prompt, Mapping):
        return "\n".join(f"{'#' * depth} {title}\n\n{markdown(body, depth + 1)}" for title, body in prompt.items())
    return "".join(f"- {item.strip()}\n" for item in prompt) + "\n"


def trim(output: str) -> str:
    """The first and the last 2,500 characters of an output longer than 5,100."""
    if len(output) <= TRIM_ABOVE_CHARS:
        return output
    cut = len(output) - 2 * TRIM_TO_CHARS
    return f"{output[:TRIM_TO_CHARS]}\n ... [{cut} characters truncated] ... \n{output[-TRIM_TO_CHARS:]}"


def fenced(text: str, language: str = "") -> str:
    """A code block whose fence is longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
