"""Files and set-up are baked once into an image (docker) or layers (sandbox); images from Dockerfiles; the cache."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from trellis.environments import built, kinds
from trellis.environments.built import Built, Cache
from trellis.environments.content import files_digest
from trellis.environments.docker import engine, images
from trellis.environments.docker.base_image import base_image_name
from trellis.environments.docker.dockerfile import Build, read
from trellis.environments.docker.dockerfile import remains as remains_of_builds
from trellis.environments.docker.images import REPOSITORY, ImageCache, tag_of
from trellis.environments.environment import (
    EnvironmentFault,
    EnvironmentSpec,
    EnvironmentUnavailable,
    Files,
    Kind,
    Snapshot,
)
from trellis.environments.sandbox.built_layers import LayerCache

LABEL = f"test-{os.getpid()}"
UNIQUE = "cat /proc/sys/kernel/random/uuid > unique"
"""Set-up that leaves another file each time it runs."""
docker_needed = pytest.mark.docker


@pytest.fixture(params=["sandbox", pytest.param("docker", marks=docker_needed)])
def isolated(request: pytest.FixtureRequest) -> Kind:
    request.getfixturevalue(request.param)
    kind: Kind = request.param
    return kind


async def said(spec: EnvironmentSpec, command: str, label: str = f"{LABEL}/said") -> str:
    world = await spec.start(label=label)
    try:
        return (await world.exec(command)).text
    finally:
        await world.close()


def folder(tmp_path: Path) -> tuple[Files, ...]:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.txt").write_text("one")
    (tmp_path / "data" / "run.sh").write_text("echo ran")
    (tmp_path / "data" / "link").symlink_to("one.txt")
    return (Files(str(tmp_path / "data"), "data"),)


# --- made once ---


async def test_setup_runs_once_for_the_same_content(isolated: Kind, tmp_path: Path) -> None:
    files = folder(tmp_path)
    spec = EnvironmentSpec(kind=isolated, files=files, setup=UNIQUE, env={"ROUND": str(tmp_path)})
    first = await said(spec, "cat unique data/one.txt")
    assert await said(spec, "cat unique data/one.txt") == first
    (tmp_path / "data" / "one.txt").write_text("two")
    second = await said(spec, "cat unique data/one.txt")
    assert second.endswith("two")
    assert second[:36] != first[:36]
    (tmp_path / "data" / "run.sh").chmod(0o755)
    third = await said(spec, "cat unique && data/run.sh")
    assert third.endswith("ran\n")
    assert third[:36] not in (first[:36], second[:36])
    assert (await said(replace(spec, setup=f"{UNIQUE} # other"), "cat unique"))[:36] != third[:36]
    assert (await said(replace(spec, env={"ROUND": "other"}), "cat unique"))[:36] != third[:36]
    assert (await said(replace(spec, setup_network="full"), "cat unique"))[:36] != third[:36]
    assert (await said(replace(spec, hidden=spec.hidden, preload=("json",)), "cat unique"))[:36] == third[:36]


def test_the_hash_is_of_contents_modes_and_links(tmp_path: Path) -> None:
    files = folder(tmp_path)
    data, seen = tmp_path / "data", [files_digest(files)]
    os.utime(data / "one.txt", (1, 1))
    assert files_digest(files) == seen[0]
    (tmp_path / "data").rename(tmp_path / "moved")
    assert files_digest((Files(str(tmp_path / "moved"), "data"),)) == seen[0]
    (tmp_path / "moved").rename(data)
    for change in (
        lambda: (data / "one.txt").write_text("uno"),
        lambda: (data / "one.txt").chmod(0o600),
        lambda: (data / "empty").mkdir(),
        lambda: (data / "link").unlink(),
        lambda: (data / "link").symlink_to("run.sh"),
        lambda: (data / "one.txt").rename(data / "1.txt"),
    ):
        change()
        seen.append(files_digest(files))
    assert len(set(seen)) == len(seen)
    assert files_digest((Files(str(data), "elsewhere"),)) not in seen


def test_a_large_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "big").write_bytes(os.urandom(64 << 20))
    files = (Files(str(tmp_path / "big"), "big"),)
    while time.time_ns() - (tmp_path / "big").stat().st_ctime_ns < 2_100_000_000:
        time.sleep(0.1)

    def duration() -> float:
        began = time.perf_counter()
        files_digest(files)
        return time.perf_counter() - began

    assert duration() > 10 * duration()


async def test_many_starts_at_once_build_once(isolated: Kind) -> None:
    spec = EnvironmentSpec(kind=isolated, setup=f"sleep 0.5; {UNIQUE}", env={"ROUND": f"many-{time.time_ns()}"})
    answers = await asyncio.gather(*(said(spec, "cat unique", f"{LABEL}/many/{n}") for n in range(6)))
    assert len(set(answers)) == 1


OTHER = """
import asyncio, json, sys
from trellis.environments.environment import EnvironmentSpec

