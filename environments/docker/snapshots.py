"""Snapshots of containers: images that the engine makes by committing, one layer for what changed.

A snapshot's image has a tag until the snapshot is released. An image without one is removed by whoever closes the last
container that runs on it; so the engine itself knows who still needs what, for every process that uses it.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import partial
from typing import Any

from trellis.environments.capture.forking import finished
from trellis.environments.docker.engine import COMMIT_TIMEOUT_S, OWNER, call, client, labels
from trellis.environments.docker.isolation import check_holes, host_folders
from trellis.environments.environment import EnvironmentFault

REPOSITORY = "trellis-snapshot"


@contextlib.asynccontextmanager
async def paused(containers: Iterable[str]) -> AsyncIterator[None]:
    """None of them writes anything meanwhile.

    Raises:
        EnvironmentFault: one is gone.
    """
    from docker.errors import APIError

    held: list[str] = []

    def pause(container: str) -> None:
        try:
            client().pause(container)
            held.append(container)
        except APIError as error:
            if error.status_code != 409:  # it has ended
                raise

    async def go_on() -> None:
        for container in held:
            with contextlib.suppress(EnvironmentFault):  # it was removed meanwhile
                await call("go on with a container", partial(client().unpause, container))

    try:
        for container in containers:
            await finished(call("pause a container", partial(pause, container)))
        yield
    finally:
        await finished(go_on())


async def commit(containers: Iterable[str], label: str, disk_mb: int) -> list[str]:
    """Make images of what containers that are paused, or have ended, hold: an id for each; none stays if one fails.

    Raises:
        EnvironmentFault: the engine could not do it, or its files, with the holes filled, would fill the host's disk.
    """

    def run(container: str) -> str:
        check_holes(host_folders(client().inspect_container(container)), disk_mb)
        tag, marks = secrets.token_hex(8), {"Labels": labels(label)}
        made = client(COMMIT_TIMEOUT_S).commit(container, REPOSITORY, tag, conf=marks)
        return str(made["Id"])

    images: list[str] = []
    try:
        for container in containers:
            images.append(await call("commit a container", partial(run, container), COMMIT_TIMEOUT_S))
    except BaseException:
        for image in images:
            await release(image)
        raise
    return images


async def release(image: str) -> None:
    """Remove the image of a snapshot as soon as no container runs on it.

    Raises:
        EnvironmentFault: the engine could not do it.
    """
    from docker.errors import APIError

    def run() -> None:
        for tag in _facts(image).get("RepoTags") or ():
            if tag.startswith(f"{REPOSITORY}:"):
                with contextlib.suppress(APIError):  # the tag is gone; the image may still be needed
                    client().remove_image(tag, force=True, noprune=True)
        _drop(image)

    await call("remove an image", run)


async def kept(image: str) -> bool:
    """Is the image of a snapshot here, and the snapshot not released?

    Raises:
        EnvironmentFault: the engine could not be asked.
    """
    facts = await call("inspect an image", lambda: _facts(image))
    return any(tag.startswith(f"{REPOSITORY}:") for tag in facts.get("RepoTags") or ())


async def drop(image: str) -> None:
    """A container that ran on the image of a snapshot is gone; remove the image, and those it was made on, unless they
    are still needed.

    Raises:
        EnvironmentFault: the engine could not do it.
    """
    await call("remove an image", lambda: _drop(image))


def _drop(image: str) -> None:
    from docker.errors import APIError

    while image:
        facts = _facts(image)
        if facts.get("RepoTags") or not (facts.get("Config", {}).get("Labels") or {}).get(OWNER):
            return  # a snapshot that has not been released, or none at all
        try:
            client().remove_image(image, noprune=True)
        except APIError as error:
            if error.status_code not in (404, 409):  # gone already, or a container or another image needs it
                raise
            if error.status_code == 409:
                return
        image = facts.get("Parent", "")


def _facts(image: str) -> Mapping[str, Any]:
    from docker.errors import ImageNotFound

    try:
        facts: Mapping[str, Any] = client().inspect_image(image)
    except ImageNotFound:
        return {}
    return facts
