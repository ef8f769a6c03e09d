"""The hostile suite over the isolated kinds of environment, that its checks can fail, and that its page is true."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from trellis.environments.environment import Environment, EnvironmentSpec
from trellis.environments.hostile import Hostile
from trellis.environments.hostile.arena import LABEL, attacks
from trellis.environments.hostile.files import host_folder
from trellis.environments.hostile.secrets import Host, host_with_secrets

PAGE = Path(__file__).parents[2] / "docs/isolation.md"


@pytest.mark.usefixtures("sandbox")
class TestSandbox(Hostile):
    spec = EnvironmentSpec(kind="sandbox")


@pytest.mark.docker
@pytest.mark.usefixtures("docker")
class TestDocker(Hostile):
    spec = EnvironmentSpec(kind="docker")


def test_the_page_lists_every_attack() -> None:
    found = attacks(Hostile)
    assert len(found) >= 40
    assert all(what for _, what in found), "an attack without a docstring"
    page = PAGE.read_text()
    rows = [f"| `{name.removeprefix('test_')}` | {' '.join(what.split())} |" for name, what in found]
    missing = [row for row in rows if row not in page]
    assert missing == []
    listed = [line for line in page.splitlines() if line.startswith("| `") and line.endswith(". |")]
    assert [line for line in listed if line not in rows] == []


# --- the same attacks succeed where nothing contains them ------------------------------------------------------------


@pytest.fixture
async def undefended() -> AsyncIterator[Environment]:
    world = await EnvironmentSpec(kind="local").start(label=f"{LABEL}/undefended")
    yield world
    await world.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    with host_folder() as folder:
        yield folder


@pytest.fixture
def host() -> Iterator[Host]:
    with host_with_secrets() as host:
        yield host


SUCCEED: dict[str, Callable[[Environment, Path, Host], Awaitable[None]]] = {
    "reading out": lambda world, folder, _: Hostile().test_reading_out(world, folder, "link"),
    "writing out": lambda world, folder, _: Hostile().test_writing_out(world, folder, "folder/new"),
    "files of the host": lambda world, _, host: Hostile().test_files_of_the_host(world, host),
    "variables of processes": lambda world, _, host: Hostile().test_variables_of_processes(world, host),
    "shared memory": lambda world, *_: Hostile().test_shared_memory(world),
    "loopback": lambda world, *_: Hostile().test_loopback_of_the_host(world, "token"),
    "datagrams": lambda world, *_: Hostile().test_datagrams_to_the_host(world),
    "abstract sockets": lambda world, *_: Hostile().test_abstract_sockets(world, f"token-{os.getpid()}"),
    "sockets in files": lambda world, *_: Hostile().test_sockets_in_files(world, "token"),
    "personality": lambda world, *_: Hostile().test_personality(world),
    "keyrings": lambda world, *_: Hostile().test_keyrings(world),
    "core dumps": lambda world, *_: Hostile().test_core_dumps(world),
}


@pytest.mark.hostile
@pytest.mark.parametrize("name", SUCCEED)
async def test_the_checks_have_teeth(name: str, undefended: Environment, folder: Path, host: Host) -> None:
    """What holds in a sandbox does not hold in `local`: the check finds the attack."""
    failed = (AssertionError, pytest.fail.Exception)
    with contextlib.chdir(folder), pytest.raises(failed):
        await SUCCEED[name](undefended, folder, host)


# --- a metadata service in a network of the test's own ---------------------------------------------------------------

METADATA = """
import asyncio, http.server, subprocess, threading, urllib.request
from trellis.environments.environment import EnvironmentSpec

for command in ("ip link set lo up", "ip address add 169.254.169.254/32 dev lo"):
    subprocess.run(command.split(), check=True)

class Keys(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the keys of this machine")
    def log_message(self, *_):
        pass

service = http.server.ThreadingHTTPServer(("169.254.169.254", 80), Keys)
threading.Thread(target=service.serve_forever, daemon=True).start()
ASK = "import urllib.request as r; print(r.urlopen('http://169.254.169.254/latest/', timeout=5).read().decode())"

async def main():
    print("host:", urllib.request.urlopen("http://169.254.169.254/latest/", timeout=5).read().decode())
    for network in ("full", "none"):
        world = await EnvironmentSpec(kind="sandbox", network=network).start(label="LABEL/metadata")
        result = await world.exec(["python3", "-c", ASK])
        print(network + ":", result.stdout.decode().strip() or result.stderr.decode().strip().splitlines()[-1])
        await world.close()

asyncio.run(main())
service.shutdown()
service.server_close()
"""


@pytest.mark.hostile
@pytest.mark.usefixtures("sandbox")
@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a network namespace without a user namespace")
@pytest.mark.skipif(not (shutil.which("unshare") and shutil.which("ip")), reason="needs unshare and ip")
def test_a_metadata_service_gives_its_keys_to_the_host_only() -> None:
    """With network "full" a world gets what the host gets, which shows that the service is there to be reached."""
    program = METADATA.replace("LABEL", LABEL)
    said = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert said.stderr == ""
    host, full, none = said.stdout.splitlines()
    assert host == "host: the keys of this machine"
    assert full == "full: the keys of this machine"
    assert none.startswith("none: ")
    assert "Network is unreachable" in none
