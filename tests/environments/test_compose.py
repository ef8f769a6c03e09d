"""Worlds with services beside them: what a Compose file may say, and what it cannot loosen."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

from trellis.environments import kinds
from trellis.environments.docker import compose, engine
from trellis.environments.docker.compose import REFUSED, Project
from trellis.environments.environment import EnvironmentFault, EnvironmentSpec, EnvironmentUnavailable, Resources

pytest.importorskip("yaml", reason="needs PyYAML")

LABEL = f"test-{os.getpid()}"
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "orders"
docker_needed = pytest.mark.docker

GET = 'python3 -c "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=20).read().decode())" '
POST = "python3 -c \"import sys, urllib.request as u; u.urlopen(sys.argv[1], data=b'', timeout=20)\" "


def project(tmp_path: Path, services: str) -> EnvironmentSpec:
    """A world whose Compose file has an agent of the base image and these services."""
    text = "services:\n  agent: {image: trellis-base}\n" + indent(dedent(services), "  ")
    (tmp_path / "compose.yaml").write_text(text)
    return EnvironmentSpec(kind="docker", compose=str(tmp_path / "compose.yaml"), resources=Resources(cpus=1))


def read(tmp_path: Path, text: str, agent: str = "") -> Project:
    (tmp_path / "compose.yaml").write_text(dedent(text))
    return compose.read(str(tmp_path / "compose.yaml"), agent)


async def facts(label: str) -> list[Any]:
    """What the engine knows about the containers of a label."""
    left = [left.id for left in await engine.labelled(label, dead_only=False) if left.what == "container"]
    return [await engine.call("ask", lambda id=id: engine.client().inspect_container(id)) for id in left]  # type: ignore[misc]


# --- what a file may say ---


def test_all_that_is_known(tmp_path: Path) -> None:
    read_project = read(
        tmp_path,
        """
        version: "3"
        name: shop
        x-check: &check
          interval: 1m30s
          timeout: 500ms
          retries: 3
        services:
          web:
            build: {context: web, dockerfile: D, args: {A: 1}, target: last}
            command: serve --name "two words" $$HOME
            entrypoint: [sh, -c]
            environment: [ONE=1, EMPTY=]
            user: 1000
            working_dir: /srv
            init: true
            expose: ["80"]
            healthcheck: {<<: *check, test: curl localhost}
            depends_on: {db: {condition: service_healthy}, setup: {condition: service_completed_successfully}}
          setup: {image: "i:1", depends_on: [db]}
          db: {image: "i:2", environment: {ON: yes, N: 1.10, T: 22:22, E: ""}, healthcheck: {disable: true}}
          agent: {image: trellis-base, depends_on: [web], environment: {X: y}}
        """,
    )
    assert [service.name for service in read_project.beside] == ["db", "setup", "web"]
    db, _, web = read_project.beside
    assert web.build is not None
    assert (web.build.context, web.build.name) == (str(tmp_path / "web"), str(tmp_path / "web/D"))
    assert (web.build.arguments, web.build.target) == ({"A": "1"}, "last")
    assert web.command == ("serve", "--name", "two words", "$HOME")
    assert (web.environment, web.user, web.working_dir, web.init) == ({"ONE": "1", "EMPTY": ""}, "1000", "/srv", True)
    assert web.healthcheck == {
        "test": ["CMD-SHELL", "curl localhost"], "interval": 90 * 10**9, "timeout": 5 * 10**8, "retries": 3,
    }  # fmt: skip
    assert web.depends_on == {"db": "service_healthy", "setup": "service_completed_successfully"}
    assert db.environment == {"ON": "yes", "N": "1.10", "T": "22:22", "E": ""}
    assert db.healthcheck == {"test": ["NONE"]}
    assert read_project.agent.environment == {"X": "y"}
    assert read(tmp_path, "services: {only: {image: i}}").agent.name == "only"
    assert read(tmp_path, "services: {a: {image: i}, b: {image: i}}", "b").agent.name == "b"


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_what_would_loosen_the_isolation_is_refused_by_name(key: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        read(tmp_path, f"services: {{agent: {{image: i}}, db: {{image: i, {key}: x}}}}")
    assert str(caught.value) == f"{tmp_path}/compose.yaml: service db: {key}: {REFUSED[key]}"
    with pytest.raises(EnvironmentFault, match=f"compose.yaml: service agent: {key}: "):
        read(tmp_path, f"services: {{agent: {{image: i, {key}: x}}}}")


WRONG = {
    "services: {a: {image: i, imgae: i}}": "service a: imgae: not known; there are: image, build, command",
    "services: {a: {image: i}}\nvolumes: {v: {}}": "volumes: would give it something of the host's",
    "services: {a: {image: i}}\nnetworks: {n: {external: true}}": "networks: would change how it reaches others",
    "services: {a: {image: i}}\nsecrets: {s: {file: /etc/shadow}}": "secrets: would give it something of the host's",
    "services: {a: {image: i}}\nservers: {}": "servers: not known; there are: services, name, version",
    "services: {a: {image: i}, b: {image: i}}": "say which service is the world .*; there are: a, b",
    "services: {}": "expected 1 to 50 services",
    "[1, 2]": "expected a mapping",
    "services: {a: {image: i}": "not YAML: .*line 1",
    "services: {a: {image: i, image: j}}": "not YAML: image twice",
    "services: {a: {}}": "service a: expected an image or a build",
    "services: {a: {image: i, build: .}}": "service a: expected an image or a build",
    "services: {a: {image: '${IMAGE}'}}": "service a: image: variables of the host are not read",
    "services: {a: {image: i, environment: [TOKEN]}}": "service a: environment: TOKEN: variables of the host",
    "services: {a: {image: i, environment: {TOKEN: }}}": "service a: environment: TOKEN: variables of the host",
    "services: {a: {image: i, environment: {K: $TOKEN}}}": "service a: environment: K: variables of the host",
    "services: {a: {image: i, command: sleep 1}}": "service a: command: the world's own service runs Trellis' guest",
    "services: {a: {build: ..}}": "service a: build: what is built must lie in the folder of the Compose file",
    "services: {a: {build: /}}": "service a: build: what is built must lie in the folder of the Compose file",
    "services: {a: {build: {dockerfile: ../D}}}": "service a: build: what is built must lie in the folder",
    "services: {a: {build: {network: host}}}": "service a: build: network: not known",
    "services: {a: {build: {privileged: true}}}": "service a: build: privileged: would lift the isolation",
    "services: {a: {image: i, depends_on: [b]}}": "service a: depends_on b: no such service",
    "services: {agent: {image: i}, b: {image: i, depends_on: [agent]}}": "depends_on agent: the world's own service",
    "services: {agent: {image: i}, b: {image: i, depends_on: [c]}, c: {image: i, depends_on: [b]}}": "circle: b, c",
    "services: {agent: {image: i}, b: {image: i, depends_on: {c: {condition: ready}}}, c: {image: i}}":
        "service b: depends_on: c: no such condition: ready",
    "services: {agent: {image: i}, b: {image: i, healthcheck: {interval: soon}}}": "expected a duration such as 1m30s",
    "services: {agent: {image: i}, b: {image: i, healthcheck: {test: [curl]}}}": "a list that begins with CMD",
    "services: {agent: {image: i}, '-b': {image: i}}": "service -b: expected a name",
    "services: {a: {image: i, ? [x, y] : z}}": "not YAML: expected a text as key",
    "? {x: y}\n: z\n": "not YAML: expected a text as key",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=WRONG[text]) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/compose.yaml: ")
    assert "\n" not in str(caught.value)


def test_a_context_that_is_a_link_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "way-out").symlink_to("/etc")
    with pytest.raises(EnvironmentFault, match="must lie in the folder of the Compose file"):
        read(tmp_path, "services: {a: {build: way-out}}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"nowhere.yaml: cannot be read"):
        compose.read(str(tmp_path / "nowhere.yaml"))


def test_without_yaml_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(EnvironmentUnavailable, match=r"pip install 'trellis-agents\[compose\]'"):
        read(tmp_path, "services: {a: {image: i}}")


@docker_needed
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "full"}, 'private network, so network = "full" cannot be'),
        ({"image": "x"}, "one of them, not more"),
        ({"service": "other"}, "no such service; there are: agent"),
        ({"compose": "", "service": "x"}, "service x: there is no Compose file"),
        ({"kind": "sandbox"}, "a world from a Compose file needs docker, not sandbox"),
    ],
)
async def test_a_spec_that_does_not_fit(docker: None, change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=message):
        await replace(project(tmp_path, ""), **change).start(label=f"{LABEL}/unfit")


# --- services that run ---

COUNTER = """
db:
  image: trellis-base
  command: [python3, -m, http.server, "8000", --directory, /tmp]
  healthcheck: {test: "test -e /tmp/ready", interval: 200ms, retries: 100}
