"""What a model may do: the protocol of a tool, its value types, and `@tool`, which makes one from a function."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from trellis.environments.environment import Environment
from trellis.models.messages import Image
from trellis.models.model import ToolSpec


class ToolError(Exception):
    """The model's mistake: a missing file, a wrong argument. Its text becomes the tool result."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a tool gives back: text and images. `answer` is set by `submit` alone: the agent hands in its work."""

    text: str = ""
    images: tuple[Image, ...] = ()
    answer: str | None = None
    is_error: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)
    """Facts for the scaffold that are logged and not shown to the model, for example `exit_code`, `timed_out`,
    `duration_s`; JSON only."""


class Tool(Protocol):
    @property
    def spec(self) -> ToolSpec: ...

    async def __call__(self, environment: Environment, /, **arguments: Any) -> Output:
        """Use the tool in a world.

        Raises:
            ToolError: the model's mistake; its text becomes the tool result.
            EnvironmentFault: the world broke.
        """
        ...


@runtime_checkable
class Remembers(Protocol):
    """A tool that may know something of a world that is not in it, and so in no snapshot: what can be undone."""

    def remembers(self, environment: Environment, /) -> bool:
        """Does it know something of this world?"""
        ...


class Toolset(Protocol):
    """Tools that are not known before somebody is asked for them: a server's."""

    @property
    def name(self) -> str: ...

    @property
    def in_world(self) -> bool:
        """Do its tools act in the world alone? Only then a world is rebuilt by calling them again."""
        ...

    async def discover(self, environment: Environment) -> Sequence[ToolSpec]:
        """What it offers. Asked once an episode, before the first model call, and never when that is recorded.

        Raises:
            EnvironmentFault: it cannot be used.
        """
        ...

    async def call(self, environment: Environment, tool: str, arguments: Mapping[str, Any]) -> Output:
        """Use the tool of that name in a world, as `Tool` does; also without `discover` having been called."""
        ...

    async def close(self) -> None:
        """End what it started outside the worlds."""
        ...


@dataclass(frozen=True)
class ToolOfSet:
    """One tool of a toolset."""

    toolset: Toolset
    spec: ToolSpec

    async def __call__(self, environment: Environment, /, **arguments: Any) -> Output:
        return await self.toolset.call(environment, self.spec.name, arguments)


class FunctionTool:
    """A tool made by `@tool` from an async function `f(environment, ...)`."""

    def __init__(
        self,
        function: Callable[..., Awaitable[str | Output]],
        remembers: Callable[[Environment], bool] = lambda _: False,
    ) -> None:
        self._function = function
        self.remembers = remembers
        """See `Remembers`."""
        description, arguments = _parse_docstring(inspect.getdoc(function) or "")
        parameters = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        members: dict[str, Any] = {
            p.name: (
                p.annotation,
                Field(... if p.default is p.empty else p.default, description=arguments.get(p.name)),
            )
            for p in parameters
        }
        self._arguments = create_model(function.__name__, __config__=ConfigDict(extra="forbid"), **members)
        self.spec = ToolSpec(function.__name__, description, parameters_of(self._arguments))

    async def __call__(self, environment: Environment, /, **arguments: Any) -> Output:
        try:
            checked = self._arguments(**arguments)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ToolError(f"wrong arguments for {self.spec.name}: {problems}") from None
        given = {name: getattr(checked, name) for name in type(checked).model_fields}
        output = await self._function(environment, **given)
        return Output(output) if isinstance(output, str) else output


def tool(
    function: Callable[..., Awaitable[str | Output]], remembers: Callable[[Environment], bool] = lambda _: False
) -> FunctionTool:
    """Make a tool from `async def name(environment, argument: type = default, ...)`. For `remembers` see `Remembers`.

    The name is the function's, the description is its docstring up to `Args:`, and each argument's description is its
    line below `Args:`. Also used on a bound method, for a tool that keeps state: `tool(self.shell)`.
    """
    if inspect.ismethod(function):
        method = function

        async def call(environment: Environment, **arguments: Any) -> str | Output:
            output: str | Output = await method(environment, **arguments)
            return output

        call.__name__, call.__doc__ = method.__name__, method.__doc__
        call.__signature__ = inspect.signature(method, eval_str=True)  # type: ignore[attr-defined]
        return FunctionTool(call, remembers)
    return FunctionTool(function, remembers)


def _parse_docstring(doc: str) -> tuple[str, dict[str, str]]:
    head, _, tail = doc.partition("\nArgs:\n")
    arguments: dict[str, str] = {}
    name = ""
    for line in tail.splitlines():
        if found := re.match(r"\s{4}(\w+):\s*(.*)", line):
            name, arguments[found[1]] = found[1], found[2]
        elif name and line.startswith(" " * 8):
            arguments[name] += " " + line.strip()
    return " ".join(head.split()) if "\n\n" not in head else head.strip(), arguments


def parameters_of(arguments: type[BaseModel]) -> Mapping[str, Any]:
    """The JSON Schema of a tool's arguments, without the titles that pydantic adds."""
    schema: dict[str, Any] = arguments.model_json_schema()
    schema.pop("title", None)
    for member in schema.get("properties", {}).values():
        member.pop("title", None)
    schema.setdefault("properties", {})
    return schema
