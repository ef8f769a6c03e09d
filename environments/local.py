"""`local`: commands on this machine, in a folder of their own. There is no isolation: trusted code only.

What a command can read, write and reach is what you can. It does not get your environment variables; the workdir is a
new folder, and snapshots are copies of it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from trellis.environments import files, store
from trellis.environments.channel import Channel, ChannelEnvironment, snapshot_data
from trellis.environments.environment import (
    EnvironmentFault,
    EnvironmentSpec,
    EnvironmentUnavailable,
    OnEvent,
    Snapshot,
    ignore,
)
from trellis.environments.sandbox.launch import Launched, command_env, launch
from trellis.environments.variables import INTERPRETER_ENV


class LocalEnvironment(ChannelEnvironment):
    def __init__(self, spec: EnvironmentSpec, label: str, folder: Path, launched: Launched) -> None:
        log = folder / "guest.log"
        channel = Channel(
            "the local environment",
            launched.reader,
            launched.writer,
            lambda: log.read_text("utf-8", "replace")[-2000:] if log.exists() else "",
        )
        super().__init__(spec, channel, str(folder / "work"))
        self._label = label
        self._folder = folder
        self._launched = launched
        self._closing: asyncio.Task[None] | None = None

    async def snapshot(self) -> Snapshot:
        await self.channel.request("freeze")
        try:
            folder = store.new_folder(self._label)
            await asyncio.to_thread(files.copy_tree, Path(self.workdir), folder / "work")
        finally:
            await self.channel.request("thaw")
        return Snapshot("local", folder.name, {"folder": str(folder / "work")})

    async def fork(self, snapshot: Snapshot | None = None) -> LocalEnvironment:
        snapshot = snapshot or await self.snapshot()
        return await start(self.spec, label=self._label, snapshot=snapshot, on_event=self.channel.on_event)

    async def adopt(self, label: str, on_event: OnEvent) -> None:
        await super().adopt(label, on_event)
        store.relabel(self._folder, label)

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="close a local environment")
        await asyncio.shield(self._closing)

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
        await asyncio.to_thread(_make_folders, spec, folder, snapshot)
        launched = await launch(folder / "guest.log", jail=None, cgroups=(), preload=spec.preload)
        world = LocalEnvironment(spec, label, folder, launched)
    except BaseException:
        await asyncio.to_thread(store.remove, folder)
        raise
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
        source = Path(snapshot_data(snapshot, "local")["folder"])
        if not source.is_dir():
            raise EnvironmentFault(f"the files of this snapshot are gone; its label was reaped: {source}")
        files.copy_tree(source, folder / "work")
    else:
        (folder / "work").mkdir()
        files.copy_in(spec.files, folder / "work")
