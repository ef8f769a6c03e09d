import re
from typing import Any

import pytest

from trellis.environments.environment import Environment
from trellis.tools import files
from trellis.tools.catalog import make
from trellis.tools.tool import Tool, ToolError

SOURCE = b"""def area(width, height):
    if width < 0:
        return 0
    return width + height


def volume(width, height, depth):
    return area(width, height) * depth
"""


@pytest.fixture
def edit() -> Tool:
    return make(["edit"])[0]


@pytest.fixture
async def source(world: Environment) -> str:
    await world.write_file("src/shapes.py", SOURCE)
    return "src/shapes.py"


async def do(edit: Tool, world: Environment, command: str, path: str, **arguments: Any) -> str:
    return (await edit(world, command=command, path=path, **arguments)).text


async def refusal(edit: Tool, world: Environment, command: str, path: str, **arguments: Any) -> str:
    with pytest.raises(ToolError) as caught:
        await edit(world, command=command, path=path, **arguments)
    return str(caught.value)


# --- view ------------------------------------------------------------------------------------------------------------


async def test_view_numbers_lines(world: Environment, edit: Tool, source: str) -> None:
    shown = await do(edit, world, "view", source)
    assert shown.splitlines()[0] == "     1\tdef area(width, height):"
    assert shown.splitlines()[-1] == "     8\t    return area(width, height) * depth"


async def test_view_of_a_range_and_to_the_end(world: Environment, edit: Tool, source: str) -> None:
    assert (
        await do(edit, world, "view", source, view_range=[2, 3])
        == "     2\t    if width < 0:\n     3\t        return 0"
    )
    assert (await do(edit, world, "view", source, view_range=[8, -1])).startswith("     8\t")
    assert (await do(edit, world, "view", source, view_range=[8, 99])).startswith("     8\t")


@pytest.mark.parametrize("wrong", [[0, 2], [9, 12], [5, 4]])
async def test_view_of_a_range_outside_says_how_long_the_file_is(
    world: Environment, edit: Tool, source: str, wrong: list[int]
) -> None:
    assert "src/shapes.py, which has 8 lines" in await refusal(edit, world, "view", source, view_range=wrong)


async def test_view_of_a_folder_goes_two_levels_deep(world: Environment, edit: Tool) -> None:
    for path in ("top.txt", "a/one.py", "a/b/two.py", "a/b/c/three.py", ".git/config", "a/.hidden"):
        await world.write_file(path, b"x")
    shown = await do(edit, world, "view", ".")
    assert shown.splitlines()[1:] == ["a/", "a/b/", "a/one.py", "top.txt"]
    assert "b/c/" in (await do(edit, world, "view", "a")).splitlines()


async def test_view_of_a_long_file_says_how_to_go_on(world: Environment, edit: Tool) -> None:
    await world.write_file("long.txt", b"".join(b"some words in line %d\n" % n for n in range(1, 5001)))
    shown = await do(edit, world, "view", "long.txt")
    *lines, notice = shown.splitlines()
    assert len(shown) < 17_000
    assert notice == f"[{5000 - len(lines):,} more lines; continue with view_range [{len(lines) + 1}, -1]]"
    onward = await do(edit, world, "view", "long.txt", view_range=[len(lines) + 1, -1])
    assert onward.startswith(f"{len(lines) + 1:6}\tsome words in line {len(lines) + 1}\n")


async def test_view_of_an_empty_file_a_binary_and_a_minified_line(world: Environment, edit: Tool) -> None:
    await world.write_file("empty", b"")
    await world.write_file("binary", b"\x7fELF\x00\x01")
    await world.write_file("minified.js", b"x=1;" * 100_000)
    assert await do(edit, world, "view", "empty") == "(empty is empty)"
    assert "not a text file (6 bytes)" in await refusal(edit, world, "view", "binary")
    assert len(await do(edit, world, "view", "minified.js")) < 17_000


async def test_a_missing_file_says_what_to_do(world: Environment, edit: Tool) -> None:
    for command, more in [("view", {}), ("str_replace", {"old_str": "a", "new_str": "b"})]:
        assert await refusal(edit, world, command, "gone.py", **more) == (
            "gone.py does not exist: view the folder to see what is there"
        )


# --- change ----------------------------------------------------------------------------------------------------------


async def test_create_makes_folders_and_replaces(world: Environment, edit: Tool) -> None:
    assert (
        await do(edit, world, "create", "new/deep/file.txt", file_text="one\ntwo\n")
        == "created new/deep/file.txt (2 lines)"
    )
    assert await world.read_file("new/deep/file.txt") == b"one\ntwo\n"
    assert await do(edit, world, "create", "new/deep/file.txt", file_text="x") == "replaced new/deep/file.txt (1 line)"
    assert await world.read_file("new/deep/file.txt") == b"x"
    assert "is a folder" in await refusal(edit, world, "create", "new", file_text="x")


