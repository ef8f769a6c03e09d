"""`local`: commands on this machine, in a folder of their own. There is no isolation: trusted code only.

What a command can read, write and reach is what you can. It does not get your environment variables; the workdir is a
new folder, and snapshots are copies of it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from trellis.environments import files, store
from trellis.environments.capture import references
from trellis.environments.capture.forking import ForkingEnvironment, finished
from trellis.environments.capture.patch import Changed
from trellis.environments.channel import snapshot_data
from trellis.environments.environment import (
    EnvironmentSpec,
    EnvironmentUnavailable,
    OnEvent,
    Snapshot,
    ignore,
)
from trellis.environments.sandbox.launch import Launched, command_env, launch
from trellis.environments.sandbox.layers import different_files
from trellis.environments.variables import INTERPRETER_ENV


class LocalEnvironment(ForkingEnvironment):
    def __init__(self, spec: EnvironmentSpec, label: str, folder: Path, launched: Launched, on_event: OnEvent) -> None:
        super().__init__(spec, launched.channel("the local environment"), str(folder / "work"), on_event)
        self._label = label
        self._folder = folder
        self._launched = launched

    async def _snapshot(self, shells: Mapping[str, str]) -> Snapshot:
        async with self.still() as frozen:
            folder = await asyncio.to_thread(self._copy)
        data = {"folder": str(folder / "work"), "shells": shells}
        return Snapshot("local", folder.name, data, left_out=tuple(frozen["running"]))

    async def adopt(self, label: str, on_event: OnEvent) -> None:
        await super().adopt(label, on_event)
        store.relabel(self._folder, label)

    def _copy(self) -> Path:
        folder = references.new_shared_folder(self._label)
        try:
            files.copy_tree(Path(self.workdir), folder / "work")
            references.keep([folder.name], folder.name)
        finally:
            references.drop([folder.name])
        return folder

    async def _different_files(self, snapshot: Snapshot) -> list[Changed]:
        before = _files(snapshot)
        with references.holding([before.parent.name]):
            async with self._capturing, self.still():
                return await finished(asyncio.to_thread(different_files, [before], [Path(self.workdir)]))

    async def _fork_from(self, snapshot: Snapshot) -> LocalEnvironment:
        return await start(self.spec, label=self._label, snapshot=snapshot, on_event=self.channel.on_event)

    async def _close(self) -> None:
        try:
            await self.hang_up()
            await self._launched.ended()
        finally:
            await asyncio.to_thread(store.remove, self._folder)


async def start(
    spec: EnvironmentSpec, *, label: str, snapshot: Snapshot | None = None, on_event: OnEvent = ignore
) -> LocalEnvironment:
    """See EnvironmentSpec.start."""
    if not sys.platform.startswith("linux"):
        raise EnvironmentUnavailable(f"a local environment needs Linux, not {sys.platform}: take docker")
    if spec.allow:
        raise EnvironmentUnavailable("a local world cannot keep to an allow-list: take sandbox or docker")
    folder = store.new_folder(label)
    try:
        await finished(asyncio.to_thread(_make_folders, spec, folder, snapshot))
        launched = await launch(folder / "guest.log", jail=None, cgroups=(), preload=spec.preload)
        world = LocalEnvironment(spec, label, folder, launched, on_event)
    except BaseException:
        await finished(asyncio.to_thread(store.remove, folder))
        raise
    if snapshot is not None:
        world.shell_state_of_snapshot = snapshot.data.get("shells", {})
    try:
        await world.greet(command_env(str(folder / "home"), str(folder / "tmp")), str(folder / "tmp"), INTERPRETER_ENV)
        if snapshot is None and spec.setup:
            await world.set_up()
    except BaseException:
        await world.close()
        raise
    return world


def _make_folders(spec: EnvironmentSpec, folder: Path, snapshot: Snapshot | None) -> None:
    for name in ("home", "tmp"):
        (folder / name).mkdir()
    if snapshot is not None:
        source = _files(snapshot)
        with references.holding([source.parent.name]):
            files.copy_tree(source, folder / "work")
    else:
        (folder / "work").mkdir()
        files.copy_in(spec.files, folder / "work")


def _files(snapshot: Snapshot) -> Path:
    return Path(snapshot_data(snapshot, "local")["folder"])


async def release(snapshot: Snapshot) -> None:
    """See Snapshot.release."""
    await asyncio.to_thread(references.release, [_files(snapshot).parent.name], snapshot.id)


async def exists(snapshot: Snapshot) -> bool:
    """See Snapshot.exists."""
    folder = _files(snapshot)
    return folder.is_dir() and references.kept([folder.parent.name], snapshot.id)


def held_by(snapshot: Snapshot) -> list[str]:
    """Its folder, as leftovers are called."""
    return [str(_files(snapshot).parent)]
