"""`submit`: the agent hands in its work, with an answer of the type that its task asks for."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, create_model

from trellis.environments.environment import Environment
from trellis.models.model import ToolSpec
from trellis.tools.arguments import String
from trellis.tools.tool import Output, Tool, ToolError, parameters_of, tool

TYPED = (
    "Hand in your work and end the task. The answer is checked first: if it is not of the right type, nothing is "
    "handed in and you are told what is wrong."
)


async def submit(environment: Environment, answer: String = "") -> Output:
    """Hand in your work and end the task. What the task asks for is taken as it is now: files from the place that the
    task names, a question's answer from `answer`.

    Args:
        answer: the final answer where the task asks a question; otherwise leave it empty.
    """
    return Output("handed in", answer=answer)


class TypedSubmit:
    """`submit` for a task whose answer has a type: anything that pydantic can check and describe."""

    def __init__(self, answer: Any) -> None:
        self._adapter: TypeAdapter[Any] = TypeAdapter(answer)
        field = (answer, Field(description="the final answer, of exactly this type"))
        arguments = create_model("submit", __config__=ConfigDict(extra="forbid"), answer=field)
        self.spec = ToolSpec("submit", TYPED, parameters_of(arguments))

    async def __call__(self, environment: Environment, /, **arguments: Any) -> Output:
        if unknown := sorted(arguments.keys() - {"answer"}):
            raise ToolError(f"submit takes only answer, not {', '.join(unknown)}")
        if "answer" not in arguments:
            raise ToolError(f"submit needs answer. {self._right}")
        try:
            return Output("handed in", answer=canonical(self._checked(arguments["answer"])))
        except ValueError:
            raise ToolError(f"nothing is handed in: numbers must be finite. {self._right}") from None

    def _checked(self, answer: Any) -> Any:
        """The answer as plain data.

        JSON in a text is taken as what it says, for some models write every argument as text.
        """
        texts = [json.dumps(answer)] + ([answer] if isinstance(answer, str) else [])
        problem = ""
        for text in texts:
            try:
                value = self._adapter.validate_json(text, strict=True)
                return self._adapter.dump_python(value, mode="json")
            except ValidationError as error:
                problem = problem or _told(error)
            except UnicodeEncodeError:  # half a surrogate pair, which no JSON can hold
                pass
        raise ToolError(f"nothing is handed in: {problem}. {self._right}")

    @property
    def _right(self) -> str:
        schema = json.dumps(self._adapter.json_schema(), ensure_ascii=False)
        return f"The answer must fit this JSON Schema: {schema}"


def canonical(answer: Any) -> str:
    """A checked answer as the text that `Submission.answer` holds: a text is itself; all else is JSON without spaces,
    keys sorted. Equal answers are equal texts."""
    if isinstance(answer, str):
        return answer
    return json.dumps(answer, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _told(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(['answer', *map(str, e['loc'])])}: {e['msg']} (you gave {_short(e['input'])})"
        for e in error.errors(include_url=False)[:5]
    )


def _short(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 100 else f"{shown[:100]}..."


def make(answer: Any = None) -> Tool:
    """`answer` is the type of the task's answer; None is free text."""
    return tool(submit) if answer is None else TypedSubmit(answer)