async def test_replace_changes_one_place_and_shows_it(world: Environment, edit: Tool, source: str) -> None:
    shown = await do(edit, world, "str_replace", source, old_str="width + height", new_str="width * height")
    assert "     4\t    return width * height" in shown
    assert await world.read_file(source) == SOURCE.replace(b"width + height", b"width * height")


async def test_replace_without_new_text_deletes(world: Environment, edit: Tool, source: str) -> None:
    await do(edit, world, "str_replace", source, old_str="    if width < 0:\n        return 0\n")
    assert await world.read_file(source) == SOURCE.replace(b"    if width < 0:\n        return 0\n", b"")


async def test_replace_of_what_is_not_unique_names_the_lines(world: Environment, edit: Tool, source: str) -> None:
    message = await refusal(edit, world, "str_replace", source, old_str="return ", new_str="yield ")
    assert message == (
        "old_str occurs 3 times in src/shapes.py (lines 3, 4, 8): add lines around it until it is unique"
    )
    assert await world.read_file(source) == SOURCE


async def test_overlapping_occurrences_count(world: Environment, edit: Tool) -> None:
    await world.write_file("a", b"xaaay")
    assert "occurs 2 times" in await refusal(edit, world, "str_replace", "a", old_str="aa", new_str="b")


async def test_wrong_indentation_shows_the_right_one(world: Environment, edit: Tool, source: str) -> None:
    message = await refusal(edit, world, "str_replace", source, old_str="if width < 0:\n    return 0\n", new_str="")
    assert "Without regard to whitespace it is found here" in message
    assert message.endswith("     2\t    if width < 0:\n     3\t        return 0")


async def test_a_near_miss_shows_the_nearest_text(world: Environment, edit: Tool, source: str) -> None:
    old = "def volume(width, height):\n    return area(width, height) * height"
    message = await refusal(edit, world, "str_replace", source, old_str=old, new_str="")
    assert "The nearest text is:\n     7\tdef volume(width, height, depth):\n     8\t" in message


async def test_nothing_alike_says_to_look_first(world: Environment, edit: Tool, source: str) -> None:
    message = await refusal(edit, world, "str_replace", source, old_str="Lorem ipsum dolor", new_str="")
    assert message.endswith("Nothing in the file resembles it: view the file first.")
    await world.write_file("empty", b"")
    assert "view the file first" in await refusal(edit, world, "str_replace", "empty", old_str="x", new_str="")


async def test_the_nearest_text_of_a_large_file_is_found(world: Environment, edit: Tool) -> None:
    lines = [f"value_{n} = compute(first={n}, second={n * 7})" for n in range(20_000)]
    await world.write_file("large.py", "\n".join(lines).encode())
    old = "value_12345 = compute(first=12345, second=86416)"
    message = await refusal(edit, world, "str_replace", "large.py", old_str=old, new_str="")
    assert message.endswith(" 12346\tvalue_12345 = compute(first=12345, second=86415)")


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (0, b"# new\none\ntwo"),
        (1, b"one\n# new\ntwo"),
        (2, b"one\ntwo\n# new\n"),
    ],
)
async def test_insert_after_a_line(world: Environment, edit: Tool, after: int, expected: bytes) -> None:
    await world.write_file("f", b"one\ntwo")
    shown = await do(edit, world, "insert", "f", insert_line=after, new_str="# new")
    assert f"{after + 1:6}\t# new" in shown
    assert await world.read_file("f") == expected


async def test_insert_outside_says_what_is_inside(world: Environment, edit: Tool) -> None:
    await world.write_file("f", b"one\ntwo\n")
    assert "from 0 to 2" in await refusal(edit, world, "insert", "f", insert_line=3, new_str="x")
    assert "from 0 to 2" in await refusal(edit, world, "insert", "f", insert_line=-1, new_str="x")


