"""One container of a world: how it is made, what is copied into it, and how it is entered."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from trellis.environments.built import BUILD_TIMEOUT_S
from trellis.environments.docker.engine import call, client, labels, scratch_folder
from trellis.environments.docker.isolation import engine_info, host_config
from trellis.environments.environment import EnvironmentFault, EnvironmentSpec, Files
from trellis.environments.guest.program import LOADER
from trellis.environments.network.egress import PORTAL
from trellis.environments.variables import INTERPRETER_ENV, SYSTEM_PATH

WORKDIR = "/work"
HOST = "trellis"
NO_NAMESERVER = "127.0.0.1"
"""Inside a container of a private network, where nobody listens: the engine's resolver there answers the names of its
network and would hand every other to the host's."""


def workdir_of(facts: Mapping[str, Any]) -> str:
    return facts["Config"].get("WorkingDir") or WORKDIR


def create(spec: EnvironmentSpec, label: str, facts: Mapping[str, Any], network: str = "", alias: str = "") -> str:
    """A container with the guest as its main process, not yet started; its id. Blocks.

    The guest comes over its input. As an argument it would be in what the engine keeps of the container and of each
    image made of it, three times over, which the engine reads again whenever it lists them.

    `network` is a private network that it joins as `alias`; otherwise it has what the spec says.
    """
    host = {
        **host_config(spec, engine_info()),
        **(private(network) if network else {}),
        **(
            {"extra_hosts": {HOST: "127.0.0.1"}} if not network and spec.network == "none" else {}
        ),  # none does it itself
        **(_through_the_portal() if spec.allow else {}),
    }
    container = client().create_container(
        facts["Id"],
        command=["-I", "-S", "-c", LOADER],
        entrypoint=["python3"],
        hostname=alias or HOST,
        working_dir=workdir_of(facts),
        stdin_open=True,  # attached and open once: when this process dies, the guest sees the end of its input
        environment={},
        healthcheck={"test": ["NONE"]},
        labels=labels(label),
        host_config=client().create_host_config(**host),
        networking_config=aliased(network, alias) if network else None,
    )
    return str(container["Id"])


def _through_the_portal() -> dict[str, Any]:
    """What is not known inside is asked of the guest, which may take the ports of name servers for that."""
    return {"dns": [str(PORTAL)], "sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"}}


def private(network: str) -> dict[str, Any]:
    """What a container of a private network has beside its isolation."""
    return {
        "network_mode": network,
        "dns": [NO_NAMESERVER],
        "dns_search": ["."],
        "dns_opt": ["timeout:1", "attempts:1", "ndots:1"],  # to be told at once that there is no such host
    }


def aliased(network: str, alias: str) -> Any:
    return client().create_networking_config({network: client().create_endpoint_config(aliases=[alias])})


def start(container: str, name: str) -> None:
    """Blocks. Raises EnvironmentFault: the image, called `name`, has no python3."""
    from docker.errors import APIError

    try:
        client().start(container)
    except APIError as error:
        if "executable file not found" in str(error):
            raise EnvironmentFault(f"the image {name} has no python3, which a world needs") from None
        raise


def command_env(facts: Mapping[str, Any]) -> dict[str, str]:
    """The image's own variables, over what is the same in every world."""
    declared = dict(entry.partition("=")[::2] for entry in facts["Config"].get("Env") or ())
    user = (facts["Config"].get("User") or "root").partition(":")[0]
    home = "/root" if user in ("root", "0") else f"/home/{user}"
    return {
        "PATH": SYSTEM_PATH, "HOME": home, "USER": user, "TMPDIR": "/tmp", "SHELL": "/bin/bash", **INTERPRETER_ENV,
        **declared,
    }  # fmt: skip


async def copy_in(files: tuple[Files, ...], container: str, facts: Mapping[str, Any]) -> None:
    """Copy the files of a spec into the workdir of a container that has not started.

    Raises:
        EnvironmentFault: one cannot be read, or would land outside.
    """

    def copy() -> None:
        uid, gid = _owner(container, facts["Config"].get("User") or "0")
        with tempfile.TemporaryFile(dir=scratch_folder()) as archive:
            _archive(files, archive, uid, gid)
            archive.seek(0)
            client(BUILD_TIMEOUT_S).put_archive(container, workdir_of(facts), archive)

    await call("copy files", copy, BUILD_TIMEOUT_S)


def _archive(files: tuple[Files, ...], archive: IO[bytes], uid: int, gid: int) -> None:
    def owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid, entry.gid = uid, gid
        entry.uname = entry.gname = ""
        entry.mode |= 0o700 if entry.isdir() else 0o600
        return entry

    with tarfile.open(fileobj=archive, mode="w") as tar:
        for entry in files:
            target = os.path.normpath(entry.target)
            if target.startswith(("/", "..")):
                raise EnvironmentFault(f"the target of a file must be inside the workdir: {entry.target}")
            for parent in reversed(Path(target).parents[:-1]):
                folder = tarfile.TarInfo(str(parent))
                folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(owned(folder))
            source = Path(entry.source)
            tar.add(source if source.is_dir() else source.resolve(strict=True), target, filter=owned)


def _owner(container: str, user: str) -> tuple[int, int]:
    """The numbers of an image's user, by its own list of users where it has a name."""
    name, _, group = user.partition(":")
    if name.isdigit():
        return int(name), int(group) if group.isdigit() else int(name)
    for line in _passwd(container):
        entry = line.split(":")
        if entry[0] == name and len(entry) > 3:
            return int(entry[2]), int(group) if group.isdigit() else int(entry[3])
    return (0, 0) if name == "root" else (1000, 1000)


def _passwd(container: str) -> list[str]:
    from docker.errors import NotFound

    try:
        pieces, _ = client().get_archive(container, "/etc/passwd")
    except NotFound:
        return []
    with tempfile.TemporaryFile() as whole:
        whole.writelines(pieces)
        whole.seek(0)
        with tarfile.open(fileobj=whole) as tar:
            member = tar.extractfile(tar.getmembers()[0])
            return member.read().decode("utf-8", "replace").splitlines() if member else []