ready:
  image: trellis-base
  command: [python3, -c, "import urllib.request as u; u.urlopen('http://db:8000')"]
  depends_on: [db]
"""


@docker_needed
async def test_the_example(docker: None) -> None:
    """What docs/examples says is so: solved through the services, forked with them, and nothing left."""
    label = f"{LABEL}/example"
    spec = importlib.util.spec_from_file_location("orders_example", EXAMPLE / "orders.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    benchmark = module.Orders()
    (task,) = benchmark.tasks("sample")
    world = await replace(task.environment, kind="docker").start(label=label)
    solve = (
        "import json, urllib.request as u\n"
        "get = lambda what: json.load(u.urlopen('http://shop:8000/' + what, timeout=20))\n"
        "prices = get('prices')\n"
        "print(sum(o['count'] * prices[o['item']] for o in get('orders') if o['paid']))"
    )
    answer = (await world.exec(["python3", "-c", solve])).text
    score = await benchmark.score(task, await benchmark.collect(task, world, answer), None)
    assert score.success, answer
    assert (await world.exec(f"{POST} http://shop:8000/orders/2/pay")).ok
    snapshot = await world.snapshot()
    assert any(line.startswith("processes of service shop") for line in snapshot.left_out)
    fork = await world.fork(snapshot)
    paid = int(answer) + 8
    assert (await fork.exec(["python3", "-c", solve])).text == f"{paid}\n"
    assert (await fork.exec(f"{GET} http://shop:8000/orders")).text.count("true") == 4
    for each in (world, fork):
        assert len({c["Id"] for c in await facts(label)}) in (6, 3)
        await each.close()
    assert {left.what for left in await engine.labelled(label, dead_only=False)} == {"snapshot"}
    assert await kinds.reap(label) == 3
    assert await engine.labelled(label, dead_only=False) == []


@docker_needed
async def test_every_service_is_confined_like_the_world(docker: None, tmp_path: Path) -> None:
    label = f"{LABEL}/confined"
    spec = replace(project(tmp_path, "db: {image: trellis-base, command: sleep 600}"), setup="echo made > by-setup")
    world = await replace(spec, resources=Resources(cpus=0.5, memory_mb=200, pids=50)).start(label=label)
    assert (
        await world.exec("cat by-setup; getent hosts db >/dev/null && getent hosts agent | wc -l")
    ).text == "made\n1\n"
    containers = await facts(label)
    assert len(containers) == 2
    for container in containers:
        host = container["HostConfig"]
        assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False)
        assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"])
        assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (200 << 20, 5 * 10**8, 66)
        assert (host["Binds"] or [], host["PortBindings"] or {}, host["Dns"]) == ([], {}, ["127.0.0.1"])
        assert [mount for mount in container["Mounts"] if mount["Type"] != "tmpfs"] == []
    await world.close()
    assert await engine.labelled(label, dead_only=False) == []


@docker_needed
async def test_two_worlds_do_not_see_each_other(docker: None, tmp_path: Path) -> None:
    spec = project(tmp_path, "db: {image: trellis-base, command: sleep 600}")
    one, two = await asyncio.gather(*(spec.start(label=f"{LABEL}/two") for _ in range(2)))
    (address,) = set((await two.exec("getent hosts db")).text.split()[:1])
    code = "import socket, sys; s = socket.socket(); s.settimeout(2); print(s.connect_ex((sys.argv[1], 9)))"
    assert (await two.exec(["python3", "-c", code, address])).text == "111\n"  # refused: it is there
    assert (await one.exec(["python3", "-c", code, address])).text != "111\n"
    await one.close()
    await two.close()


@pytest.fixture
def listener() -> Iterator[int]:
    """A port on all addresses of this machine that accepts whoever comes."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield server.getsockname()[1]