@pytest.mark.parametrize(
    ("command", "arguments", "complaint"),
    [
        ("create", {}, "create needs file_text"),
        ("str_replace", {"new_str": "x"}, "str_replace needs old_str"),
        ("str_replace", {"old_str": "", "new_str": "x"}, "old_str is empty: .*insert"),
        ("str_replace", {"old_str": "one", "new_str": "one"}, "are the same"),
        ("insert", {"new_str": "x"}, "insert needs insert_line"),
        ("insert", {"insert_line": 1}, "insert needs new_str"),
        ("delete", {}, "wrong arguments for edit: command: .*'view', 'create'"),
    ],
)
async def test_what_is_missing_or_wrong_is_said(
    world: Environment, edit: Tool, command: str, arguments: dict[str, Any], complaint: str
) -> None:
    await world.write_file("f", b"one\n")
    with pytest.raises(ToolError, match=complaint):
        await edit(world, command=command, path="f", **arguments)
    assert await world.read_file("f") == b"one\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"path": "a\0b", "file_text": ""}, "path: .*no NUL"),
        ({"path": "", "file_text": ""}, "path: .*at least one character"),
        ({"path": "f", "file_text": "ab\ud800"}, "file_text: .*character 2 is half of a surrogate pair"),
        ({"path": "n" * 300, "file_text": ""}, "cannot be used: File name too long"),
        ({"path": "/dev/null", "file_text": ""}, "cannot be used: not a regular file"),
        ({"path": "f/below", "file_text": ""}, "f/below "),
    ],
)
async def test_what_no_file_can_be_is_the_models_mistake(
    world: Environment, edit: Tool, arguments: dict[str, Any], complaint: str
) -> None:
    await world.write_file("f", b"one\n")
    with pytest.raises(ToolError, match=complaint):
        await edit(world, command="create", **arguments)


# --- what must not change --------------------------------------------------------------------------------------------


async def test_line_ends_of_windows_are_kept(world: Environment, edit: Tool) -> None:
    await world.write_file("dos.txt", b"one\r\ntwo\r\nthree\r\n")
    await do(edit, world, "str_replace", "dos.txt", old_str="one\ntwo", new_str="1\n2\n2b")
    await do(edit, world, "insert", "dos.txt", insert_line=0, new_str="zero")
    assert await world.read_file("dos.txt") == b"zero\r\n1\r\n2\r\n2b\r\nthree\r\n"


async def test_mixed_line_ends_and_bytes_that_are_no_text_are_kept(world: Environment, edit: Tool) -> None:
    await world.write_file("mixed", b"caf\xe9\r\nold\nlast")
    await do(edit, world, "str_replace", "mixed", old_str="old\n", new_str="new\n")
    assert await world.read_file("mixed") == b"caf\xe9\r\nnew\nlast"
    assert "caf\ufffd" in await do(edit, world, "view", "mixed")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
async def test_a_byte_order_mark_and_what_it_says_are_kept(world: Environment, edit: Tool, encoding: str) -> None:
    await world.write_file("f", "grün\r\nrot\r\n".encode(encoding))
    assert await do(edit, world, "view", "f") == "     1\tgrün\n     2\trot"
    await do(edit, world, "insert", "f", insert_line=0, new_str="weiß")
    await do(edit, world, "str_replace", "f", old_str="grün\nrot", new_str="blau")
    assert await world.read_file("f") == "weiß\r\nblau\r\n".encode(encoding)
    said = await do(edit, world, "create", "f", file_text="ganz\nneu\n")
    assert said == "replaced f (2 lines, CR LF line ends kept)"
    assert await world.read_file("f") == "ganz\r\nneu\r\n".encode(encoding)


async def test_utf_16_without_a_mark_or_with_half_a_character_is_no_text(world: Environment, edit: Tool) -> None:
    await world.write_file("unmarked", "text".encode("utf-16-le"))
    await world.write_file("torn", "text".encode("utf-16")[:-1])
    await world.write_file("half", "text \ud83d".encode("utf-16", "surrogatepass"))
    for path, problem in (("unmarked", "not a text file"), ("torn", "from byte 8 on"), ("half", "from byte 12 on")):
        assert problem in await refusal(edit, world, "str_replace", path, old_str="t", new_str="x")
        assert problem in await refusal(edit, world, "view", path)


async def test_a_link_is_followed_and_said(world: Environment, edit: Tool, source: str) -> None:
    await world.exec("ln -s src/shapes.py link; ln -s loop loop; ln -s later early")
    target = f"{world.workdir}/src/shapes.py"
    said = await do(edit, world, "str_replace", "link", old_str="width + height", new_str="0")
    assert said.startswith(f"changed link (a symlink; the file is {target}):\n")
    assert (await world.exec("readlink link")).stdout == b"src/shapes.py\n"
    await do(edit, world, "undo", source)
    assert await world.read_file(source) == SOURCE
    assert "symbolic links" in await refusal(edit, world, "view", "loop")
    await do(edit, world, "create", "early", file_text="x")
    assert (await world.exec("cat later; readlink early")).stdout == b"xlater\n"
    await do(edit, world, "undo", "early")
    assert (await world.exec("ls; readlink early")).stdout.split() == [b"early", b"link", b"loop", b"src", b"later"]


