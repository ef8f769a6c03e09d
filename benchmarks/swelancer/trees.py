"""Source trees and patches, with git on the host, kept away from every configuration but its own.

Content comes from us (the sample) or from an agent (its working tree). Git only ever reads and writes it as bytes: no
hooks, no filters, no attributes, no links are followed.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

IGNORED = frozenset({"__pycache__", ".pytest_cache", ".git", ".mypy_cache", ".ruff_cache", ".venv", "node_modules"})
"""Names of folders and files that belong to no tree."""
_OUTSIDE = IGNORED | {".."}
TIMEOUT_S = 60.0


class PatchError(ValueError):
    """A patch does not fit the tree."""


@dataclass(frozen=True, slots=True)
class File:
    data: bytes
    executable: bool = False


Tree: TypeAlias = Mapping[str, File]
"""Files by path, with `/`."""


def read_tree(folder: Path) -> Tree:
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not path.is_symlink() and IGNORED.isdisjoint(name.parts):
            found[name.as_posix()] = File(path.read_bytes(), os.access(path, os.X_OK))
    return found


def read_tar(data: bytes) -> Tree:
    """The regular files of a tar archive, paths made safe: nothing absolute, nothing upwards.

    Raises:
        PatchError: it is no tar archive.
    """
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                content = archive.extractfile(member) if member.isreg() else None
                if content and name.parts and not name.is_absolute() and _OUTSIDE.isdisjoint(name.parts):
                    found[str(name)] = File(content.read(), bool(member.mode & 0o100))
    except tarfile.TarError as error:
        raise PatchError(f"not a tar archive: {error}") from None
    return found


def write_tree(tree: Tree, folder: Path) -> None:
    """Raises PatchError for paths that no file system can hold side by side."""
    for name, file in tree.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.data)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise PatchError(f"{name!r}: {error.strerror}") from None
        path.chmod(0o755 if file.executable else 0o644)


def digest(*trees: Tree) -> str:
    """Equal for equal content, and only then."""
    hasher = hashlib.sha256()
    for tree in trees:
        for name, file in sorted(tree.items()):
            path = os.fsencode(name)
            hasher.update(b"%d %s %d %d\n" % (len(path), path, file.executable, len(file.data)) + file.data)
        hasher.update(b"end\n")
    return hasher.hexdigest()


def apply_patch(tree: Tree, patch: bytes) -> Tree:
    """Raises PatchError when it does not fit."""
    with _repository() as repository:
        write_tree(tree, repository.worktree)
        repository.run("apply", "--binary", "--whitespace=nowarn", stdin=patch)
        return read_tree(repository.worktree)


def diff(before: Tree, after: Tree) -> bytes:
    """The patch from one tree to the other; empty when they are equal. Raises PatchError."""
    if digest(before) == digest(after):
        return b""
    with _repository() as repository:
        base = repository.record(before)
        repository.record(after)
        return repository.run("diff-index", "--cached", "--patch", "--binary", "--full-index", "--no-renames", base)


def touched(patch: bytes) -> Sequence[str]:
    """The paths that a patch changes, adds or deletes. Raises PatchError."""
    if not patch.strip():
        return ()
    with _repository() as repository:
        listed = repository.run("apply", "--numstat", "-z", stdin=patch)
    entries = (entry.split(b"\t", 2) for entry in listed.split(b"\0") if entry)
    return tuple(entry[-1].decode("utf-8", "surrogateescape") for entry in entries)


class _repository:
    """A repository in a temporary folder, with nothing of the user's in it."""

    def __enter__(self) -> _repository:
        self._folder = Path(tempfile.mkdtemp(prefix="trellis-tree-"))
        self.worktree = self._folder / "tree"
        self.worktree.mkdir()
        self.run("init", "--quiet", "--template=", ".")
        (self.worktree / ".git" / "info").mkdir(exist_ok=True)
        (self.worktree / ".git" / "info" / "attributes").write_text(
            "* -text -ident -filter -working-tree-encoding diff\n"
        )
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def record(self, tree: Tree) -> str:
        """Make `tree` the content of the index; its id."""
        for entry in self.worktree.iterdir():
            if entry.name != ".git":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        write_tree(tree, self.worktree)
        self.run("add", "--all", "--force", ".")
        return self.run("write-tree").decode("ascii").strip()

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._folder),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CEILING_DIRECTORIES": str(self._folder),
        }
        command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false", *arguments]
        try:
            ended = subprocess.run(
                command, cwd=self.worktree, env=environment, input=stdin, capture_output=True, timeout=TIMEOUT_S
            )
        except FileNotFoundError:
            raise ValueError("swelancer needs git on this machine: install it and try again") from None
        if ended.returncode:
            raise PatchError(ended.stderr.decode("utf-8", "replace").strip()[-2000:])
        return ended.stdout