REACH = "import socket, sys; s = socket.socket(); s.settimeout(2); print(s.connect_ex((sys.argv[1], int(sys.argv[2]))))"


@docker_needed
async def test_the_host_is_not_on_the_private_network(docker: None, listener: int, tmp_path: Path) -> None:
    world = await project(tmp_path, "db: {image: trellis-base, command: sleep 600}").start(label=f"{LABEL}/host")
    address = (await world.exec("getent hosts db")).text.split()[0]
    prefix, _, last = address.rpartition(".")
    gateway = f"{prefix}.{int(last) & ~63 | 1}"
    assert (await world.exec(["python3", "-c", REACH, gateway, str(listener)])).text != "0\n"
    await world.close()


@docker_needed
async def test_an_ordinary_internal_network_would_have_let_it_through(docker: None, listener: int) -> None:
    """The control of the test above: it can fail."""
    from trellis.environments.docker.base_image import base_image_name

    client = engine.client()
    network = client.create_network(f"trellis-control-{os.getpid()}", internal=True, labels=engine.labels(LABEL))["Id"]
    try:
        gateway = client.inspect_network(network)["IPAM"]["Config"][0]["Gateway"]
        command = ["docker", "run", "--rm", "--network", network, "--entrypoint", "python3", base_image_name()]
        done = subprocess.run(
            [*command, "-c", REACH, gateway, str(listener)], capture_output=True, text=True, check=True
        )
        assert done.stdout == "0\n"
    finally:
        client.remove_network(network)