async def test_up_behind_a_link_is_one_place_for_reading_and_writing(world: Environment, edit: Tool) -> None:
    await world.exec("mkdir -p far/away; ln -s far/away near; echo here > f; echo there > far/f")
    await do(edit, world, "str_replace", "near/../f", old_str="here", new_str="now")
    assert (await world.exec("cat f far/f")).stdout == b"now\nthere\n"


async def test_a_file_too_large_to_be_read_is_viewed_in_parts(world: Environment, edit: Tool) -> None:
    await world.exec("seq 3000000 > large.txt")
    message = await refusal(edit, world, "view", "large.txt")
    assert "too much to be viewed whole. Give a view_range" in message
    shown = await do(edit, world, "view", "large.txt", view_range=[2_000_000, 2_000_001])
    assert shown == "2000000\t2000000\n2000001\t2000001"
    assert (
        await do(edit, world, "view", "large.txt", view_range=[2_999_999, -1]) == "2999999\t2999999\n3000000\t3000000"
    )
    *_, notice = (await do(edit, world, "view", "large.txt", view_range=[1_000_000, 2_000_000])).splitlines()
    found = re.fullmatch(r"\[([\d,]+) more lines; continue with view_range \[(\d+), -1\]\]", notice)
    assert found is not None
    assert int(found[1].replace(",", "")) == 2_000_001 - int(found[2])
    assert "which has 3000000 lines" in await refusal(edit, world, "view", "large.txt", view_range=[3000001, 3000002])
    for command, more in (("str_replace", {"old_str": "7\n", "new_str": ""}), ("create", {"file_text": ""})):
        assert "too large for this tool" in await refusal(edit, world, command, "large.txt", **more)


async def test_in_a_file_of_very_many_lines_nothing_is_searched_for_that_resembles(
    world: Environment, edit: Tool
) -> None:
    await world.exec("seq 60000 > long.txt")
    message = await refusal(edit, world, "str_replace", "long.txt", old_str="60001", new_str="")
    assert "not searched for in 60,000 lines: find the place with a command" in message


async def test_what_can_be_undone_has_room_for_so_many_bytes(
    world: Environment, edit: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "HISTORY_BYTES", 250)
    for name in ("one", "two", "three"):
        await do(edit, world, "create", name, file_text="x" * 100)
    assert "no change of one to take back" in await refusal(edit, world, "undo", "one")
    for name in ("two", "three"):
        await do(edit, world, "undo", name)


async def test_a_script_stays_executable(world: Environment, edit: Tool) -> None:
    await world.write_file("run.sh", b"#!/bin/sh\necho old\n")
    await world.exec("chmod 750 run.sh")
    await do(edit, world, "str_replace", "run.sh", old_str="old", new_str="new")
    assert (await world.exec("stat -c %a run.sh && ./run.sh")).stdout == b"750\nnew\n"


# --- undo ------------------------------------------------------------------------------------------------------------


async def test_undo_goes_back_step_by_step_to_before_the_file_was(world: Environment, edit: Tool) -> None:
    await do(edit, world, "create", "f", file_text="one\n")
    await do(edit, world, "str_replace", "./f", old_str="one", new_str="two")
    await do(edit, world, "insert", f"{world.workdir}/f", insert_line=1, new_str="three")
    assert await world.read_file("f") == b"two\nthree\n"
    await do(edit, world, "undo", "f")
    assert await world.read_file("f") == b"two\n"
    await do(edit, world, "undo", "f")
    assert await world.read_file("f") == b"one\n"
    assert await do(edit, world, "undo", "f") == "took back the creation of f: it is gone again"
    with pytest.raises(FileNotFoundError):
        await world.read_file("f")
    assert await refusal(edit, world, "undo", "f") == "there is no change of f to take back"


async def test_a_refused_change_leaves_nothing_to_undo(world: Environment, edit: Tool, source: str) -> None:
    await refusal(edit, world, "str_replace", source, old_str="not there", new_str="x")
    assert "no change" in await refusal(edit, world, "undo", source)


async def test_histories_belong_to_files_and_worlds(world: Environment, edit: Tool, source: str) -> None:
    await do(edit, world, "str_replace", source, old_str="width + height", new_str="0")
    fork = await world.fork()
    try:
        assert "no change" in await refusal(edit, fork, "undo", source)
    finally:
        await fork.close()
    assert "no change" in await refusal(edit, world, "undo", "other.py")
    await do(edit, world, "undo", source)
    assert await world.read_file(source) == SOURCE


