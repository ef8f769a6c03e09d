"""`apply_patch`: its format, where hunks go, and that all happens or nothing."""

import difflib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trellis.environments.environment import Environment
from trellis.tools.catalog import make
from trellis.tools.patch import apply_hunks
from trellis.tools.patch_format import Add, Delete, Hunk, Update, parse
from trellis.tools.tool import Tool, ToolError

SOURCE = """class Box:
    def area(self):
        return self.w + self.h

    def rim(self):
        return self.w + self.h


class Ball:
    def area(self):
        return 3 * self.r
"""


@pytest.fixture
def apply_patch() -> Tool:
    return make(["apply_patch"])[0]


@pytest.fixture
def edit() -> Tool:
    return make(["edit"])[0]


def patch(*lines: str) -> str:
    return "\n".join(["*** Begin Patch", *lines, "*** End Patch"])


def hunks(*lines: str) -> str:
    """`SOURCE` with the hunks of a patch applied."""
    (section,) = parse(patch("*** Update File: f", *lines))
    assert isinstance(section, Update)
    return apply_hunks("f", SOURCE, section.hunks)[0]


async def refusal(apply_patch: Tool, world: Environment, *lines: str) -> str:
    with pytest.raises(ToolError) as caught:
        await apply_patch(world, input=patch(*lines))
    return str(caught.value)


# --- the format ------------------------------------------------------------------------------------------------------


def test_every_kind_of_section_is_read() -> None:
    text = patch(
        "*** Add File: a.txt", "+one", "+", "",
        "*** Delete File: b.txt",
        "*** Update File: c.txt", "*** Move to: d.txt", "@@ class A", "@@ def f():", " x", "", "-y", "*** End of File",
    )  # fmt: skip
    add, delete, update = parse(f"\n{text}\n\n")
    assert add == Add("a.txt", ("one", ""))
    assert delete == Delete("b.txt")
    assert isinstance(update, Update)
    assert (update.path, update.move_to) == ("c.txt", "d.txt")
    (hunk,) = update.hunks
    assert hunk.below == ("class A", "def f():")
    assert hunk.lines == ((" ", "x"), (" ", ""), ("-", "y"))
    assert hunk.at_end


def test_a_patch_with_windows_line_ends_is_read_like_any_other() -> None:
    text = patch("*** Update File: f", "-a", "+b")
    assert parse(text.replace("\n", "\r\n")) == parse(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the first line of a patch is `*** Begin Patch`, not ''"),
        ("diff --git a/f b/f\n--- a/f\n+++ b/f\n", "this is a unified diff: write it as  ... `git apply`"),
        ("--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b", "this is a unified diff"),
        ("*** Begin Patch", "the last line of a patch is `*** End Patch`"),
        ("*** Begin Patch\n*** Delete File: f", "the last line of a patch is `*** End Patch`, not '*** Delete"),
        (patch(), "the patch is empty: it needs"),
        (patch("hello"), "line 2 of the patch, 'hello': here begins a file: "),
        (patch("*** Update File:", "-a"), "line 2 of ... the path of the file is missing"),
        (patch("*** Rename File: a"), "line 2 of ... here begins a file"),
        (patch("*** Move to: a"), "line 2 of ... comes right after"),
        (patch("*** Update File: f"), "nothing is changed in f"),
        (patch("*** Update File: f", "@@", " a"), "line 4 of ... changes nothing"),
        (patch("*** Update File: f", "@@ -1,3 +1,4 @@", "-a"), "line numbers are no part of this format"),
        (patch("*** Update File: f", "@@", "-a", "b"), "line 5 of the patch, 'b': a line of a hunk begins with"),
        (patch("*** Add File: f", "a"), "line 3 of ... every line of an added file begins with"),
    ],
)
def test_what_is_not_this_format_is_said(text: str, complaint: str) -> None:
    with pytest.raises(ToolError) as caught:
        parse(text)
    at = 0
    for part in complaint.split(" ... "):
        at = str(caught.value).index(part, at)


# --- where hunks go --------------------------------------------------------------------------------------------------


def test_a_hunk_goes_where_its_lines_are() -> None:
    changed = hunks(" class Ball:", "     def area(self):", "-        return 3 * self.r", "+        return 4 * self.r")
    assert changed == SOURCE.replace("3 * self.r", "4 * self.r")


