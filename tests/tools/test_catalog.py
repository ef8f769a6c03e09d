import pytest

from trellis.models.model import ToolSpec
from trellis.tools.catalog import TOOLS, describe, make


def test_tools_come_fresh_and_in_order() -> None:
    first, again = make(["submit", "shell"]), make(["submit", "shell"])
    assert [tool.spec.name for tool in first] == ["submit", "shell"]
    assert not {id(tool) for tool in first} & {id(tool) for tool in again}


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown tool 'shel'; known: shell, python, edit, apply_patch, "):
        make(["shell", "shel"])


def test_a_place_is_a_name_too_and_a_wrong_place_is_one_line() -> None:
    assert make(["trellis.tools.submit:make"])[0].spec.name == "submit"
    with pytest.raises(ValueError, match=r"tool 'trellis.tools.submit:nothing' cannot be loaded: .*nothing"):
        make(["trellis.tools.submit:nothing"])


def test_every_tool_tells_a_model_all_it_needs() -> None:
    specs = describe()
    assert [spec.name for spec in specs] == list(TOOLS)
    for spec in specs:
        assert spec.description
        assert all(member.get("description") for member in spec.parameters["properties"].values()), spec.name


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("shell", ["command", "input", "interrupt", "background", "job", "timeout_s"]),
        ("python", ["code", "timeout_s", "reset", "fresh"]),
        ("edit", ["command", "path", "view_range", "file_text", "old_str", "new_str", "insert_line"]),
        ("apply_patch", ["input"]),
        ("view_image", ["path"]),
        ("submit", ["answer"]),
    ],
)
def test_names_of_arguments_are_what_scaffolds_and_policies_rely_on(name: str, arguments: list[str]) -> None:
    spec: ToolSpec = make([name])[0].spec
    assert list(spec.parameters["properties"]) == arguments
