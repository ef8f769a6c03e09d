"""What differs between the workdirs of two worlds, and the patch that says it.

Files and symbolic links differ in type, content or whether they can be run, as git sees it; pipes, and files that are
very large, are named, but the patch does not carry them. Folders are not listed, and what lies in a repository's own
folder (`.git`) is left out: no patch may touch it. `different_files` works in any environment; nothing of the worlds is
evaluated outside them.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from trellis.environments.capture.patch import Changed, Differences, File, patch, refused
from trellis.environments.environment import Change, Changes, EnvironmentFault, ExecResult

LIST_TIMEOUT_S = 600.0
GONE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class World(Protocol):
    """What of an `Environment` is needed here."""

    async def exec(self, command: Sequence[str], /, *, timeout_s: float) -> ExecResult: ...
    async def read_file(self, path: str, /) -> bytes: ...


# Run inside, where others may remove files meanwhile. A file whose owner has taken away their own right to read it is
# readable for the moment.
_READING = """
import os, stat, sys
def content(path, mode):
    try:
        return open(path, "rb")
    except PermissionError:
        os.chmod(path, stat.S_IMODE(mode) | stat.S_IRUSR)
        try:
            return open(path, "rb")
        finally:
            os.chmod(path, stat.S_IMODE(mode))
"""
_LIST = f"""{_READING}
import hashlib, json
from contextlib import suppress
def list_folder(folder):
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError, NotADirectoryError):
            list_entry(entry.path, entry.stat(follow_symlinks=False))
def list_entry(path, facts):
    mode, what = facts.st_mode, ""
    if stat.S_ISDIR(mode):
        folders.append(path)
        return
    if stat.S_ISLNK(mode):
        what = os.fsdecode(os.readlink(path))
    elif stat.S_ISREG(mode):
        digest = hashlib.sha256()
        with content(path, mode) as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
        what = digest.hexdigest()
    print(json.dumps([os.fsdecode(path[2:]), mode, facts.st_size, what]))
folders = [b"."]
while folders:
    with suppress(FileNotFoundError, NotADirectoryError):
        list_folder(folders.pop())
"""
_READ = f"""{_READING}
path = os.fsencode(sys.argv[1])
sys.stdout.buffer.write(content(path, os.lstat(path).st_mode).read())
"""


def changes(changed: Iterable[Changed]) -> Changes:
    in_order = sorted(changed, key=lambda each: each.path)
    return Changes(
        tuple(
            Change(
                os.fsdecode(each.path),
                "added" if each.before is None else "deleted" if each.after is None else "modified",
            )
            for each in in_order
        ),
        patch(in_order),
        tuple(f"{os.fsdecode(each.path)}: {each.why_left_out}" for each in in_order if each.why_left_out),
    )


async def different_files(before: World, after: World) -> list[Changed]:
    """Compare what is in the workdirs of two worlds.

    Raises:
        EnvironmentFault: a world is gone, or its files cannot be read.
    """
    old, new = await _list(before), await _list(after)
    differences = Differences()
    try:
        for path in sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path)):
            old_file = await _file(before, path, old.get(path), differences)
            differences.add(os.fsencode(path), old_file, await _file(after, path, new.get(path), differences))
    except OSError as error:
        raise EnvironmentFault(f"the files of a world cannot be read: {error}") from None
    return differences.found


Listed = tuple[int, int, str]
"""A git mode, a size, and a digest or where the link leads."""


async def _list(world: World) -> dict[str, Listed]:
    output = await _python(world, _LIST)
    entries: list[Any] = [json.loads(line) for line in output.splitlines()]
    return {
        path: (File.of(mode).mode, size, what)
        for path, mode, size, what in entries
        if not stat.S_ISSOCK(mode) and not any(map(refused, path.split("/")))
    }


async def _file(world: World, path: str, listed: Listed | None, differences: Differences) -> File | None:
    if listed is None:
        return None
    mode, size, what = listed
    if stat.S_ISLNK(mode):
        return File(mode, os.fsencode(what))
    if not stat.S_ISREG(mode):
        return File(mode)
    if not differences.have_room(size):
        return File(mode, digest=what)
    try:
        return File(mode, await world.read_file(path))
    except GONE:  # since it was listed
        return None
    except PermissionError:
        return File(mode, await _python(world, _READ, path))


async def _python(world: World, script: str, *arguments: str) -> bytes:
    result = await world.exec(["python3", "-I", "-S", "-c", script, *arguments], timeout_s=LIST_TIMEOUT_S)
    if not result.ok:
        raise EnvironmentFault(f"the files of a world cannot be listed: {result.text.strip()[-500:]}")
    if not result.spilled:
        return result.stdout
    whole = await world.read_file(result.spilled[0])
    await world.exec(["rm", "-f", "--", *result.spilled], timeout_s=LIST_TIMEOUT_S)
    return whole