def test_a_line_above_tells_equal_places_apart() -> None:
    change = ("-        return self.w + self.h", "+        return 0")
    with pytest.raises(ToolError, match=r"f, hunk 1: its lines occur 2 times \(from lines 3, 6\): add lines"):
        hunks("@@", *change)
    one, _, two = SOURCE.partition("        return self.w + self.h\n")
    assert hunks("@@ def area(self):", *change) == one + "        return 0\n" + two
    assert hunks("@@ class Box:", "@@ def rim(self):", *change).splitlines()[5] == "        return 0"
    with pytest.raises(ToolError, match="2 times"):
        hunks("@@ class Box:", *change)
    with pytest.raises(ToolError, match="its lines are not in the file below its `@@` line"):
        hunks("@@ class Ball:", *change)


def test_lines_that_stay_may_reach_beyond_what_lies_below_the_line() -> None:
    changed = hunks(
        "@@ def area(self):", "-        return self.w + self.h", "+        pass", " ", "     def rim(self):"
    )
    assert changed.splitlines()[2] == "        pass"


def test_several_hunks_in_any_order() -> None:
    changed = hunks(
        "@@", "-        return 3 * self.r", "+        return 3",
        "@@", "-class Box:", "+class Crate:", "",
        "@@ def rim(self):", "-        return self.w + self.h", "+        return 1",
    )  # fmt: skip
    assert changed.splitlines()[0] == "class Crate:"
    assert changed.splitlines()[5] == "        return 1"
    assert changed.splitlines()[10] == "        return 3"


def test_only_new_lines_need_a_place() -> None:
    with pytest.raises(ToolError, match=r"hunk 1: it has only \+ lines"):
        hunks("+new")
    assert hunks("+new", "*** End of File") == SOURCE + "new\n"
    assert hunks("@@ class Ball:", "+    r = 1").splitlines()[9] == "    r = 1"
    with pytest.raises(ToolError, match=r"its `@@` line occurs 2 times \(lines 2, 10\)"):
        hunks("@@ def area(self):", "+        pass")


def test_the_end_of_the_file_is_a_place() -> None:
    assert apply_hunks("f", "x\ny\nx\n", _only("-x", "+z", "*** End of File"))[0] == "x\ny\nz\n"
    with pytest.raises(ToolError, match="not in the file at the end"):
        apply_hunks("f", "x\ny\n", _only("-x", "+z", "*** End of File"))


def test_hunks_that_overlap_are_refused() -> None:
    with pytest.raises(ToolError, match="hunks 1 and 2 overlap"):
        hunks(
            "@@", " class Box:", "-    def area(self):", "@@", "-    def area(self):", "-        return self.w + self.h"
        )


def test_every_hunk_without_a_place_is_named_with_what_is_nearest() -> None:
    with pytest.raises(ToolError) as caught:
        hunks(
            "@@", "-        return 3 * r", "+        return 0", "@@", "-  class Ball:", "+x", "@@ def volume():", "-a"
        )
    first, second, third = str(caught.value).split("f, hunk ")[1:]
    assert "The nearest text is:\n    11\t        return 3 * self.r" in first
    assert "Without regard to whitespace it is found here" in second
    assert "the line `@@ def volume():` is not in the file" in third


def _only(*lines: str) -> tuple[Hunk, ...]:
    (section,) = parse(patch("*** Update File: f", *lines))
    assert isinstance(section, Update)
    return section.hunks


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        ("a\r\nb\r\n", ("-a", "+c", "+d"), "c\r\nd\r\nb\r\n"),
        ("a\nb", (" b", "+c"), None),
        ("a\nb", (" a", "-b", "+c"), "a\nc"),
        ("a\nb", ("-a", " b"), "b"),
        ("a\nb", (" a", "-b"), "a"),
        ("a\nb", (" a", " b", "+c"), "a\nb\nc"),
        ("a\r\nb", (" a", "+c", " b"), "a\r\nc\r\nb"),
        ("a\r\nb\nc\n", (" a", "-b", "+x", " c"), "a\r\nx\nc\n"),
        ("a\n", ("-a",), ""),
        ("", ("+a",), "a\n"),
    ],
)
def test_line_ends_stay_as_they_are(before: str, change: tuple[str, ...], after: str | None) -> None:
    expected = before + "\nc" if after is None else after
    assert apply_hunks("f", before, _only(*change))[0] == expected


# --- any change ------------------------------------------------------------------------------------------------------

LINES = st.lists(st.sampled_from(["", "a", "b", " a", "+", "-", "@@", "*** End Patch", "x = 1", "\ta"]), max_size=12)
ENDS = st.sampled_from(["\n", "\r\n"])