async def test_undo_takes_the_folders_back_that_were_made(world: Environment, edit: Tool) -> None:
    await world.exec("mkdir there")
    await do(edit, world, "create", "there/a/b/new.txt", file_text="x")
    await do(edit, world, "undo", "there/a/b/new.txt")
    assert (await world.exec("find .")).stdout == b".\n./there\n"
    await do(edit, world, "create", "c/one", file_text="1")
    await world.write_file("c/two", b"2")
    await do(edit, world, "undo", "c/one")
    assert (await world.exec("ls c")).stdout == b"two\n"


async def test_undo_does_not_lose_what_others_changed(world: Environment, edit: Tool, source: str) -> None:
    await do(edit, world, "str_replace", source, old_str="width + height", new_str="0")
    await world.exec("echo '# more' >> src/shapes.py")
    assert "was changed by something else since" in await refusal(edit, world, "undo", source)
    assert (await world.read_file(source)).endswith(b"# more\n")


# --- notes on syntax -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "right", "wrong", "place"),
    [
        ("a.py", "def f():\n    return 1\n", "def f():\n    return (1\n", "line 2: '(' was never closed"),
        ("a.json", '{"a": 1}\n', '{"a": 1,\n}\n', "line "),
        ("a.toml", "a = 1\n", "a = 1\nb = \n", "line 2: Invalid value"),
        ("a.yaml", "a: [1]\n", "a:\n  - [1\nb: 2\n", "line "),
        ("a.sh", "if true; then\n  echo\nfi\n", "if true; then\n  echo\ndone\n", "line 3: syntax error near"),
        ("script", "#!/usr/bin/env bash\necho\n", "#!/usr/bin/env bash\necho (\n", "line 2: syntax error"),
        ("run", "#!/usr/bin/python3\nx = 1\n", "#!/usr/bin/python3\nx = \n", "line 2: invalid syntax"),
        ("a.js", "const a = await import('b')\nexport {a}\n", "const a =\n  1;\nexport {a\n", "line "),
        ("b.cjs", "#!/usr/bin/env node\nreturn 1\n", "#!/usr/bin/env node\nreturn ]\n", "line 2: Unexpected token ']'"),
    ],
)
async def test_a_change_that_breaks_the_syntax_gets_a_note(
    world: Environment, edit: Tool, path: str, right: str, wrong: str, place: str
) -> None:
    if path.endswith("js") and not (await world.exec("node --version")).ok:
        pytest.skip("no node in the world")
    if path.endswith("yaml") and not (await world.exec("python3 -c 'import yaml'")).ok:
        pytest.skip("no yaml in the world's python3")
    assert "[" not in (await do(edit, world, "create", path, file_text=right))
    broken = await do(edit, world, "create", path, file_text=wrong)
    assert f"\n[{path} has a syntax error now: {place}" in broken
    again = await do(edit, world, "insert", path, insert_line=1, new_str="")
    assert "syntax error" not in again, "it was broken before"
    await do(edit, world, "undo", path)
    await do(edit, world, "undo", path)
    assert await world.read_file(path) == right.encode()


async def test_a_note_is_not_a_refusal_and_a_new_file_gets_one_too(world: Environment, edit: Tool) -> None:
    said = await do(edit, world, "create", "new.py", file_text="x = (\n")
    assert said == "created new.py (1 line)\n[new.py has a syntax error: line 1: '(' was never closed]"
    assert await world.read_file("new.py") == b"x = (\n"
    assert await do(edit, world, "create", "empty.json", file_text="") == "created empty.json (0 lines)"


async def test_no_text_brings_the_check_down(world: Environment, edit: Tool) -> None:
    for name, text in (("deep.py", "(" * 50_000), ("deep.json", "[" * 200_000), ("nul.py", "x = '\x00'\n")):
        assert (await do(edit, world, "create", name, file_text=text)).startswith(f"created {name} (1 line)")


async def test_nothing_is_executed_and_nothing_is_left(world: Environment, edit: Tool) -> None:
    await do(edit, world, "create", "a.py", file_text="import os\nos.mkdir('ran')\n")
    await do(edit, world, "create", "b.js", file_text="require('fs').mkdirSync('ran')\n")
    await do(edit, world, "create", "c.sh", file_text="mkdir ran\n")
    assert (await world.exec("ls -A")).stdout == b"a.py\nb.js\nc.sh\n"


async def test_an_interpreter_that_hangs_or_lies_does_no_harm(world: Environment, edit: Tool) -> None:
    await world.write_file("json.py", b"raise SystemExit('not the module you want')\n")
    assert "[" not in await do(edit, world, "create", "a.json", file_text="{}")