async def main():
    world = await EnvironmentSpec(**json.loads(sys.argv[1])).start(label=sys.argv[2])
    print((await world.exec("cat unique")).text.strip(), flush=True)
    await world.close()

asyncio.run(main())
"""


async def test_several_processes_build_once(isolated: Kind) -> None:
    import json

    recipe = {"kind": isolated, "setup": f"sleep 0.5; {UNIQUE}", "env": {"ROUND": f"processes-{time.time_ns()}"}}
    command = [sys.executable, "-c", OTHER, json.dumps(recipe), f"{LABEL}/processes"]
    others = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {(await asyncio.to_thread(other.communicate))[0].strip() for other in others}
    assert len(answers) == 1
    assert len(answers.pop()) == 36


async def test_setup_that_fails_leaves_nothing_and_is_tried_again(isolated: Kind, tmp_path: Path) -> None:
    label = f"{LABEL}/fails/{isolated}"
    (tmp_path / "allowed").write_text("no")
    files = (Files(str(tmp_path / "allowed"), "allowed"),)
    spec = EnvironmentSpec(kind=isolated, files=files, setup="echo trying; grep yes allowed", env={"R": str(tmp_path)})
    for _ in range(2):
        with pytest.raises(EnvironmentFault, match="the set-up script ended with 1: trying"):
            await spec.start(label=label)
    assert await kinds.reap(label) == 0
    (tmp_path / "allowed").write_text("yes")
    assert await said(spec, "cat allowed") == "yes"


async def test_setup_has_the_network_of_its_phase(isolated: Kind) -> None:
    look = "cut -d: -f1 -s /proc/net/dev | tail -n +1 | tr -d ' ' | sort > seen"
    online = EnvironmentSpec(kind=isolated, setup=look, setup_network="full", env={"R": str(os.getpid())})
    assert await said(online, "test $(wc -l < seen) -gt 1 && cut -d: -f1 -s /proc/net/dev | tr -d ' '") == "lo\n"
    sealed = replace(online, setup_network=None)
    assert await said(sealed, "cat seen") == "lo\n"
    assert await said(replace(online, network="full", setup_network="none"), "cat seen") == "lo\n"


async def test_what_was_built_outlives_its_label_and_a_fork_of_it_is_small(isolated: Kind, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(50 << 20))
    label = f"{LABEL}/small/{isolated}"
    files = (Files(str(tmp_path / "big"), "big"),)
    spec = EnvironmentSpec(kind=isolated, files=files, setup=UNIQUE, env={"R": str(tmp_path)})
    world = await spec.start(label=label)
    unique = (await world.exec("cat unique; echo mine > mine")).text
    snapshot = await world.snapshot()
    fork = await world.fork(snapshot)
    assert (await fork.exec("cat unique mine; stat -c %s big")).text == f"{unique}mine\n{50 << 20}\n"
    assert await _bytes_of(snapshot, label) < 5 << 20
    await fork.close()
    await world.close()
    await kinds.reap(label)
    assert await said(spec, "cat unique", label) == unique


async def _bytes_of(snapshot: Snapshot, label: str) -> int:
    """What a snapshot adds."""
    if snapshot.kind == "docker":
        history = await engine.call("ask", lambda: engine.client().history(snapshot.data["image"]))
        return int(history[0]["Size"])
    from trellis.environments import store, usage

    return usage.count(list(store.labelled(label, dead_only=False))).bytes


@docker_needed
async def test_no_container_of_a_build_stays(docker: None, tmp_path: Path) -> None:
    spec = EnvironmentSpec(kind="docker", setup=UNIQUE, env={"R": str(tmp_path)})
    label = f"{LABEL}/temporary"
    world = await spec.start(label=label)
    assert [left.what for left in await engine.labelled(label, dead_only=False)] == ["container"]
    await world.close()
    assert await engine.labelled(label, dead_only=False) == []


# --- Dockerfiles ---


def dockerfile(folder: Path, text: str) -> EnvironmentSpec:
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(dedent(text))
    return EnvironmentSpec(kind="docker", dockerfile=str(folder))


FROM_BASE = "ARG TRELLIS_BASE\nFROM $TRELLIS_BASE\n"


@docker_needed
async def test_a_dockerfile_is_built_once_for_its_content(docker: None, tmp_path: Path) -> None:
    spec = dockerfile(tmp_path / "c", f"{FROM_BASE}COPY a.txt /a.txt\nRUN cat /proc/sys/kernel/random/uuid > /tmp/u\n")
    (tmp_path / "c/a.txt").write_text(f"first {tmp_path}")
    (tmp_path / "c/ignored").write_text("x")
    (tmp_path / "c/.dockerignore").write_text("# not these\nignored\n")
    first = await said(spec, "cat /tmp/u /a.txt; id -un; pwd")
    assert first.endswith(f"first {tmp_path}agent\n/work\n")
    (tmp_path / "c/ignored").write_text("y")
    assert await said(spec, "cat /tmp/u /a.txt; id -un; pwd") == first
    (tmp_path / "c/a.txt").write_text(f"second {tmp_path}")
    assert (await said(spec, "cat /a.txt")) == f"second {tmp_path}"


@docker_needed
async def test_files_and_setup_go_on_top_of_a_dockerfile(docker: None, tmp_path: Path) -> None:
    text = f"{FROM_BASE}USER root\nRUN useradd --uid 4321 --create-home other && mkdir /srv/o && chown other /srv/o\n"
    spec = dockerfile(tmp_path / "c", f"{text}USER other\nWORKDIR /srv/o\n")
    (tmp_path / "file").write_text("content")
    files = (Files(str(tmp_path / "file"), "sub/file"),)
    spec = replace(spec, files=files, setup="cp sub/file made")
    assert await said(spec, "stat -c '%n %u' sub sub/file made; pwd") == "sub 4321\nsub/file 4321\nmade 4321\n/srv/o\n"


async def remains(spec: EnvironmentSpec) -> list[str]:
    """What is left of the build of this Dockerfile; others may build meanwhile."""
    try:
        recipe = read(Build(spec.dockerfile), "none")
    except EnvironmentFault:
        return []  # it cannot even be begun
    found = await engine.call("ask", remains_of_builds)
    return [image for image, key in found if key == recipe.key("none")]


BROKEN = {
    "a step that fails": (
        f"{FROM_BASE}RUN echo much is well\nRUN echo this is why >&2; exit 3\n",
        r"c/Dockerfile: RUN echo this is why >&2; exit 3 failed: .*code: 3; the end of its output: this is why$",
    ),
    "an instruction that is none": (f"{FROM_BASE}RUNE x\n", r"c/Dockerfile: .*line 3: unknown instruction: RUNE"),
    "a base that is not here": (
        "FROM no-such-image:ever\n",
        r"c/Dockerfile: the Docker image no-such-image:ever is not here: docker pull no-such-image:ever",
    ),
    "a download by the engine": (
        f"{FROM_BASE}ADD http://127.0.0.1:1/x /x\n",
        r'c/Dockerfile: ADD http://127.0.0.1:1/x /x may fetch it: set-up has no network \(setup_network = "full"\)',
    ),
    "no python3": ("FROM scratch\nCOPY Dockerfile /x\n", r"the image built from .*c/Dockerfile has no python3"),
    "no bash": (
        f"{FROM_BASE}USER root\nRUN rm -f /bin/bash /usr/bin/bash\n",
        r"the image built from .*c/Dockerfile has no bash",
    ),
    "a python3 that dies at once": (
        f"{FROM_BASE}USER root\nRUN printf '#!/bin/sh\\necho no such luck >&2; exit 3' > /usr/local/bin/python3 "
        "&& chmod 755 /usr/local/bin/python3\n",
        r"is gone.*the end of its log: no such luck",
    ),
}


@docker_needed
@pytest.mark.parametrize("case", BROKEN)
async def test_a_broken_dockerfile_is_one_clear_line(docker: None, case: str, tmp_path: Path) -> None:
    text, message = BROKEN[case]
    spec = dockerfile(tmp_path / "c", text)
    label = f"{LABEL}/broken"
    with pytest.raises(EnvironmentFault, match=message) as caught:
        await spec.start(label=label)
    assert "\n" not in str(caught.value).strip()
    assert await engine.labelled(label, dead_only=False) == []
    assert await remains(spec) == []


FETCHES = {
    "an address": "ADD HTTPS://127.0.0.1:1/x /x",
    "over git": "ADD git@127.0.0.1:x /x",
    "a variable": "ARG A=http\nADD $A:/x /x",
    "an escape": r'ADD ["http:\u002f\u002f127.0.0.1:1/x", "/x"]',
    "joined lines": "ADD http:/\\\n\n# a comment\n/127.0.0.1:1/x /x",
    "at the end of the file": "ADD http://127.0.0.1:1/x /x \\",
    "white space that ends no line": "ADD . \vhttp://127.0.0.1:1/x /x",
    "later": "ONBUILD ADD http://127.0.0.1:1/x /x\nFROM $TRELLIS_BASE",
    "a copy": "COPY --from=no-such-image:ever /x /x",
    "a copy from a stage to come": "COPY --from=late /x /x\nFROM $TRELLIS_BASE AS late",
    "a copy from a variable": "ARG A\nCOPY --from=$A /x /x",
    "a stage of a variable": "FROM $UNKNOWN",
    "a variable with a default": "FROM ${UNKNOWN:-no-such-image:ever}",
    "a variable that is set too late": "ARG LATE=$TRELLIS_BASE\nFROM $LATE",
    "another escape character": "# escape=`\nADD `\nhttp://127.0.0.1:1/x /x",
}


@docker_needed
@pytest.mark.parametrize("case", FETCHES)
def test_what_the_engine_would_fetch_is_refused(docker: None, case: str, tmp_path: Path) -> None:
    spec = dockerfile(tmp_path / "c", FROM_BASE + FETCHES[case])
    with pytest.raises(EnvironmentFault, match=r"fetch it: set-up has no|is not here: docker pull|expected an|escape"):
        read(Build(spec.dockerfile), "none")
    if "escape character" not in case:
        read(Build(spec.dockerfile), "full")


@docker_needed
def test_what_is_here_may_be_built_on_without_a_network(docker: None, tmp_path: Path) -> None:
    text = """\
        ARG TRELLIS_BASE
        ARG ALSO=scratch
        ARG ALSO=${TRELLIS_BASE}
        FROM ${TRELLIS_BASE} AS Make
        ARG ALSO=no-such-image:ever
        FROM make
        COPY --from=MAKE --chown=1:1 /x /x
        COPY --from=0 /x /x
        COPY --from=trellis-base:0 /x $ALSO
        ADD a b /c
    """.replace("trellis-base:0", base_image_name())
    recipe = read(Build(dockerfile(tmp_path / "c", text).dockerfile), "none")
    assert list(recipe.bases) == [base_image_name()]


@docker_needed
async def test_a_stage_that_is_in_no_image_does_not_stay(docker: None, tmp_path: Path) -> None:
    stages = (
        "FROM $TRELLIS_BASE AS make\nRUN echo made > /tmp/made\nFROM $TRELLIS_BASE\nCOPY --from=make /tmp/made /m\n"
    )
    spec = dockerfile(tmp_path / "c", f"ARG TRELLIS_BASE\n{stages}LABEL of={tmp_path}\n")
    assert await said(spec, "cat /m") == "made\n"
    assert await remains(spec) == []


@docker_needed
async def test_the_network_of_a_build(docker: None, tmp_path: Path) -> None:
    look = "RUN cut -d: -f1 -s /proc/net/dev | tr -d ' ' | sort > /tmp/seen\n"
    spec = dockerfile(tmp_path / "c", FROM_BASE + look)
    assert await said(spec, "cat /tmp/seen") == "lo\n"
    assert "eth0" in await said(replace(spec, setup_network="full"), "cat /tmp/seen")


@docker_needed
async def test_auto_is_docker_where_only_docker_can(docker: None, tmp_path: Path) -> None:
    assert await kinds.resolve_kind(EnvironmentSpec(dockerfile=str(tmp_path))) == "docker"


def test_no_engine_for_a_dockerfile_is_one_line() -> None:
    code = (
        "import asyncio; from trellis.environments.kinds import resolve_kind\n"
        "from trellis.environments.environment import *\n"
        "try: asyncio.run(resolve_kind(EnvironmentSpec(dockerfile='x')))\n"
        "except EnvironmentUnavailable as reason: print(reason)"
    )
    env = {**os.environ, "DOCKER_HOST": "unix:///nonexistent/docker.sock"}
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert said.startswith("a world from a Dockerfile needs docker: no Docker engine answers")
    assert said.count("\n") == 1


async def test_a_dockerfile_needs_docker(tmp_path: Path) -> None:
    spec = replace(dockerfile(tmp_path / "c", "FROM scratch\n"), kind="sandbox")
    with pytest.raises(EnvironmentUnavailable, match="a world from a Dockerfile needs docker, not sandbox"):
        await spec.start(label=f"{LABEL}/kind")


@docker_needed
async def test_one_source_of_the_image(docker: None, tmp_path: Path) -> None:
    spec = replace(dockerfile(tmp_path / "c", "FROM scratch\n"), image="some:image")
    with pytest.raises(EnvironmentFault, match="one of them, not more"):
        await spec.start(label=f"{LABEL}/two")


BUILDER = """
import asyncio, sys
from trellis.environments.environment import EnvironmentSpec

