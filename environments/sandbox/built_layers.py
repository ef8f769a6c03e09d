"""Layers with the files and the set-up of a recipe in them, each made once and shared by all sandboxes over it."""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from trellis.environments import built, store, usage
from trellis.environments.capture import references
from trellis.environments.capture.forking import finished
from trellis.environments.content import digest, files_digest
from trellis.environments.environment import EnvironmentSpec

VERSION = 1
"""Goes up when the same recipe is to give another layer."""

Make = Callable[[EnvironmentSpec, str, Sequence[str]], Awaitable[str]]
"""Makes a layer for a spec under a label, over the layers below; where it lies in the store."""


class LayerCache:
    """The folders in `built` of the store; see built.Cache."""

    what = "built layer"

    async def has(self, key: str) -> bool:
        return (built.folder() / key).is_dir()

    async def find(self) -> list[built.Built]:
        return await asyncio.to_thread(_find)

    async def remove(self, key: str) -> bool:
        await asyncio.to_thread(store.remove, built.folder() / key)
        return not (built.folder() / key).exists()


async def prepared(spec: EnvironmentSpec, label: str, below: str, *, of_files: Make, of_setup: Make) -> list[str]:
    """The layers of a recipe over the layer `below`, the uppermost first; made if need be.

    Raises:
        EnvironmentFault: a file cannot be read, or set-up failed.
    """
    layers = [below]

    async def add(digest: str, make: Make) -> None:
        key = digest[:16]  # layers have short names: a mount names many of them in one page

        async def move_in() -> None:
            layer = store.store_folder() / await make(spec, label, tuple(layers))
            await finished(asyncio.to_thread(_move, layer, built.folder() / key))

        await built.ensure(LayerCache(), key, label, move_in)
        layers.insert(0, f"{built.folder().name}/{key}/files")

    content = await asyncio.to_thread(files_digest, spec.files) if spec.files else ""
    if spec.files:
        await add(digest("files", VERSION, content), of_files)
    if spec.setup:
        phase = built.setup_phase(spec)
        host = [sys.version, sys.executable, platform.platform(), list(spec.hidden)]
        setup = [spec.setup, dict(spec.env), phase.network, list(phase.allow)]
        await add(digest("setup", VERSION, content, setup, host), of_setup)
    return layers


def _move(layer: Path, final: Path) -> None:
    """A folder with an owner becomes one that no reaping finds, in one step."""
    draft = layer.parent
    half = draft / "built"
    half.mkdir()
    layer.rename(half / "files")
    half.rename(final)
    references.drop([draft.name])


def _find() -> list[built.Built]:
    if not built.folder().is_dir():
        return []
    return [
        built.Built(path.name, path.name, usage.count([path]).bytes, built.last_used(path.name, path.stat().st_mtime))
        for path in built.folder().iterdir()
        if path.is_dir()
    ]
