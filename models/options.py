"""Options of models, as they come from a command line or an experiment file, checked with one clear line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

M = TypeVar("M", bound="BaseModel")


def parse_options(kind: type[M], options: Mapping[str, Any], owner: str) -> M:
    """`options` as a `kind`; values may still be text.

    Raises:
        ValueError: one line that names `owner`, what is wrong and what would be right.
    """
    from pydantic import ValidationError

    known = ", ".join(sorted(kind.model_fields)) or "none"
    if unknown := sorted(set(options) - set(kind.model_fields)):
        raise ValueError(f"{owner} has no option {', '.join(unknown)}; it has: {known}")
    try:
        return kind(**options)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {message(e)}" for e in error.errors())
        raise ValueError(f"{owner}: {problems}") from None


_SHAPES = {"tuple_type": "Input should be a list", "model_type": "Input should be a table",
           "dict_type": "Input should be a table"}  # fmt: skip


def message(error: Any) -> str:
    """What one of a ValidationError's errors says, in the words of TOML."""
    said: str = _SHAPES.get(error["type"], error["msg"])
    return said.removeprefix("Value error, ")


def construct(factory: Callable[..., Any], options: Mapping[str, Any], owner: str) -> Any:
    """Call a factory whose options are its keyword parameters, with `options` checked against its signature.

    Raises:
        ValueError: as `parse_options`.
    """
    from pydantic import ConfigDict, create_model

    parameters = inspect.signature(factory, eval_str=True).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return factory(**options)
    members: dict[str, Any] = {
        p.name: (Any if p.annotation is p.empty else p.annotation, ... if p.default is p.empty else p.default)
        for p in parameters
    }
    kind = create_model("Options", __config__=ConfigDict(arbitrary_types_allowed=True), **members)
    checked = parse_options(kind, options, owner)
    return factory(**{name: getattr(checked, name) for name in options})
