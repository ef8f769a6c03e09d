"""`sandbox`: a world of Linux namespaces on this machine, without a daemon.

All that a world changes lies in one folder, the upper layer of an overlay over shared layers that never change. In a
snapshot that folder becomes one more shared layer, and the world gets an empty one in its place; a fork is an empty
folder over the same layers. So neither costs anything. Where a process of the world holds files open, its folder cannot
be taken from it, and the layer is a copy.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trellis.environments import files, store
from trellis.environments.built import setup_phase
from trellis.environments.capture import references
from trellis.environments.capture.forking import ForkingEnvironment, finished
from trellis.environments.capture.patch import Changed
from trellis.environments.channel import snapshot_data
from trellis.environments.environment import (
    EnvironmentFault,
    EnvironmentSpec,
    EnvironmentUnavailable,
    OnEvent,
    Snapshot,
    ignore,
)
from trellis.environments.network.egress import PORTAL
from trellis.environments.sandbox import cgroups
from trellis.environments.sandbox.built_layers import prepared
from trellis.environments.sandbox.jail import ROOTS_AGENT_UID, Jail
from trellis.environments.sandbox.launch import Launched, command_env, launch
from trellis.environments.sandbox.layers import (
    BASE_LAYER,
    MAX_LAYERS,
    different_files,
    shallow,
    shared_folders,
    workdirs,
)
from trellis.environments.sandbox.syscalls import is_real_root
from trellis.environments.sandbox.view import view
from trellis.environments.variables import INTERPRETER_ENV
from trellis.environments.watch import watch_disk

WRITABLE = ("work", "home", "tmp")


class Sandbox(ForkingEnvironment):
    def __init__(
        self, spec: EnvironmentSpec, label: str, folder: Path, jail: Jail, launched: Launched, groups: Sequence[str],
        on_event: OnEvent,
    ) -> None:  # fmt: skip
        super().__init__(spec, launched.channel("the sandbox"), jail.workdir, on_event)
        self._label = label
        self._folder = folder
        self._jail = jail
        self._launched = launched
        self._written = [folder / "upper"]
        """What this world wrote since it started; a snapshot begins a new folder."""
        self._disk_watch = watch_disk(self, self._written, lambda: cgroups.processes(groups))
        self._heir: Path | None = None
        """The shared folder that gets at the end what this world wrote."""

    async def _snapshot(self, shells: Mapping[str, str]) -> Snapshot:
        name = secrets.token_hex(4)
        async with self.still(aside=True) as frozen:
            layers = await self._capture(frozen["own"], name)
        data = {"layers": layers, "workdir": self.workdir, "shells": shells}
        return Snapshot("sandbox", name, data, left_out=tuple(frozen["running"]))

    async def adopt(self, label: str, on_event: OnEvent) -> None:
        await super().adopt(label, on_event)
        for folder in (self._folder, *(store.store_folder() / name for name in shared_folders(self._jail.layers))):
            store.relabel(folder, label)

    async def _capture(self, own: Sequence[int], snapshot: str) -> list[str]:
        """Keep the layers that hold all files now for a snapshot."""
        if not any((self._folder / "upper").iterdir()):
            references.keep(shared_folders(self._jail.layers), snapshot)
            return list(self._jail.layers)
        layer = references.new_shared_folder(self._label)
        try:
            if await self._swap(layer, own):
                layers = list(self._jail.layers)
            else:
                await asyncio.to_thread(files.copy_tree, self._folder / "upper", layer / "files")
                layers = [f"{layer.name}/files", *self._jail.layers]
            references.keep(shared_folders(layers), snapshot)
            return layers
        finally:
            await asyncio.to_thread(references.drop, [layer.name])

    async def _swap(self, layer: Path, own: Sequence[int]) -> bool:
        """Make the upper folder the files of `layer` and go on with an empty one, if the world lets go of it."""
        below = await asyncio.to_thread(shallow, self._label, self._jail.layers, MAX_LAYERS - 1)
        unused: Sequence[str] = below
        try:
            moved = {self._folder / "upper": layer / "files", self._folder / "overlay": layer / "overlay"}
            for here, there in moved.items():
                here.rename(there)  # what is mounted stays mounted
                here.mkdir()
            jail = replace(self._jail, layers=(f"{layer.name}/files", *below))
            if await self._launched.swap(jail, own):
                for here, there in moved.items():
                    store.remove_tree(here)
                    there.rename(here)
                return False
            references.hold([layer.name])
            unused, self._jail = self._jail.layers, jail
            self._written.append(layer / "files")
            await asyncio.to_thread(store.remove_tree, layer / "overlay")
            return True
        finally:
            await asyncio.to_thread(references.drop, shared_folders(unused))

    async def _different_files(self, snapshot: Snapshot) -> list[Changed]:
        before = snapshot_data(snapshot, "sandbox")["layers"]
        with references.holding(shared_folders(before)):
            async with self._capturing, self.still():
                after = [f"{self._folder.name}/upper", *self._jail.layers]
                return await finished(asyncio.to_thread(different_files, workdirs(before), workdirs(after)))

    async def _fork_from(self, snapshot: Snapshot) -> Sandbox:
        return await start(self.spec, label=self._label, snapshot=snapshot, on_event=self.channel.on_event)

    async def seal(self) -> str:
        """End this world and make what it changed a layer, which this process then holds, without copying it."""
        self._heir = references.new_shared_folder(self._label)
        try:
            await self.close()
        except BaseException:
            await asyncio.to_thread(references.drop, [self._heir.name])
            raise
        return f"{self._heir.name}/files"

    async def _close(self) -> None:
        self._disk_watch.close()
        try:
            await self.hang_up()
            await self._launched.ended()
            if self._heir is not None:
                (self._folder / "upper").rename(self._heir / "files")
        finally:
            await asyncio.to_thread(self._remove)

    def _remove(self) -> None:
        store.remove(self._folder)
        references.drop(shared_folders(self._jail.layers))


async def start(
    spec: EnvironmentSpec, *, label: str, snapshot: Snapshot | None = None, on_event: OnEvent = ignore
) -> Sandbox:
    """See EnvironmentSpec.start."""
    if not sys.platform.startswith("linux"):
        raise EnvironmentUnavailable(
            f"the sandbox needs Linux, not {sys.platform}: take docker, or local for trusted code"
        )
    if snapshot is not None:
        data = snapshot_data(snapshot, "sandbox")
        return await _start(spec, label, data["layers"], on_event, data.get("shells", {}))
    base = await asyncio.to_thread(_base_layer)

    async def of_setup(spec: EnvironmentSpec, label: str, layers: Sequence[str]) -> str:
        world = await _start(setup_phase(spec), label, layers, on_event)
        try:
            await world.set_up()
            return await finished(world.seal(), undo=lambda layer: _drop([layer]))
        except BaseException:
            await world.close()
            raise

    layers = await prepared(spec, label, base, of_files=_layer_of_files, of_setup=of_setup)
    return await _start(spec, label, layers, on_event)


async def release(snapshot: Snapshot) -> None:
    """See Snapshot.release."""
    folders = shared_folders(snapshot_data(snapshot, "sandbox")["layers"])
    await asyncio.to_thread(references.release, folders, snapshot.id)


async def exists(snapshot: Snapshot) -> bool:
    """See Snapshot.exists."""
    layers = snapshot_data(snapshot, "sandbox")["layers"]

    def look() -> bool:
        folder = store.store_folder()
        return references.kept(shared_folders(layers), snapshot.id) and all((folder / x).is_dir() for x in layers)

    return await asyncio.to_thread(look)


def held_by(snapshot: Snapshot) -> list[str]:
    """The folders of its layers, as leftovers are called."""
    folder = store.store_folder()
    return [str(folder / name) for name in shared_folders(snapshot_data(snapshot, "sandbox")["layers"])]


async def _start(
    spec: EnvironmentSpec, label: str, layers: Sequence[str], on_event: OnEvent, shells: Mapping[str, str] = {}
) -> Sandbox:
    """A world over `layers`, which it holds from now until it is closed."""
    layers = await finished(asyncio.to_thread(shallow, label, layers), undo=_drop)
    try:
        world = await _launch(spec, label, layers, on_event)
    except BaseException:
        await finished(_drop(layers))
        raise
    world.shell_state_of_snapshot = shells
    try:
        await world.greet(command_env("/home/agent", "/tmp"), "/tmp", INTERPRETER_ENV)
    except BaseException:
        await world.close()
        raise
    return world


async def _launch(spec: EnvironmentSpec, label: str, layers: Sequence[str], on_event: OnEvent) -> Sandbox:
    for layer in layers:
        if not (store.store_folder() / layer).is_dir():
            raise EnvironmentFault(f"a layer of this snapshot is gone; it was evicted or reaped: {layer}")
    name = secrets.token_hex(4)
    groups, memory_by_cgroup = cgroups.create(name, spec.resources)
    folder = store.new_folder(label, name=name, cgroups=groups)
    try:
        for part in ("root", "upper", "overlay"):
            (folder / part).mkdir()
        jail = _jail(spec, folder, layers, memory_by_cgroup)
        launched = await launch(folder / "guest.log", jail=jail, cgroups=groups, preload=spec.preload)
        return Sandbox(spec, label, folder, jail, launched, groups, on_event)
    except BaseException:
        await finished(asyncio.to_thread(store.remove, folder))
        raise


async def _drop(layers: Sequence[str]) -> None:
    await asyncio.to_thread(references.drop, shared_folders(layers))


def _jail(spec: EnvironmentSpec, folder: Path, layers: Sequence[str], memory_by_cgroup: bool) -> Jail:
    seen = view(spec.hidden)
    return Jail(
        store=str(folder.parent),
        root=str(folder / "root"),
        upper=f"{folder.name}/upper",
        work=f"{folder.name}/overlay",
        layers=tuple(layers),
        workdir=seen.workdir,
        visible=seen.visible,
        masked=seen.masked,
        masked_packages=seen.masked_packages,
        network=spec.network == "full",
        nameserver=str(PORTAL) if spec.allow else "",
        pids=spec.resources.pids,
        memory_bytes=spec.resources.memory_mb << 20,
        memory_by_cgroup=memory_by_cgroup,
        disk_bytes=spec.resources.disk_mb << 20,
        inodes=spec.resources.inodes,
    )


def _agent_uid() -> int:
    return ROOTS_AGENT_UID if is_real_root() else os.geteuid()


def _make_writable_places(folder: Path) -> None:
    for name in WRITABLE:
        (folder / name).mkdir(mode=0o755, exist_ok=True)
    (folder / "tmp").chmod(0o1777)
    files.give_to(folder, _agent_uid())


def _base_layer() -> str:
    """The empty places below everything else; made once, and nobody's in particular."""
    final = store.store_folder() / "base"
    if not final.exists():
        draft = final.with_name(f"base-{secrets.token_hex(4)}")
        (draft / "files").mkdir(parents=True)
        _make_writable_places(draft / "files")
        try:
            draft.rename(final)
        except OSError:  # another process was faster
            shutil.rmtree(draft)
    return BASE_LAYER


async def _layer_of_files(spec: EnvironmentSpec, label: str, layers: Sequence[str]) -> str:
    """A layer with the files of the spec in it, which this process then holds."""
    folder = references.new_shared_folder(label)

    def fill() -> None:
        (folder / "files" / "work").mkdir(parents=True)
        files.copy_in(spec.files, folder / "files" / "work")
        files.give_to(folder / "files", _agent_uid())

    try:
        await finished(asyncio.to_thread(fill))
    except BaseException:
        references.drop([folder.name])
        raise
    return f"{folder.name}/files"
