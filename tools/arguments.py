"""Types of arguments that more than one tool takes. What does not fit them is the model's mistake, and said so."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field


def _well_formed(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"character {error.start} is half of a surrogate pair, which is no character") from None
    return text


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("a path has at least one character and no NUL")
    return text


String = Annotated[str, AfterValidator(_well_formed)]
"""Text that can be written as UTF-8; JSON lets models send what cannot."""

Path = Annotated[String, AfterValidator(_path)]

Seconds = Annotated[float, Field(gt=0, le=7 * 86_400)]
"""A deadline: more than nothing, at most a week."""