asyncio.run(EnvironmentSpec(kind="docker", dockerfile=sys.argv[1]).start(label=sys.argv[2]))
"""


@docker_needed
@pytest.mark.kill
@pytest.mark.usefixtures("nobody_else_cleans")
async def test_a_build_that_was_killed_leaves_nothing_after_cleaning(docker: None, tmp_path: Path) -> None:
    from trellis.environments import leftovers

    marker = f"sleep 30{os.getpid()}"
    spec = dockerfile(tmp_path / "c", f"{FROM_BASE}RUN echo {tmp_path}\nRUN {marker}\n")
    command = [sys.executable, "-c", BUILDER, str(tmp_path / "c"), f"{LABEL}/killed"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while marker not in await asyncio.to_thread(process.stderr.readline):
        pass
    await asyncio.sleep(1)

    async def unowned() -> list[leftovers.Leftover]:
        own = await remains(spec)
        return [left for left in await leftovers.find_unowned() if left.id in own]

    assert await remains(spec)
    assert await unowned() == []  # it still builds
    process.send_signal(signal.SIGKILL)
    process.communicate()

    def containers() -> list[Any]:
        return [c for c in engine.client().containers(all=True) if marker in c["Command"]]

    deadline = time.monotonic() + 15
    while await engine.call("ask", containers) and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
    assert await engine.call("ask", containers) == []
    found = await unowned()
    assert {left.what for left in found} == {"build remains"}
    await leftovers.remove(found)
    assert await remains(spec) == []


# --- the budget ---


@pytest.fixture
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRELLIS_WORLDS", str(tmp_path / "store"))
    return tmp_path


def mine(kind: Kind, keys: list[str]) -> Cache:
    """The cache with nothing but what has these keys: the engine's images are everybody's, also of tests beside this
    one, which must not be evicted."""

    class Mine(ImageCache):
        async def find(self) -> list[Built]:
            return [found for found in await super().find() if found.key in keys]

    return Mine() if kind == "docker" else LayerCache()


async def image_key(spec: EnvironmentSpec) -> str:
    return images._key(spec, (await images.find(base_image_name())).id)


async def test_what_was_used_least_recently_is_evicted_first(isolated: Kind, own_store: Path) -> None:
    keys = list[str]()
    cache = mine(isolated, keys)
    for name in "abc":
        source = own_store / name
        source.write_bytes(os.urandom(10 << 20))
        spec = EnvironmentSpec(kind=isolated, files=(Files(str(source), "big"),))
        await said(spec, "true", f"{LABEL}/evict/{name}")
        if isolated == "docker":
            keys.append(await image_key(spec))
        else:
            keys += [found.key for found in await cache.find() if found.key not in keys]
        await asyncio.sleep(0.05)
    a, b, c = keys
    sizes = {found.key: found.bytes for found in await cache.find()}
    assert all(10 << 20 <= size < 11 << 20 for size in sizes.values())
    world = await EnvironmentSpec(kind=isolated, files=(Files(str(own_store / "a"), "big"),)).start(
        label=f"{LABEL}/evict/a"
    )
    built.let_go(f"{LABEL}/evict/b")
    built.let_go(f"{LABEL}/evict/c")
    assert [gone.key for gone in await built.evict(cache, 25 << 20, dry_run=True)] == [b]
    assert len(await cache.find()) == 3
    assert [gone.key for gone in await built.evict(cache, 25 << 20)] == [b]  # `a` is older but was used since
    assert [gone.key for gone in await built.evict(cache, 0)] == [c]  # `a` is in use
    assert (await world.exec("stat -c %s big")).text == f"{10 << 20}\n"
    await world.close()
    assert await built.evict(cache, 0) == []  # its label may still be forked from
    await kinds.reap(f"{LABEL}/evict/a")
    assert [gone.key for gone in await built.evict(cache, 0)] == [a]
    assert list(built.folder().iterdir()) == []


async def test_another_process_that_uses_it_keeps_it(sandbox: None, own_store: Path) -> None:
    import json

    wait = OTHER.replace("    await world.close()", "    await asyncio.sleep(600)")
    recipe = {"kind": "sandbox", "setup": UNIQUE}
    command = [sys.executable, "-c", wait, json.dumps(recipe), f"{LABEL}/other"]
    other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert len(await asyncio.to_thread(other.stdout.readline)) == 37
    assert await built.evict(LayerCache(), 0) == []
    other.kill()
    other.communicate()
    assert len(await built.evict(LayerCache(), 0)) == 1
    await kinds.reap(f"{LABEL}/other")


async def test_a_build_makes_room(sandbox: None, own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRELLIS_BUILT_GB", "0.025")
    for name in "abcd":
        (own_store / name).write_bytes(os.urandom(10 << 20))
        spec = EnvironmentSpec(kind="sandbox", files=(Files(str(own_store / name), "big"),))
        await said(spec, "true", f"{LABEL}/room")
        await kinds.reap(f"{LABEL}/room")
    assert len(await LayerCache().find()) == 2


async def test_a_budget_that_is_no_number(sandbox: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRELLIS_BUILT_GB", "plenty")
    with pytest.raises(EnvironmentUnavailable, match="TRELLIS_BUILT_GB=plenty: expected a number of gigabytes"):
        await EnvironmentSpec(kind="sandbox", setup="true").start(label=f"{LABEL}/budget")


@docker_needed
async def test_an_image_that_somebody_removed_is_built_again(docker: None, tmp_path: Path) -> None:
    spec = EnvironmentSpec(kind="docker", setup=UNIQUE, env={"R": str(tmp_path)})
    first, key = await said(spec, "cat unique"), await image_key(spec)
    assert key in {found.key for found in await ImageCache().find()}
    subprocess.run(["docker", "rmi", tag_of(key)], stdout=subprocess.DEVNULL, check=True)
    second = await said(spec, "cat unique")
    assert len(second) == len(first) == 37
    assert second != first
    assert tag_of(key).startswith(f"{REPOSITORY}:")


def test_a_phase_that_is_online_needs_no_list() -> None:
    online = built.setup_phase(EnvironmentSpec(allow=("a.test:1",), setup_network="full"))
    assert (online.network, online.allow) == ("full", ())
    other = built.setup_phase(EnvironmentSpec(setup_allow=("a.test:1",)))
    assert (other.network, other.allow) == ("none", ("a.test:1",))