@docker_needed
async def test_names_of_the_outside_go_nowhere(docker: None, tmp_path: Path) -> None:
    """The engine's resolver hands what it does not know to the world's own loopback: a stand-in resolver there hears
    it, one on the loopback of the host does not."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
        try:
            resolver.bind(("127.0.0.1", 53))
        except OSError as error:
            pytest.skip(f"needs the port 53 of 127.0.0.1: {error}")
        resolver.settimeout(0.2)
        done = threading.Event()

        def listen() -> None:
            while not done.is_set():
                try:
                    heard.append(resolver.recv(4096))
                except TimeoutError:
                    continue

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            spec = project(tmp_path, "db: {image: trellis-base, command: sleep 600}")
            world = await spec.start(label=f"{LABEL}/dns")
            stand_in = (
                "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 53)); "
                "s.settimeout(20); print('listening', flush=True); print(s.recv(4096))"
            )
            ask = "getent hosts a-secret.of-the-world.test; echo $?"
            await world.write_file("heard", b"")
            both = f'python3 -c "{stand_in}" > heard & until grep -q listening heard; do sleep 0.05; done; {ask}; wait'
            assert (await world.exec(both, timeout_s=60)).text == "2\n"
            assert "a-secret" in (await world.exec("cat heard")).text
            lookup = await world.exec("time getent hosts another-secret.of-the-world.test", timeout_s=30)
            assert lookup.exit_code == 2
            assert lookup.duration_s < 5
            await world.close()
        finally:
            done.set()
            thread.join()
    assert heard == []


@docker_needed
async def test_what_others_wait_for(docker: None, tmp_path: Path) -> None:
    services = """
        db:
          image: trellis-base
          command: bash -c "sleep 1; echo ready > /tmp/ready; exec sleep 600"
          healthcheck: {test: "test -e /tmp/ready", interval: 200ms, retries: 100}
        migrate:
          image: trellis-base
          command: bash -c "getent hosts db"
          depends_on: {db: {condition: service_healthy}}
        web:
          image: trellis-base
          working_dir: /tmp
          command: python3 -m http.server 8000
          depends_on: {migrate: {condition: service_completed_successfully}}
          healthcheck:
            test: [CMD, python3, -c, "import socket; socket.create_connection(('web', 8000))"]
            interval: 200ms
    """
    spec = project(tmp_path, services)
    text = (
        Path(spec.compose)
        .read_text()
        .replace(
            "agent: {image: trellis-base}",
            "agent: {image: trellis-base, depends_on: {web: {condition: service_healthy}}}",
        )
    )
    Path(spec.compose).write_text(text)
    world = await spec.start(label=f"{LABEL}/wait")
    assert "Directory listing" in (await world.exec(f"{GET} http://web:8000")).text
    await world.close()


FAILING = {
    "db: {image: trellis-base, command: bash -c 'echo this is why >&2; exit 7'}\n"
    "web: {image: trellis-base, command: sleep 600, depends_on: {db: {condition: service_completed_successfully}}}":
        "service db ended with 7; the end of its log: this is why",
    "db: {image: trellis-base, command: sleep 600, "
    "healthcheck: {test: 'echo not well; false', interval: 100ms, retries: 2}}\n"
    "web: {image: trellis-base, command: sleep 600, depends_on: {db: {condition: service_healthy}}}":
        "service db is unhealthy: not well",
    "db: {image: trellis-base, command: sleep 600}\n"
    "web: {image: trellis-base, command: sleep 600, depends_on: {db: {condition: service_healthy}}}":
        "service db has no healthcheck, but others wait",
    "db: {image: 'no-such-image:ever'}": "the Docker image no-such-image:ever is not here",
    "db: {image: trellis-base, command: no-such-program}": "could not start service db: .*no-such-program",
}  # fmt: skip


@docker_needed
@pytest.mark.parametrize("services", FAILING)
async def test_a_service_that_fails_is_a_fault_and_leaves_nothing(docker: None, services: str, tmp_path: Path) -> None:
    label = f"{LABEL}/failing-{list(FAILING).index(services)}"
    with pytest.raises(EnvironmentFault, match=FAILING[services]):
        await project(tmp_path, services).start(label=label)
    assert await engine.labelled(label, dead_only=False) == []


@docker_needed
async def test_a_service_that_never_becomes_ready(
    docker: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trellis.environments.docker.services.READY_TIMEOUT_S", 1.0)
    services = """
        db: {image: trellis-base, command: sleep 600, healthcheck: {test: sleep 60, interval: 100ms, timeout: 1m}}
        web: {image: trellis-base, command: sleep 600, depends_on: {db: {condition: service_healthy}}}
    """
    with pytest.raises(EnvironmentFault, match=r"service db was not ready within 1 s \(service_healthy\)"):
        await project(tmp_path, services).start(label=f"{LABEL}/never")


@docker_needed
@pytest.mark.parametrize(
    ("files", "where"), [("can be read from here", "/tmp"), ("can be read from here", "/data"), ("cannot", "/tmp")]
)
async def test_a_service_that_fills_the_disk_is_killed(
    docker: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: str, where: str
) -> None:
    if files == "cannot":
        monkeypatch.setattr("trellis.environments.docker.services.host_folders", lambda _: [])
        monkeypatch.setattr("trellis.environments.docker.services.DISK_CHECK_S", 0.5)
    (tmp_path / "Dockerfile").write_text("ARG TRELLIS_BASE\nFROM $TRELLIS_BASE\nUSER root\nVOLUME /data\n")
    fill = f"for i in 1 2 3 4; do head -c 40000000 /dev/zero > {where}/$$i; done"
    command = f"bash -c 'until getent hosts agent; do sleep 0.1; done; {fill}; sleep 600'"
    label = f"{LABEL}/fills"
    idle = "idle: {image: trellis-base, command: sleep 600}"
    spec = project(tmp_path, f'db: {{build: ., command: "{command}"}}\n{idle}')
    told: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
    world = await replace(spec, resources=Resources(disk_mb=100)).start(
        label=label, on_event=lambda kind, facts: told.put_nowait(facts) if kind == "limit.disk" else None
    )
    async with asyncio.timeout(60):
        facts_of_limit = await told.get()
        while (states := {c["Config"]["Hostname"]: c["State"]["Running"] for c in await facts(label)})["db"]:
            await asyncio.sleep(0.1)
    assert states == {"agent": True, "db": False, "idle": True}
    assert (facts_of_limit["service"], facts_of_limit["disk_mb"]) == ("db", 100)
    assert facts_of_limit["used_mb"] >= 100
    await world.close()


HOST = """
import asyncio, json, sys
from trellis.environments.environment import EnvironmentSpec

