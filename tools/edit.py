"""`edit`: look at files and change them, one exact step at a time.

Bytes that were not meant to change do not: line endings, file modes, a missing last newline and undecodable bytes
stay as they are.
"""

from __future__ import annotations

import posixpath
from typing import Annotated, Literal, NoReturn, TypeVar
from weakref import WeakKeyDictionary

from pydantic import Field

from trellis.environments.environment import Environment
from trellis.tools import text as texts
from trellis.tools.arguments import Path, String
from trellis.tools.clip import plain
from trellis.tools.tool import FunctionTool, Output, ToolError, tool

Command = Literal["view", "create", "str_replace", "insert", "undo"]
LineRange = Annotated[list[int], Field(min_length=2, max_length=2)]
T = TypeVar("T")


class EditTool:
    """One undo history per file and world."""

    def __init__(self) -> None:
        self._histories: WeakKeyDictionary[Environment, dict[str, list[bytes | None]]] = WeakKeyDictionary()

    async def edit(
        self,
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
        - create: write a whole file from `file_text`; an existing file is replaced.
        - str_replace: replace `old_str` by `new_str`; `old_str` must occur exactly once, whitespace included.
        - insert: put the lines of `new_str` after line `insert_line` (0: at the beginning).
        - undo: take back the last change made here to this file.

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
                return Output(await self._view(environment, path, view_range))
            case "create":
                text = await self._create(environment, path, _given(file_text, "create", "file_text"))
            case "str_replace":
                old = _given(old_str, "str_replace", "old_str")
                text = await self._str_replace(environment, path, old, new_str or "")
            case "insert":
                line = _given(insert_line, "insert", "insert_line")
                text = await self._insert(environment, path, line, _given(new_str, "insert", "new_str"))
            case "undo":
                text = await self._undo(environment, path)
        return Output(text)

    # --- commands ----------------------------------------------------------------------------------------------------

    async def _view(self, environment: Environment, path: str, view_range: LineRange | None) -> str:
        try:
            data = await environment.read_file(path)
        except IsADirectoryError:
            if view_range is not None:
                raise ToolError(f"{path} is a folder: view it without view_range") from None
            return await _list_folder(environment, path)
        except OSError as error:
            _refuse(path, error)
        text = texts.decode(path, data)
        count = len(texts.lines(text))
        first, last = view_range or (1, -1)
        last = count if last == -1 else min(last, count)
        if count == 0:
            return f"({path} is empty)"
        if not 1 <= first <= last:
            raise ToolError(f"view_range {view_range} does not lie in {path}, which has {count} lines")
        return texts.numbered(text, first, last)

    async def _create(self, environment: Environment, path: str, text: str) -> str:
        try:
            before: bytes | None = await environment.read_file(path)
        except FileNotFoundError:
            before = None
        except OSError as error:
            _refuse(path, error)
        await self._write(environment, path, before, text)
        count = len(text.splitlines())
        return f"{'created' if before is None else 'replaced'} {path} ({count} line{'' if count == 1 else 's'})"

    async def _str_replace(self, environment: Environment, path: str, old: str, new: str) -> str:
        if not old:
            raise ToolError("old_str is empty: give the text to be replaced, or use insert")
        if old == new:
            raise ToolError("old_str and new_str are the same: nothing to change")
        data = await _read(environment, path)
        text = texts.decode(path, data)
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
        await self._write(environment, path, data, changed)
        return f"changed {path}:\n{texts.around(changed, found[0], found[0] + len(new))}"

    async def _insert(self, environment: Environment, path: str, after_line: int, new: str) -> str:
        data = await _read(environment, path)
        text = texts.decode(path, data)
        lines = texts.lines(text)
        if not 0 <= after_line <= len(lines):
            raise ToolError(f"insert_line must be from 0 to {len(lines)}, the number of lines of {path}")
        head, tail = "".join(lines[:after_line]), "".join(lines[after_line:])
        if head and not head.endswith("\n"):
            head += texts.with_line_ends_of(text, "\n")
        inserted = texts.with_line_ends_of(text, new if new.endswith("\n") else new + "\n")
        await self._write(environment, path, data, head + inserted + tail)
        return f"changed {path}:\n{texts.around(head + inserted + tail, len(head), len(head + inserted) - 1)}"

    async def _undo(self, environment: Environment, path: str) -> str:
        history = self._histories.get(environment, {}).get(_key(environment, path))
        if not history:
            raise ToolError(f"there is no change of {path} to take back")
        before = history.pop()
        if before is None:
            await environment.exec(["rm", "-f", _key(environment, path)], timeout_s=60)
            return f"took back the creation of {path}: it is gone again"
        await _put(environment, path, before)
        return f"took back the last change of {path}"

    async def _write(self, environment: Environment, path: str, before: bytes | None, text: str) -> None:
        await _put(environment, path, texts.encode(text))
        self._histories.setdefault(environment, {}).setdefault(_key(environment, path), []).append(before)


# --- files -----------------------------------------------------------------------------------------------------------


async def _read(environment: Environment, path: str) -> bytes:
    try:
        return await environment.read_file(path)
    except OSError as error:
        _refuse(path, error)


async def _put(environment: Environment, path: str, data: bytes) -> None:
    try:
        await environment.write_file(path, data)
    except OSError as error:
        _refuse(path, error)


def _refuse(path: str, error: OSError) -> NoReturn:
    match error:
        case FileNotFoundError():
            advice = "does not exist: view the folder to see what is there"
        case IsADirectoryError():
            advice = "is a folder: name a file in it"
        case NotADirectoryError():
            advice = "lies below something that is no folder"
        case PermissionError():
            advice = "may not be read or written by you"
        case _:
            advice = f"cannot be used: {error.strerror or error}"
    raise ToolError(f"{path} {advice}") from None


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


def _key(environment: Environment, path: str) -> str:
    return posixpath.normpath(posixpath.join(environment.workdir, path))


def _given(value: T | None, command: str, name: str) -> T:
    if value is None:
        raise ToolError(f"{command} needs {name}")
    return value


def make() -> FunctionTool:
    return tool(EditTool().edit)