def written(old: list[str], new: list[str]) -> list[str]:
    """A patch of one hunk that keeps what is equal: unique, for it holds the whole file."""
    out = []
    for line in difflib.ndiff(old, new):
        if line[0] in " -+":
            out.append(line[0] + line[2:])
    return out


@settings(max_examples=300, deadline=None)
@given(LINES, LINES, ENDS, st.booleans())
def test_any_change_can_be_written_and_reversed(old: list[str], new: list[str], end: str, final: bool) -> None:
    change = written(old, new)
    if not any(line[0] in "+-" for line in change) or not old or not new:
        return
    if not final and (not old[-1] or not new[-1]):
        return  # no newline after an empty last line is a file with one line less
    before, after = (end.join(lines) + (end if final else "") for lines in (old, new))
    if "\n" not in before or "\n" not in after:
        return  # nothing tells of its line ends
    assert apply_hunks("f", before, _only(*change))[0] == after
    back = [{"+": "-", "-": "+", " ": " "}[line[0]] + line[1:] for line in change]
    assert apply_hunks("f", after, _only(*back))[0] == before


@settings(max_examples=200, deadline=None)
@given(st.integers(3, 40), st.data())
def test_small_hunks_of_a_larger_file(count: int, data: st.DataObject) -> None:
    old = [f"line {n}" for n in range(count)]
    new = list(old)
    for at in sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=5)), reverse=True):
        new[at : at + 1] = data.draw(st.sampled_from([[], ["new"], ["new", "newer"], [f"line {at}", "after"]]))
    change = list[str]()
    for group in difflib.SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(1):
        change.append("@@")
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                change += [f" {line}" for line in old[i1:i2]]
            else:
                change += [f"-{line}" for line in old[i1:i2]] + [f"+{line}" for line in new[j1:j2]]
    if change:
        text = "".join(f"{line}\n" for line in old)
        assert apply_hunks("f", text, _only(*change))[0] == "".join(f"{line}\n" for line in new)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="*@ +-\nabUpdateFilPchBgnE:", max_size=200))
def test_no_text_is_more_than_a_mistake(text: str) -> None:
    for candidate in (text, patch("*** Update File: f", text)):
        try:
            for section in parse(candidate):
                if isinstance(section, Update):
                    apply_hunks("f", SOURCE, section.hunks)
        except ToolError:
            pass


# --- in a world ------------------------------------------------------------------------------------------------------


async def test_several_files_change_at_once(world: Environment, apply_patch: Tool) -> None:
    await world.write_file("src/a.py", SOURCE.encode())
    await world.write_file("gone.txt", b"x")
    await world.write_file("old.sh", b"#!/bin/sh\necho 1\n")
    await world.exec("chmod 750 old.sh")
    output = await apply_patch(world, input=patch(
        "*** Update File: src/a.py", "@@", "-class Ball:", "+class Globe:",
        "*** Add File: deep/er/new.txt", "+one", "+two",
        "*** Delete File: gone.txt",
        "*** Update File: old.sh", "*** Move to: bin/new.sh", "-echo 1", "+echo 2",
    ))  # fmt: skip
    assert output.text.splitlines() == [
        "updated src/a.py (now from line 9)", "added deep/er/new.txt", "deleted gone.txt",
        "moved old.sh to bin/new.sh and updated it (now from line 2)",
    ]  # fmt: skip
    assert await world.read_file("src/a.py") == SOURCE.replace("Ball", "Globe").encode()
    assert await world.read_file("deep/er/new.txt") == b"one\ntwo\n"
    assert (await world.exec("ls; bin/new.sh; stat -c %a bin/new.sh")).stdout == b"bin\ndeep\nsrc\n2\n750\n"


async def test_what_is_wrong_is_said_of_all_files_and_none_is_touched(world: Environment, apply_patch: Tool) -> None:
    await world.write_file("a", b"one\n")
    await world.write_file("b", b"two\n")
    await world.exec("mkdir folder; ln -s a link")
    message = await refusal(
        apply_patch, world,
        "*** Update File: a", "-one", "+1",
        "*** Update File: b", "-three", "+3",
        "*** Update File: c", "-x", "+y",
        "*** Add File: folder", "+x",
        "*** Delete File: link",
        "*** Update File: ./a", "-one", "+2",
    )  # fmt: skip
    for problem in (
        "b, hunk 1: its lines are not in the file",
        "c does not exist",
        "folder is a folder",
        "link appears twice",
        "./a appears twice",
    ):
        assert problem in message
    assert message.endswith("\nNothing was changed.")
    assert await world.read_file("a") == b"one\n"
    assert (await world.exec("ls")).stdout == b"a\nb\nfolder\nlink\n"


