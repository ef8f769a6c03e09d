"""`submit`: free text, or an answer of the type that the task gives it."""

from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from trellis.environments.environment import Environment
from trellis.models.messages import Text, ToolCall
from trellis.scaffolds.world import NoEnvironment, perform
from trellis.tools.catalog import instantiate, make
from trellis.tools.submit import canonical
from trellis.tools.submit import make as make_submit
from trellis.tools.tool import ToolError

NOWHERE: Any = NoEnvironment()


class Place(BaseModel):
    model_config = ConfigDict(extra="forbid")

    file: str
    line: Annotated[int, Field(ge=1)]


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


async def handed_in(answer_type: Any, answer: Any) -> str | None:
    return (await make_submit(answer_type)(NOWHERE, answer=answer)).answer


async def refusal(answer_type: Any, **arguments: Any) -> str:
    with pytest.raises(ToolError) as caught:
        await make_submit(answer_type)(NOWHERE, **arguments)
    return str(caught.value)


async def test_submit_hands_in_what_was_answered(world: Environment) -> None:
    submit = make(["submit"])[0]
    assert (await submit(world)).answer == ""
    assert (await submit(world, answer="42")).answer == "42"


async def test_no_other_tool_hands_in(world: Environment) -> None:
    shell, python, edit = make(["shell", "python", "edit"])
    assert (await shell(world, command="echo answer=42")).answer is None
    assert (await python(world, code="print(42)")).answer is None
    assert (await edit(world, command="create", path="answer", file_text="42")).answer is None


@pytest.mark.parametrize(
    ("answer_type", "answer", "text"),
    [
        (int, 3, "3"),
        (int, "3", "3"),
        (int, 3.0, None),
        (int, True, None),
        (int, "three", None),
        (Annotated[int, Field(ge=1, le=5)], 6, None),
        (float, 3, "3.0"),
        (float, float("nan"), None),
        (float, "Infinity", None),
        (bool, False, "false"),
        (bool, "yes", None),
        (str, "3", "3"),
        (str, "", ""),
        (str, 3, None),
        (str, "half a pair: \ud800", None),
        (int, "\ud800", None),
        (Annotated[str, Field(pattern=r"^\d{4}$")], "2024", "2024"),
        (Literal["A", "B"], "B", "B"),
        (Literal["A", "B"], "b", None),
        (Colour, "red", "red"),
        (list[float], [1, 2.5], "[1.0,2.5]"),
        (list[int], "[1,\n 2]\n", "[1,2]"),
        (tuple[int, int], [1, 2], "[1,2]"),
        (Place, {"line": 2, "file": "ü.py"}, '{"file":"ü.py","line":2}'),
        (Place, '{"line": 2, "file": "a"}', '{"file":"a","line":2}'),
        (Place, {"line": 0, "file": "a"}, None),
        (Place, {"line": 1, "file": "a", "why": "x"}, None),
        (int | None, None, "null"),
    ],
)
async def test_an_answer_is_taken_exactly_if_it_fits(answer_type: Any, answer: Any, text: str | None) -> None:
    if text is not None:
        assert await handed_in(answer_type, answer) == text
    else:
        assert (await refusal(answer_type, answer=answer)).startswith("nothing is handed in: ")


async def test_what_is_wrong_and_what_would_be_right_is_said() -> None:
    assert await refusal(Annotated[int, Field(ge=1, le=5)], answer=9) == (
        "nothing is handed in: answer: Input should be less than or equal to 5 (you gave 9). The answer must fit this "
        'JSON Schema: {"maximum": 5, "minimum": 1, "type": "integer"}'
    )
    message = await refusal(list[Place], answer=[{"file": "a", "line": 1}, {"file": "b"}])
    assert 'answer.1.line: Field required (you gave {"file": "b"})' in message
    assert (await refusal(int)).startswith("submit needs answer. The answer must fit")
    assert await refusal(int, answer=1, reason="x") == "submit takes only answer, not reason"


def test_the_model_is_shown_the_type() -> None:
    spec = make_submit(Literal["A", "B"]).spec
    assert spec.name == "submit"
    assert spec.parameters["required"] == ["answer"]
    assert spec.parameters["properties"]["answer"]["enum"] == ["A", "B"]
    assert spec.parameters["additionalProperties"] is False
    assert make_submit(list[Place]).spec.parameters["$defs"]["Place"]["required"] == ["file", "line"]
    assert make_submit().spec.parameters["properties"]["answer"]["type"] == "string"


def test_only_a_factory_that_asks_for_the_type_gets_it() -> None:
    assert instantiate(make_submit, answer=int).spec.parameters["properties"]["answer"]["type"] == "integer"
    assert instantiate(make_submit).spec == make(["submit"])[0].spec
    shell = make(["shell"])[0]
    assert instantiate(shell, answer=int) is shell


async def test_a_wrong_answer_is_a_result_and_hands_in_nothing() -> None:
    result, output = await perform({"submit": make_submit(int)}, ToolCall("1", "submit", {"answer": "x"}), NOWHERE)
    assert result.is_error
    assert output.answer is None
    assert isinstance(result.parts[0], Text)


def test_equal_answers_are_equal_texts() -> None:
    assert canonical({"b": [1, "ü"], "a": None}) == canonical({"a": None, "b": [1, "ü"]}) == '{"a":null,"b":[1,"ü"]}'
