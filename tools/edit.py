"""`edit`: look at files and change them, one exact step at a time.

Bytes that were not meant to change do not: line endings, byte order marks, file modes, a missing last newline and
undecodable bytes stay as they are.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from trellis.environments.environment import Environment
from trellis.tools import files, syntax
from trellis.tools import text as texts
from trellis.tools.arguments import Path, String
from trellis.tools.clip import LIMIT_CHARS, plain
from trellis.tools.encoding import UTF_8, Encoding, decode
from trellis.tools.tool import FunctionTool, Output, ToolError, tool

Command = Literal["view", "create", "str_replace", "insert", "undo"]
LineRange = Annotated[list[int], Field(min_length=2, max_length=2)]
T = TypeVar("T")


async def edit(
    environment: Environment,
    command: Command,
    path: Path,
    view_range: LineRange | None = None,
    file_text: String | None = None,
    old_str: String | None = None,
    new_str: String | None = None,
    insert_line: int | None = None,
) -> Output:
    """View and change files.

    Commands:
    - view: show a file with line numbers (`view_range` for a part of it), or a folder two levels deep.
    - create: write a whole file from `file_text`, with the folders above it; an existing file is replaced.
    - str_replace: replace `old_str` by `new_str`; `old_str` must occur exactly once, whitespace included.
    - insert: put the lines of `new_str` after line `insert_line` (0: at the beginning).
    - undo: take back the last change made here (or by apply_patch) to this file.

    Args:
        command: what to do.
        path: the file or folder; relative paths start at the workdir.
        view_range: first and last line to view, counted from 1; -1 as the last line means the end.
        file_text: the content for create.
        old_str: the text to be replaced by str_replace.
        new_str: the new text for str_replace (left out: delete) and insert.
        insert_line: the line after which insert puts its text.
    """
    match command:
        case "view":
            return Output(await _view(environment, path, view_range))
        case "create":
            text = await _create(environment, path, _given(file_text, "create", "file_text"))
        case "str_replace":
            old = _given(old_str, "str_replace", "old_str")
            text = await _str_replace(environment, path, old, new_str or "")
        case "insert":
            line = _given(insert_line, "insert", "insert_line")
            text = await _insert(environment, path, line, _given(new_str, "insert", "new_str"))
        case "undo":
            text = await _undo(environment, path)
    return Output(text)


# --- commands --------------------------------------------------------------------------------------------------------


async def _view(environment: Environment, path: str, view_range: LineRange | None) -> str:
    (known,) = await files.facts(environment, [path])
    if known.kind == "folder":
        if view_range is not None:
            raise ToolError(f"{path} is a folder: view it without view_range")
        return await _list_folder(environment, path)
    if known.kind == "file" and known.size > files.LARGEST_BYTES:
        return await _view_of_large(environment, path, known, view_range)
    text, _ = decode(path, await files.read(environment, path))
    count = len(texts.lines(text))
    if count == 0:
        return f"({path} is empty)"
    return texts.numbered(text, *_within(path, view_range or [1, -1], count))


async def _create(environment: Environment, path: str, text: str) -> str:
    (known,) = await files.facts(environment, [path])
    if known.kind == "folder":
        raise ToolError(f"{path} is a folder: name a file in it")
    before, encoding, kept = None, UTF_8, ""
    if known.kind == "file":
        before = await files.read(environment, path, known)
        with suppress(ToolError):  # a file of bytes may become one of text
            old, encoding = decode(path, before)
            kept, text = _with_line_ends(old, text)
    data = encoding.encode(text)
    await files.carry_out(environment, [files.Change(known, before, data)])
    count = len(texts.lines(text))
    made = f"{'created' if before is None else 'replaced'} {path} ({count} line{'' if count == 1 else 's'}{kept})"
    return made + _through(known) + await syntax.note(environment, path, before, data)


async def _str_replace(environment: Environment, path: str, old: str, new: str) -> str:
    if not old:
        raise ToolError("old_str is empty: give the text to be replaced, or use insert")
    if old == new:
        raise ToolError("old_str and new_str are the same: nothing to change")
    source = await _Source.read(environment, path)
    text = source.text
    if old not in text:
        old, new = texts.with_line_ends_of(text, old), texts.with_line_ends_of(text, new)
    found = texts.occurrences(text, old)
    if not found:
        raise ToolError(f"old_str does not occur in {path}. {texts.nearest(text, old)}")
    if len(found) > 1:
        numbers = ", ".join(str(texts.line_number(text, at)) for at in found[:10])
        raise ToolError(
            f"old_str occurs {len(found)} times in {path} (lines {numbers}): add lines around it until it is unique"
        )
    changed = text[: found[0]] + new + text[found[0] + len(old) :]
    return await source.write(environment, changed, found[0], found[0] + len(new))


async def _insert(environment: Environment, path: str, after_line: int, new: str) -> str:
    source = await _Source.read(environment, path)
    text = source.text
    lines = texts.lines(text)
    if not 0 <= after_line <= len(lines):
        raise ToolError(f"insert_line must be from 0 to {len(lines)}, the number of lines of {path}")
    head, tail = "".join(lines[:after_line]), "".join(lines[after_line:])
    if head and not head.endswith("\n"):
        head += texts.with_line_ends_of(text, "\n")
    inserted = texts.with_line_ends_of(text, new if new.endswith("\n") else new + "\n")
    return await source.write(environment, head + inserted + tail, len(head), len(head + inserted) - 1)


async def _undo(environment: Environment, path: str) -> str:
    change = await files.take_back(environment, path)
    if change.before is None:
        return f"took back the creation of {path}: it is gone again"
    if change.after is None:
        return f"took back the removal of {path}: it is there again"
    return f"took back the last change of {path}"


@dataclass(frozen=True, slots=True)
class _Source:
    """A text file that is about to change."""

    path: str
    known: files.Facts
    data: bytes
    text: str
    encoding: Encoding

    @classmethod
    async def read(cls, environment: Environment, path: str) -> _Source:
        (known,) = await files.facts(environment, [path])
        data = await files.read(environment, path, known)
        return cls(path, known, data, *decode(path, data))

    async def write(self, environment: Environment, text: str, start: int, end: int) -> str:
        """Write `text`, and show what is new from `start` to `end`."""
        data = self.encoding.encode(text)
        await files.carry_out(environment, [files.Change(self.known, self.data, data)])
        shown = f"changed {self.path}{_through(self.known)}:\n{texts.around(text, start, end)}"
        return shown + await syntax.note(environment, self.path, self.data, data)


# --- views and remarks -----------------------------------------------------------------------------------------------


def _through(known: files.Facts) -> str:
    return f" (a symlink; the file is {known.link})" if known.link else ""


def _with_line_ends(old: str, text: str) -> tuple[str, str]:
    """A remark and the text, with CR LF where the old text has that throughout."""
    changed = texts.with_line_ends_of(old, text)
    return (", CR LF line ends kept" if changed != text else ""), changed


def _within(path: str, view_range: LineRange, count: int) -> tuple[int, int]:
    """The first and the last line to be shown of a file of so many. Raises ToolError: there are none."""
    first, last = view_range
    last = count if last == -1 else min(last, count)
    if not 1 <= first <= last:
        raise ToolError(f"view_range {view_range} does not lie in {path}, which has {count} lines")
    return first, last


async def _view_of_large(environment: Environment, path: str, known: files.Facts, view_range: LineRange | None) -> str:
    """Some lines of a file that is not read as a whole."""
    if view_range is None:
        raise ToolError(
            f"{path} has {known.size:,} bytes: too much to be viewed whole. Give a view_range such as [1, 200], or "
            "search it with a command"
        )
    counted = await environment.exec(["grep", "-c", "", "--", known.path], timeout_s=60)
    if counted.timed_out:
        raise ToolError(f"the lines of {path} were not counted within 60 s: search it with a command")
    first, last = _within(path, view_range, int(counted.text or 0))
    script = f"{first},{last}p; {last}q"
    shown = ["bash", "-c", 'sed -n -e "$1" -- "$0" | head -c "$2"', known.path, script, str(4 * LIMIT_CHARS)]
    result = await environment.exec(shown, timeout_s=60)
    if result.timed_out:
        raise ToolError(f"line {first} of {path} was not reached within 60 s: search it with a command")
    text, _ = decode(path, result.stdout)
    return texts.numbered(text, 1, last - first + 1, offset=first - 1)


async def _list_folder(environment: Environment, path: str) -> str:
    script = (
        'cd -- "$0" && find . -mindepth 1 -maxdepth 2 -name ".*" -prune '
        r'-o -mindepth 1 -maxdepth 2 -type d -exec printf "%s/\n" {} + -o -mindepth 1 -maxdepth 2 -print'
    )
    found = await environment.exec(["bash", "-c", script, path], timeout_s=60, cwd=environment.workdir)
    if not found.ok and not found.stdout:
        raise ToolError(f"{path} cannot be listed: {plain(found.stderr).strip()}")
    names = sorted(name.removeprefix("./") for name in plain(found.stdout).splitlines())
    return texts.limited([f"{path}, two levels deep, hidden entries left out:", *names])


def _given(value: T | None, command: str, name: str) -> T:
    if value is None:
        raise ToolError(f"{command} needs {name}")
    return value


def make() -> FunctionTool:
    return tool(edit, files.remembers)