async def test_a_late_failure_takes_back_what_was_written(world: Environment, apply_patch: Tool, edit: Tool) -> None:
    await world.write_file("a", b"one\r\n")
    await world.write_file("gone", b"old")
    await world.exec("chmod 640 gone")
    message = await refusal(
        apply_patch, world,
        "*** Update File: a", "-one", "+1",
        "*** Delete File: gone",
        "*** Add File: new/file", "+x",
        "*** Add File: new/file/below", "+x",
    )  # fmt: skip
    assert message.endswith("Nothing was changed")
    assert "new/file/below lies below something that is no folder" in message
    assert await world.read_file("a") == b"one\r\n"
    assert (await world.exec("ls; stat -c %a gone; cat gone")).stdout == b"a\ngone\n640\nold"
    with pytest.raises(ToolError, match="no change"):
        await edit(world, command="undo", path="a")


async def test_undo_of_the_edit_tool_takes_patches_back_file_by_file(
    world: Environment, apply_patch: Tool, edit: Tool
) -> None:
    await world.write_file("a", b"one\n")
    await world.write_file("gone", b"old")
    await world.exec("chmod 711 gone")
    await apply_patch(world, input=patch("*** Update File: a", "-one", "+1", "*** Delete File: gone"))
    await apply_patch(world, input=patch("*** Update File: a", "*** Move to: sub/b"))
    assert (await edit(world, command="undo", path="gone")).text == "took back the removal of gone: it is there again"
    await edit(world, command="undo", path="a")
    await edit(world, command="undo", path="sub/b")
    assert (await world.exec("ls; stat -c %a gone; cat a gone")).stdout == b"a\ngone\n711\n1\nold"
    await edit(world, command="undo", path="a")
    assert await world.read_file("a") == b"one\n"


async def test_links_are_followed_and_said(world: Environment, apply_patch: Tool) -> None:
    await world.write_file("real", b"one\n")
    await world.exec("ln -s real link; ln -s nowhere dangling")
    output = await apply_patch(world, input=patch("*** Update File: link", "-one", "+1"))
    assert output.text == f"updated link (a symlink; the file is {world.workdir}/real) (now from line 1)"
    assert (await world.exec("cat real; readlink link")).stdout == b"1\nreal\n"
    assert "link is a symlink to" in await refusal(apply_patch, world, "*** Delete File: link")
    assert "is there already" in await refusal(apply_patch, world, "*** Add File: dangling", "+x")


async def test_other_encodings_stay(world: Environment, apply_patch: Tool) -> None:
    await world.write_file("utf16", "\ufeffgrün\r\nrot\r\n".encode("utf-16-le"))
    await world.write_file("bytes", b"caf\xe9\nold\n")
    await apply_patch(world, input=patch("*** Update File: utf16", "-grün", "+blaü"))
    assert await world.read_file("utf16") == "\ufeffblaü\r\nrot\r\n".encode("utf-16-le")
    assert "\ufffd stands for bytes that are not UTF-8" in await refusal(
        apply_patch, world, "*** Update File: bytes", "-café", "+x"
    )
    await apply_patch(world, input=patch("*** Update File: bytes", "-old", "+new"))
    assert await world.read_file("bytes") == b"caf\xe9\nnew\n"


async def test_a_file_that_does_not_parse_any_more_gets_a_note(world: Environment, apply_patch: Tool) -> None:
    await world.write_file("a.py", b"x = 1\ny = 2\n")
    output = await apply_patch(
        world, input=patch("*** Update File: a.py", "-y = 2", "+y = (", "*** Add File: b.json", "+[1,]")
    )
    first, note, second, other = output.text.splitlines()
    assert note == "[a.py has a syntax error now: line 2: '(' was never closed]"
    assert (first, second) == ("updated a.py (now from line 2)", "added b.json")
    assert other.startswith("[b.json has a syntax error: line 1: ")


async def test_a_moved_file_keeps_its_bytes(world: Environment, apply_patch: Tool) -> None:
    await world.write_file("a.bin", b"\0\1\2")
    await apply_patch(world, input=patch("*** Update File: a.bin", "*** Move to: b.bin"))
    assert await world.read_file("b.bin") == b"\0\1\2"
    await world.write_file("a.bin", b"new")
    assert "b.bin is there already" in await refusal(apply_patch, world, "*** Update File: a.bin", "*** Move to: b.bin")
