"""The host's end of following a workdir: what changed in it is asked of the guest, and believed within bounds."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from typing import Any, Protocol

from trellis.environments.environment import ChangedFile, ChangedFiles, EnvironmentFault, OnEvent
from trellis.environments.guest.following import LISTED, NAMES_CHARS, TEXT_BYTES

LOOK_TIMEOUT_S = 30.0


class Answer(Protocol):
    @property
    def header(self) -> Mapping[str, Any]: ...
    @property
    def payload(self) -> bytes: ...


class Asks(Protocol):
    """What of a channel is needed here."""

    @property
    def written(self) -> int: ...
    @property
    def on_event(self) -> OnEvent: ...

    async def request(self, op: str, *, timeout_s: float) -> Answer: ...


class Changes:
    """What changed in the workdir of one world. Nothing is asked where nothing was sent to the world since."""

    def __init__(self, channel: Asks) -> None:
        self._channel = channel
        self._written = -1
        self._followed = True

    async def take(self) -> ChangedFiles | None:
        """See TellsChanges."""
        if not self._followed:
            return None
        if self._written == self._channel.written:
            return ChangedFiles()
        begins = self._written < 0
        self._written = self._channel.written + 1  # with this question; what is sent from now on counts
        answer = await self._channel.request("changed_files", timeout_s=LOOK_TIMEOUT_S)
        try:
            if why := answer.header.get("too_much"):
                self._followed = False
                self._channel.on_event("changes.not_followed", {"why": str(why)[:200]})
                return None
            changed = _read(answer.header, answer.payload)
        except (KeyError, TypeError, ValueError) as error:
            raise EnvironmentFault(f"the guest told nonsense of the files that changed ({error})") from None
        return ChangedFiles() if begins else changed


def _read(header: Mapping[str, Any], payload: bytes) -> ChangedFiles:
    listed, more = header["files"], header["more"]
    if not isinstance(listed, list) or len(listed) > LISTED or not isinstance(more, int) or more < 0:
        raise ValueError("not a list of changes")
    files, end = [], 0
    for each in listed:
        texts = []
        for what in ("text", "before"):
            size = each[what]
            if size is not None and not (isinstance(size, int) and 0 <= size <= TEXT_BYTES):
                raise ValueError("a text of no size")
            begin, end = end, end + (size or 0)
            texts.append(None if size is None else payload[begin:end])
        files.append(_file(each, *texts))
    if end != len(payload):
        raise ValueError("texts of another length")
    return ChangedFiles(tuple(files), more)


def _file(told: Mapping[str, Any], text: bytes | None, before: bytes | None) -> ChangedFile:
    path, kind, mode, size, digest = (told[name] for name in ("path", "kind", "mode", "size", "sha256"))
    inside = isinstance(path, str) and 0 < len(path) <= NAMES_CHARS and not {"", ".", ".."} & set(path.split("/"))
    if not inside or "\0" in path:
        raise ValueError("a path that is none")
    if kind not in ("added", "modified", "deleted") or not isinstance(digest, str):
        raise ValueError("a change that is none")
    if not (isinstance(mode, int) and 0 <= mode < 1 << 20 and not stat.S_ISDIR(mode)):
        raise ValueError("a mode that is none")
    if not (isinstance(size, int) and 0 <= size < 1 << 63):
        raise ValueError("a file that is none")
    if digest and not (len(digest) == 64 and set(digest) <= set("0123456789abcdef")):
        raise ValueError("a hash that is none")
    return ChangedFile(path, kind, mode, size, digest, text, before)
