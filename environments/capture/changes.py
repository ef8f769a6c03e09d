"""What differs between the workdirs of two worlds, and the patch that says it.

Files and symbolic links differ in type, content or whether they can be run, as git sees it; pipes are named, but no
patch can carry them. Folders are not listed, and what lies in a repository's own folder (`.git`) is left out: no patch
may touch it. `different_files` works in any environment; nothing of the worlds is evaluated outside them.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from trellis.environments.capture.patch import Changed, File, patch, refused
from trellis.environments.environment import Change, Changes, EnvironmentFault, ExecResult

LIST_TIMEOUT_S = 600.0


class World(Protocol):
    """What of an `Environment` is needed here."""

    async def exec(self, command: Sequence[str], /, *, timeout_s: float) -> ExecResult: ...
    async def read_file(self, path: str, /) -> bytes: ...


# Run inside. A file whose owner has taken away their own right to read it is readable for the moment.
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
folders = [b"."]
while folders:
    folder = folders.pop()
    for entry in os.scandir(folder):
        path, facts = entry.path, entry.stat(follow_symlinks=False)
        mode, what = facts.st_mode, ""
        if stat.S_ISDIR(mode):
            folders.append(path)
            continue
        if stat.S_ISLNK(mode):
            what = os.fsdecode(os.readlink(path))
        elif stat.S_ISREG(mode):
            digest = hashlib.sha256()
            with content(path, mode) as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
            what = digest.hexdigest()
        print(json.dumps([os.fsdecode(path[2:]), mode, what]))
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
    )


async def different_files(before: World, after: World) -> list[Changed]:
    """Compare what is in the workdirs of two worlds.

    Raises:
        EnvironmentFault: a world is gone, or cannot list its files.
    """
    old, new = await _list(before), await _list(after)
    return [
        Changed(os.fsencode(path), await _file(before, path, old.get(path)), await _file(after, path, new.get(path)))
        for path in old.keys() | new.keys()
        if old.get(path) != new.get(path)
    ]


Listed = tuple[int, str]
"""A git mode, and a digest or where the link leads."""


async def _list(world: World) -> dict[str, Listed]:
    output = await _python(world, _LIST)
    entries: list[Any] = [json.loads(line) for line in output.splitlines()]
    return {
        path: (File.of(mode).mode, what)
        for path, mode, what in entries
        if not stat.S_ISSOCK(mode) and not any(map(refused, path.split("/")))
    }


async def _file(world: World, path: str, listed: Listed | None) -> File | None:
    if listed is None:
        return None
    mode, what = listed
    if stat.S_ISLNK(mode):
        return File(mode, os.fsencode(what))
    if not stat.S_ISREG(mode):
        return File(mode)
    try:
        return File(mode, await world.read_file(path))
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
