"""The layers below worlds: folders of the store that never change, stacked by an overlay, the topmost first.

A stack grows by a layer with each snapshot. `shallow` merges layers into one when it has become too deep, so that the
forks of forks, hundreds of times over, are as fast as the first.
"""

from __future__ import annotations

import functools
import itertools
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from trellis.environments import files, store
from trellis.environments.capture import references
from trellis.environments.capture.patch import Changed, Differences, File, refused
from trellis.environments.environment import EnvironmentFault
from trellis.environments.sandbox.syscalls import is_real_root

BASE_LAYER = "base/files"
"""The empty places below everything else."""
MAX_LAYERS = 32
MERGED_LAYERS = MAX_LAYERS // 2
ENTRY_BYTES = 4096
"""What copying a file costs, beside its content."""


def shared_folders(layers: Sequence[str]) -> list[str]:
    """The folders of layers, for references.py. The base layer is nobody's and stays, and what was built belongs to
    its cache."""
    return [layer.partition("/")[0] for layer in layers if layer.count("/") == 1 and layer != BASE_LAYER]


def shallow(label: str, layers: Sequence[str], most: int = MAX_LAYERS) -> list[str]:
    """The same files in at most `most` layers, which this process then holds once more.

    Of the runs of layers that can be merged, the smallest is: so what is large is seldom copied.

    Raises:
        EnvironmentFault: a layer is gone, or cannot be copied.
    """
    references.hold(shared_folders(layers))
    stack = list(layers)
    try:
        while len(stack) > most:
            costs = [_cost(layer) for layer in stack[:-1]]  # the last is the base layer
            starts = range(len(costs) - MERGED_LAYERS + 1)
            first = min(starts, key=lambda start: sum(costs[start : start + MERGED_LAYERS]))
            old, below = stack[first : first + MERGED_LAYERS], stack[first + MERGED_LAYERS :]
            folder = references.new_shared_folder(label)
            stack[first : first + MERGED_LAYERS] = [f"{folder.name}/files"]
            try:
                merge(_folders(old), _folders(below), folder / "files")
            finally:
                references.drop(shared_folders(old))
    except BaseException:
        references.drop(shared_folders(stack))
        raise
    return stack


def workdirs(layers: Sequence[str]) -> list[Path]:
    """The folders that are seen as one as the workdir."""
    return look_up(_folders(layers), "work")[0]


def _folders(layers: Sequence[str]) -> list[Path]:
    return [store.store_folder() / layer for layer in layers]


@functools.lru_cache(maxsize=4096)
def _cost(layer: str) -> int:
    entries, size = 0, 0
    for parent, folders, names in os.walk(store.store_folder() / layer):
        entries += len(folders) + len(names)
        size += sum((Path(parent) / name).lstat().st_blocks * 512 for name in names)
    return size + entries * ENTRY_BYTES


# --- how an overlay reads its layers ---------------------------------------------------------------------------------


def look_up(stack: Sequence[Path], name: str) -> tuple[list[Path], bool]:
    """What `name` is in a stack of folders: nothing, one file, or the folders that are seen as one, the topmost first;
    and whether it hides what is below the stack."""
    found: list[Path] = []
    for folder in stack:
        path = folder / name
        try:
            facts = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISDIR(facts.st_mode):
            return found or ([] if is_whiteout(facts) else [path]), True
        found.append(path)
        if is_opaque(path):
            return found, True
    return found, False


def is_whiteout(facts: os.stat_result) -> bool:
    """Does it mark a deletion?"""
    return stat.S_ISCHR(facts.st_mode) and facts.st_rdev == 0


def _opaque_attribute() -> str:
    return f"{'trusted' if is_real_root() else 'user'}.overlay.opaque"


def is_opaque(folder: Path) -> bool:
    """Does it hide what is below it?"""
    try:
        return os.getxattr(folder, _opaque_attribute()) == b"y"
    except OSError:
        return False


# --- merging ---------------------------------------------------------------------------------------------------------


def merge(stack: Sequence[Path], below: Sequence[Path], target: Path) -> None:
    """Make `target` the one layer that shows the same as `stack` does, over what lies `below`.

    Raises:
        EnvironmentFault: something cannot be copied.
    """
    try:
        _merge(stack, below, False, target, {})
    except (OSError, RecursionError) as error:
        raise EnvironmentFault(f"layers of a sandbox cannot be merged: {error}") from None


def _merge(
    stack: Sequence[Path], below: Sequence[Path], hides: bool, target: Path, links: dict[tuple[int, int], Path]
) -> None:
    target.mkdir()
    for name in sorted({name for folder in stack for name in files.names_in(folder)}):
        found, hides_name = look_up(stack, name)
        hidden = [] if hides else look_up(below, name)[0]
        if not found:
            if hidden:  # the deletion still deletes something
                os.mknod(target / name, stat.S_IFCHR, 0)
        elif stat.S_ISDIR(found[0].lstat().st_mode):
            _merge(found, [] if hides_name else hidden, hides_name and bool(hidden), target / name, links)
        else:
            files.copy_entry(found[0], target / name, links)
    files.copy_attributes(stack[0], target)
    if hides:
        os.setxattr(target, _opaque_attribute(), b"y")


# --- comparing -------------------------------------------------------------------------------------------------------


def different_files(before: Sequence[Path], after: Sequence[Path]) -> list[Changed]:
    """What differs between two stacks of folders; what they have in common is not looked at.

    Raises:
        EnvironmentFault: something cannot be read.
    """
    differences = Differences()
    try:
        _compare(before, after, "", differences)
    except (OSError, RecursionError) as error:
        raise EnvironmentFault(f"the files of a world cannot be read: {error}") from None
    return differences.found


def _compare(before: Sequence[Path], after: Sequence[Path], prefix: str, differences: Differences) -> None:
    pairs = zip(reversed(before), reversed(after), strict=False)
    common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    own = [*before[: len(before) - common], *after[: len(after) - common]]
    for name in sorted({name for folder in own for name in files.names_in(folder)}):
        old, new = look_up(before, name)[0], look_up(after, name)[0]
        if old == new or refused(name):
            continue
        path = prefix + name
        old_file, old_folders = _file_or_folders(old, differences)
        new_file, new_folders = _file_or_folders(new, differences)
        differences.add(os.fsencode(path), old_file, new_file)
        _compare(old_folders, new_folders, f"{path}/", differences)


def _file_or_folders(entries: list[Path], differences: Differences) -> tuple[File | None, list[Path]]:
    if not entries:
        return None, []
    facts = entries[0].lstat()
    mode = facts.st_mode
    if stat.S_ISDIR(mode):
        return None, entries
    if stat.S_ISSOCK(mode):
        return None, []
    if stat.S_ISLNK(mode):
        return File.of(mode, os.fsencode(os.readlink(entries[0]))), []  # noqa: PTH115  (a Path would tidy it up)
    if not stat.S_ISREG(mode):
        return File.of(mode), []
    if differences.have_room(facts.st_size):
        return File.of(mode, files.read(entries[0])), []
    return File.of(mode, digest=files.digest(entries[0])), []
