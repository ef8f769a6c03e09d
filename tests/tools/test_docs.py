"""The page about tools: its code runs as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest

from trellis.environments.environment import Environment
from trellis.tools.catalog import TOOLS, instantiate
from trellis.tools.tool import ToolError

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-tool.md").read_text("utf-8")
SEARCH, NOTES, TEST = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def defined_by(*sources: str) -> dict[str, Any]:
    """What the page's code defines: our own text, not a model's."""
    names: dict[str, Any] = {"__name__": "page"}
    for source in sources:
        exec(compile(source, "adding-a-tool.md", "exec"), names)
    return names


async def test_the_test_on_the_page_passes() -> None:
    await defined_by(SEARCH, TEST)["test_search_names_file_and_line"]()


async def test_the_function_is_a_tool(world: Environment) -> None:
    search = instantiate(defined_by(SEARCH)["search"])
    assert list(search.spec.parameters["properties"]) == ["pattern", "folder", "limit"]
    await world.write_file("a.txt", b"one\ntwo\nthree\n")
    assert (await search(world, pattern="^t", limit=1)).data == {"matches": 1}
    assert (await search(world, pattern="absent")).text == "no match"
    with pytest.raises(ToolError, match="cannot search: "):
        await search(world, pattern="(")


async def test_the_tool_with_state_keeps_it_per_world(world: Environment) -> None:
    notes = instantiate(defined_by(NOTES)["notes"])
    await notes(world, text="first")
    assert (await notes(world, text="second")).text == "first\nsecond"
    fork = await world.fork()
    try:
        assert (await notes(fork, text="third")).text == "third"
    finally:
        await fork.close()


def test_every_shipped_tool_is_on_the_page() -> None:
    assert all(f"| `{name}` |" in PAGE for name in TOOLS)
