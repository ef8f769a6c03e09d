from trellis.environments.environment import Environment
from trellis.tools.catalog import make


async def test_submit_hands_in_what_was_answered(world: Environment) -> None:
    submit = make(["submit"])[0]
    assert (await submit(world)).answer == ""
    assert (await submit(world, answer="42")).answer == "42"


async def test_no_other_tool_hands_in(world: Environment) -> None:
    shell, python, edit = make(["shell", "python", "edit"])
    assert (await shell(world, command="echo answer=42")).answer is None
    assert (await python(world, code="print(42)")).answer is None
    assert (await edit(world, command="create", path="answer", file_text="42")).answer is None
