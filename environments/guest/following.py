"""Which files of the workdir changed since it was last looked at.

A table holds what the file system says of every entry; a look makes a new one and compares. Folders are not told of,
only what is in them; what tools keep for themselves (`LEFT_OUT`), and other file systems, are not looked at. Others may
change everything meanwhile, and mean harm: a name is opened from the folder that it was found in, no link is followed,
nothing but regular files is read, and all of it has bounds.

Part of the guest (see program.py): Python 3.8, standard library only.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from contextlib import ExitStack, suppress
from typing import Any, Tuple  # noqa: UP035  (Python 3.8)

LEFT_OUT = frozenset(
    (".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", ".tox", ".pytest_cache", ".mypy_cache",
     ".ruff_cache", ".ipynb_checkpoints")
)  # fmt: skip
"""Folders of these names: what is in them follows from other files, or is a tool's own bookkeeping."""
ENTRIES = 10_000
"""A workdir with more files and folders is not followed: a look would take longer than about 50 ms."""
NAMES_CHARS = 4 << 20
"""Nor one whose paths are longer together: deep in folders with long names, each takes kilobytes."""
LOOK_S = 5.0
"""No look takes longer, however slow the disk is."""
DEPTH = 100
"""Folders are not nested deeper: each takes a descriptor on the way down."""
LISTED = 1_000
"""How many changes of one look are told; of the others, only how many they are."""
HASHED_BYTES = 64 << 20
"""How much is read in one look, so that large files do not hold up the world; what is beyond it has no hash."""
TEXT_BYTES = 256 << 10
"""A longer file is told by its hash alone: what people and models edit is shorter."""
TEXTS_BYTES = 2 << 20
"""Likewise for all files of one look: a checkout of another branch need not be in a log."""
KEPT_FILES, KEPT_BYTES = 2_000, 8 << 20
"""How much of the text that was there at the first look is kept, so that the first change of a file can be shown."""
RECENT_NS = 20_000_000
"""A file that changed less than this before a look may change again without its times telling, for the clocks of file
systems tick slowly. It is read again at the next look."""

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY
PIECE_BYTES = 1 << 20


Facts = Tuple[int, int, int]  # noqa: UP006
"""When anything about an entry changed (nobody inside can set this), its size, its mode. A plain tuple: there are many,
and the garbage collector need not look at them."""


class TooMuch(Exception):
    """The workdir cannot be followed; the text says why."""


class Following:
    """The table of one workdir."""

    def __init__(self, workdir: str) -> None:
        self._workdir = workdir
        self._table: dict[str, Facts] | None = None
        self._recent: set[str] = set()
        self._digests: dict[str, str] = {}
        """Of files that were read."""
        self._kept: dict[str, bytes] = {}

    def look(self) -> tuple[list[dict[str, Any]], int, bytes]:
        """What changed since the last time, sorted by path; how many changes besides; and the texts of what is told,
        one after the other. The first time, nothing did.

        Raises:
            TooMuch: there is nothing more to be had of this table.
        """
        look = _Look(self._workdir, keep=self._table is None)
        before, now = look.found if self._table is None else self._table, look.found
        for folder in look.unseen:  # what is in there is not gone because nobody may look
            now.update((path, facts) for path, facts in before.items() if path.startswith(folder))
        self._kept.update(look.kept)
        suspects = self._recent | look.recent | (before.keys() - now.keys())
        suspects.update(path for path, facts in now.items() if before.get(path) != facts)
        told: list[dict[str, Any]] = []
        texts: list[bytes] = []
        more = 0
        for path in sorted(suspects):
            if len(told) < LISTED:
                change = self._change(path, before.get(path), now.get(path), look, texts)
                told.extend([change] if change else [])
            else:
                self._digests.pop(path, None)
                self._kept.pop(path, None)
                more += before.get(path) != now.get(path)
        self._table, self._recent = now, look.recent
        return told, more, b"".join(texts)

    def _change(
        self, path: str, before: Facts | None, now: Facts | None, look: _Look, texts: list[bytes]
    ) -> dict[str, Any] | None:
        """What there is to tell of a path, its texts apart; None where it is the same after all."""

        def hand_over(text: bytes | None) -> int | None:
            """Its length; None where there is none, or no room for it."""
            if text is None or not look.take_room(len(text)):
                return None
            texts.append(text)
            return len(text)

        known, kept = self._digests.pop(path, ""), self._kept.get(path)
        if kept is not None:
            known = hashlib.sha256(kept).hexdigest()
        digest, text = look.read(path, now[2]) if now else ("", None)
        if digest:
            self._digests[path] = digest
        same_content = digest == known if digest and known else before == now
        if same_content and before and now and before[2] == now[2]:
            return None
        facts = now or before
        if facts is None:  # it came and went
            return None
        if not same_content:
            self._kept.pop(path, None)
        return {
            "path": os.fsencode(path).decode("utf-8", "surrogateescape"),
            "kind": "added" if before is None else "deleted" if now is None else "modified",
            "mode": facts[2],
            "size": facts[1] if text is None else len(text),
            "sha256": digest,
            "text": hand_over(text),
            "before": None if same_content else hand_over(kept),
        }


