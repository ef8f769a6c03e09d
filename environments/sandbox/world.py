"""`sandbox`: a world of Linux namespaces on this machine, without a daemon.

All that a world changes lies in one folder, the upper layer of an overlay over shared layers that never change. A
snapshot is a copy of that folder, made into one more layer; a fork is an empty folder over the same layers.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from trellis.environments import files, store
from trellis.environments.built import setup_phase
from trellis.environments.channel import Channel, ChannelEnvironment, snapshot_data
from trellis.environments.egress import PORTAL
from trellis.environments.environment import (
    EnvironmentFault,
    EnvironmentSpec,
    EnvironmentUnavailable,
    OnEvent,
    Snapshot,
    ignore,
)
from trellis.environments.sandbox import cgroups
from trellis.environments.sandbox.built_layers import prepared
from trellis.environments.sandbox.jail import ROOTS_AGENT_UID, Jail, is_real_root
from trellis.environments.sandbox.launch import Launched, command_env, launch
from trellis.environments.sandbox.view import view
from trellis.environments.variables import INTERPRETER_ENV
from trellis.environments.watch import watch_disk

WRITABLE = ("work", "home", "tmp")
BASE_LAYER = "base/files"
MAX_LAYERS = 200
"""Forks of forks of forks: more names than this do not fit into the one page of mount options."""


class Sandbox(ChannelEnvironment):
    def __init__(
        self, spec: EnvironmentSpec, label: str, folder: Path, jail: Jail, launched: Launched, groups: Sequence[str],
        on_event: OnEvent,
    ) -> None:  # fmt: skip
        log = folder / "guest.log"
        channel = Channel(
            "the sandbox",
            launched.reader,
            launched.writer,
            lambda: log.read_text("utf-8", "replace")[-2000:] if log.exists() else "",
        )
        super().__init__(spec, channel, jail.workdir, on_event)
        self._label = label
        self._folder = folder
        self._jail = jail
        self._launched = launched
        self._disk_watch = watch_disk(self, [folder / "upper"], lambda: cgroups.processes(groups))
        self._closing: asyncio.Task[None] | None = None

    async def snapshot(self) -> Snapshot:
        upper = self._folder / "upper"
        await self.channel.request("freeze")
        try:
            layers = list(self._jail.layers)
            if any(upper.iterdir()):
                layers.insert(0, await asyncio.to_thread(_new_layer, self._label, upper))
        finally:
            await self.channel.request("thaw")
        return Snapshot("sandbox", layers[0].partition("/")[0], {"layers": layers, "workdir": self.workdir})

    async def fork(self, snapshot: Snapshot | None = None) -> Sandbox:
        snapshot = snapshot or await self.snapshot()
        return await start(self.spec, label=self._label, snapshot=snapshot, on_event=self.channel.on_event)

    async def adopt(self, label: str, on_event: OnEvent) -> None:
        await super().adopt(label, on_event)
        store.relabel(self._folder, label)

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="close a sandbox")
        await asyncio.shield(self._closing)

    async def seal(self) -> str:
        """End this world and make what it changed a layer, without copying it."""
        await self._end_processes()
        layer = store.new_folder(self._label)
        (self._folder / "upper").rename(layer / "files")
        await asyncio.to_thread(store.remove, self._folder)
        return f"{layer.name}/files"

    async def _close(self) -> None:
        try:
            await self._end_processes()
        finally:
            await asyncio.to_thread(store.remove, self._folder)

    async def _end_processes(self) -> None:
        self._disk_watch.close()
        await self.hang_up()
        await self._launched.ended()


async def start(
    spec: EnvironmentSpec, *, label: str, snapshot: Snapshot | None = None, on_event: OnEvent = ignore
) -> Sandbox:
    """See EnvironmentSpec.start."""
    if not sys.platform.startswith("linux"):
        raise EnvironmentUnavailable(
            f"the sandbox needs Linux, not {sys.platform}: take docker, or local for trusted code"
        )
    if snapshot is not None:
        return await _start(spec, label, snapshot_data(snapshot, "sandbox")["layers"], on_event)
    base = await asyncio.to_thread(_base_layer)

    async def of_setup(spec: EnvironmentSpec, label: str, layers: Sequence[str]) -> str:
        world = await _start(setup_phase(spec), label, layers, on_event)
        try:
            await world.set_up()
            return await world.seal()
        except BaseException:
            await world.close()
            raise

    layers = await prepared(spec, label, base, of_files=_layer_of_files, of_setup=of_setup)
    return await _start(spec, label, layers, on_event)


async def _start(spec: EnvironmentSpec, label: str, layers: Sequence[str], on_event: OnEvent) -> Sandbox:
    if len(layers) > MAX_LAYERS:
        raise EnvironmentFault(f"a sandbox can be forked {MAX_LAYERS} deep, not deeper")
    for layer in layers:
        if not (store.store_folder() / layer).is_dir():
            raise EnvironmentFault(f"a layer of this snapshot is gone; its label was reaped: {layer}")
    name = secrets.token_hex(4)
    groups, memory_by_cgroup = cgroups.create(name, spec.resources)
    folder = store.new_folder(label, name=name, cgroups=groups)
    try:
        for part in ("root", "upper", "overlay"):
            (folder / part).mkdir()
        jail = _jail(spec, folder, layers, memory_by_cgroup)
        launched = await launch(folder / "guest.log", jail=jail, cgroups=groups, preload=spec.preload)
        world = Sandbox(spec, label, folder, jail, launched, groups, on_event)
    except BaseException:
        await asyncio.to_thread(store.remove, folder)
        raise
    try:
        await world.greet(command_env("/home/agent", "/tmp"), "/tmp", INTERPRETER_ENV)
    except BaseException:
        await world.close()
        raise
    return world


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
    folder = store.new_folder(label)

    def fill() -> None:
        (folder / "files" / "work").mkdir(parents=True)
        files.copy_in(spec.files, folder / "files" / "work")
        files.give_to(folder / "files", _agent_uid())

    try:
        await asyncio.to_thread(fill)
    except BaseException:
        store.remove(folder)
        raise
    return f"{folder.name}/files"


def _new_layer(label: str, upper: Path) -> str:
    folder = store.new_folder(label)
    files.copy_tree(upper, folder / "files")
    return f"{folder.name}/files"
