"""The tools that have a name. A tool of your own is one line in `TOOLS`, or is named by `package.module:factory`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from typing import Any, cast

from trellis.models.model import ToolSpec
from trellis.tools.tool import Tool

TOOLS = {
    "shell": "trellis.tools.shell:make",
    "python": "trellis.tools.python:make",
    "edit": "trellis.tools.edit:make",
    "apply_patch": "trellis.tools.patch:make",
    "view_image": "trellis.tools.view_image:make",
    "browser": "trellis.tools.browser.tool:make",
    "submit": "trellis.tools.submit:make",
}
"""Name -> "module:factory". Tools keep state, so each episode has tools of its own."""


def make(names: Iterable[str]) -> list[Tool]:
    """Fresh tools, in the order of `names` (a name of `TOOLS`, or "package.module:factory").

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    return [instantiate(_load(name)) for name in names]


def instantiate(found: Tool | Callable[..., Tool], *, answer: Any = None) -> Tool:
    """A tool from what a name stands for: a factory or class, or a tool without state (made by `@tool`) itself.

    A factory takes no arguments, or one that is called `answer`: it is given the type of the task's answer.
    """
    if isinstance(found, type) or not hasattr(found, "spec"):
        factory = cast(Callable[..., Tool], found)
        return factory(answer=answer) if "answer" in inspect.signature(factory).parameters else factory()
    return cast(Tool, found)


def describe() -> list[ToolSpec]:
    """What models are told of every tool that has a name."""
    return [tool.spec for tool in make(TOOLS)]


def _load(name: str) -> Tool | Callable[..., Tool]:
    place = TOOLS.get(name, name)
    module, colon, attribute = place.partition(":")
    if not colon:
        raise ValueError(f"unknown tool {name!r}; known: {', '.join(TOOLS)}, or package.module:factory")
    try:
        found: Tool | Callable[..., Tool] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"tool {name!r} cannot be loaded: {error}") from None
    return found