class _Look:
    """One look at a workdir."""

    def __init__(self, workdir: str, *, keep: bool) -> None:
        self.found: dict[str, Facts] = {}
        self.recent: set[str] = set()
        self.unseen: list[str] = []
        """Folders that may not be looked into, each with a slash at its end."""
        self.kept: dict[str, bytes] = {}
        self._workdir = workdir
        self._keep_bytes = KEPT_BYTES if keep else 0
        self._room = TEXTS_BYTES
        self._to_hash = HASHED_BYTES
        self._entries = 0
        self._chars = 0
        self._deadline = time.monotonic() + LOOK_S
        self._recent_ns = time.time_ns() - RECENT_NS
        with suppress(OSError):  # removed, or a link by now: there is nothing in it
            root = os.open(workdir, FOLDER)
            try:
                self._device = os.fstat(root).st_dev
                self._walk(root, "", 0)
            finally:
                os.close(root)

    def take_room(self, size: int) -> bool:
        """Is there room for a text of this size?"""
        fits = size <= self._room
        self._room -= size if fits else 0
        return fits

    def read(self, path: str, mode: int) -> tuple[str, bytes | None]:
        """The hash of what is there, or of where a link leads, and what there is if it is a text of moderate size."""
        *folders, name = path.split("/")
        with suppress(OSError), ExitStack() as opened:
            folder = os.open(self._workdir, FOLDER)
            opened.callback(os.close, folder)
            for each in folders:
                folder = os.open(each, FOLDER, dir_fd=folder)
                opened.callback(os.close, folder)
            if stat.S_ISLNK(mode):
                return hashlib.sha256(os.fsencode(os.readlink(name, dir_fd=folder))).hexdigest(), None
            if stat.S_ISREG(mode):
                return self._read_file(folder, name)
        return "", None

    def _read_file(self, folder: int, name: str) -> tuple[str, bytes | None]:
        fd = os.open(name, FILE, dir_fd=folder)
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode) or facts.st_size > self._to_hash:
                return "", None
            digest, head = hashlib.sha256(), b""
            while True:
                piece = os.read(fd, PIECE_BYTES)
                self._to_hash -= len(piece)
                self._check_time()
                if not piece:
                    break
                if self._to_hash < 0:  # it grows while it is read
                    return "", None
                digest.update(piece)
                if len(head) <= TEXT_BYTES:
                    head += piece
        finally:
            os.close(fd)
        return digest.hexdigest(), head if _is_text(head) else None

    def _walk(self, folder: int, prefix: str, depth: int) -> None:
        below = []
        with os.scandir(folder) as entries:
            for entry in entries:
                self._entries += 1
                if self._entries > ENTRIES:
                    raise TooMuch(f"the workdir has more than {ENTRIES} files and folders")
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name not in LEFT_OUT:
                            below.append(entry.name)
                        continue
                    facts = entry.stat(follow_symlinks=False)
                except OSError:  # gone meanwhile
                    continue
                path = prefix + entry.name
                self._chars += len(path)
                if self._chars > NAMES_CHARS:
                    raise TooMuch(f"the paths in the workdir are longer than {NAMES_CHARS} characters together")
                changed_ns, size = facts.st_ctime_ns, facts.st_size
                self.found[path] = (changed_ns, size, facts.st_mode)
                if changed_ns >= self._recent_ns:
                    self.recent.add(path)
                if size <= self._keep_bytes and size <= TEXT_BYTES and len(self.kept) < KEPT_FILES:
                    self._keep(folder, entry.name, path, facts.st_mode)
        self._check_time()
        if below and depth == DEPTH:
            raise TooMuch(f"the workdir has folders more than {DEPTH} deep")
        for name in below:
            self._enter(folder, name, prefix + name + "/", depth + 1)

    def _enter(self, parent: int, name: str, prefix: str, depth: int) -> None:
        try:
            folder = os.open(name, FOLDER, dir_fd=parent)
        except PermissionError:
            self.unseen.append(prefix)
            return
        except OSError:  # gone, or something else by now
            return
        try:
            if os.fstat(folder).st_dev == self._device:
                self._walk(folder, prefix, depth)
        finally:
            os.close(folder)

    def _keep(self, folder: int, name: str, path: str, mode: int) -> None:
        """Remember a text, for when it changes."""
        if stat.S_ISREG(mode):
            with suppress(OSError):
                text = self._read_file(folder, name)[1]
                if text is not None:
                    self.kept[path] = text
                    self._keep_bytes -= len(text)

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise TooMuch(f"looking at the workdir took more than {LOOK_S:g} s")


def _is_text(data: bytes) -> bool:
    if len(data) > TEXT_BYTES or b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