async def main():
    world = await EnvironmentSpec(kind="docker", compose=sys.argv[1]).start(label=sys.argv[2])
    await world.snapshot()
    print("ready", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@docker_needed
@pytest.mark.kill
async def test_a_killed_host_leaves_nothing_after_reaping(docker: None, tmp_path: Path) -> None:
    label = f"{LABEL}/killed"
    spec = project(tmp_path, "db: {image: trellis-base, command: sleep 600}")
    host = subprocess.Popen([sys.executable, "-c", HOST, spec.compose, label], stdout=subprocess.PIPE)
    assert host.stdout is not None
    assert await asyncio.to_thread(host.stdout.readline) == b"ready\n"
    assert await kinds.reap(label) == 0  # its owner lives
    host.send_signal(signal.SIGKILL)
    host.communicate()
    left = {found.what for found in await engine.labelled(label, dead_only=True)}
    assert {"container", "network", "snapshot"} >= left >= {"network", "snapshot"}
    assert await kinds.reap(label, dead_only=True) >= 4
    assert await engine.labelled(label, dead_only=False) == []


def test_the_example_says_what_its_oracle_hands_in() -> None:
    assert json.loads((EXAMPLE / "shop" / "orders.json").read_text())[1]["paid"] is False


@docker_needed
async def test_a_list_of_places_beside_services(docker: None, tmp_path: Path) -> None:
    """The world may reach what is listed, its services all the same; and they reach nothing but each other."""
    spec = project(tmp_path, "db: {image: trellis-base, command: sleep 600}")
    world = await replace(spec, allow=("allowed.test:80",)).start(label=f"{LABEL}/allow")
    assert (await world.exec("getent hosts db | wc -l")).text == "1\n"
    assert (await world.exec("getent hosts not-allowed.test")).exit_code == 2
    (db,) = [c for c in await facts(f"{LABEL}/allow") if c["Config"]["Hostname"] == "db"]
    assert db["HostConfig"]["Dns"] == ["127.0.0.1"]
    await world.close()
