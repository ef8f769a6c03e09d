"""`trellis clean`: what it lists, what it leaves alone, and that nothing is left of a run that was killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trellis.environments import built, kinds, store
from trellis.environments.docker import engine
from trellis.environments.environment import EnvironmentSpec, EnvironmentUnavailable, Files, Kind
from trellis.environments.sandbox import cgroups

LABEL = f"test-{os.getpid()}"
DEADLINE_S = 90
MARK = f"sleep\x00600.{os.getpid()}"
"""The command line of what runs in the worlds of this test."""
docker_needed = pytest.mark.docker
pytestmark = pytest.mark.usefixtures("nobody_else_cleans")


@pytest.fixture
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What other tests keep for later starts is not ours to remove."""
    monkeypatch.setenv("TRELLIS_WORLDS", str(tmp_path / "store"))
    return tmp_path / "store"


def clean(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "trellis.runs.cli", "clean", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def named(document: dict[str, Any], label: str) -> list[str]:
    """What of this label was removed."""
    return sorted(item["what"] for item in document["items"] if item["label"].startswith(label))


@dataclass(frozen=True)
class Traces:
    """Everything by which a run could be found on this machine."""

    label: str
    store: Path

    def containers(self) -> list[Any]:
        return self._engine("containers", all=True)

    def networks(self) -> list[Any]:
        return self._engine("networks")

    def images(self) -> list[Any]:
        return self._engine("images", all=True)

    def _engine(self, what: str, **more: Any) -> list[Any]:
        try:
            found = getattr(engine.client(), what)(filters={"label": engine.LABEL}, **more)
        except EnvironmentUnavailable:
            return []
        return [thing for thing in found if thing["Labels"][engine.LABEL].startswith(self.label)]

    def folders(self) -> list[str]:
        return [path.name for path in self.store.iterdir() if path.name not in ("base", "built")]

    def processes(self) -> list[str]:
        """They have the mark of this test in their command line."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                about = (process / "cmdline").read_bytes().decode("utf-8", "replace")
            except OSError:
                continue
            if MARK in about and "setsid" not in about:
                found.append(about)
        return found

    def mounts(self) -> list[str]:
        return [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.store) in line]

    def cgroups(self, names: list[str]) -> list[Path]:
        # `Path.glob` fails where a folder of another's goes meanwhile.
        folders = (Path(folder) for folder, _, _ in os.walk(cgroups.ROOT))
        return [folder for folder in folders if folder.name in names and folder.parent.name == "trellis"]


BENCHMARK = """
from pathlib import Path
from trellis.benchmarks.benchmark import Score, Submission, Task
from trellis.environments.environment import EnvironmentSpec, Files
from trellis.messages_of import Text


class Waits:
    name, version, judge = "waits", "1", None

    def __init__(self, compose: str = "") -> None:
        self._compose = compose

    def splits(self):
        return ("sample",)

    def tasks(self, split):
        here = Path(__file__)
        for n in range(2):
            files = (Files(str(here), "seed"),)
            world = EnvironmentSpec(files=files, setup="echo ready > ready", compose=self._compose)
            yield Task(f"wait-{n}", (Text("Wait."),), world, tools=("shell", "submit"))

    async def collect(self, task, environment, answer):
        return Submission(answer)

    async def score(self, task, submission, grader):
        return Score(1.0, success=True)

    async def oracle(self, task):
        return Submission("x")

    def cheats(self, task):
        return ()

    def metrics(self, scores):
        return {}


class Waiter:
    name = "waiter"

    async def solve(self, episode):
        from trellis.models.messages import ToolCall

        await episode.act(ToolCall("one", "shell", {"command": "setsid sleep MARK & cat ready > mine"}))
        async with episode.branch("other") as other:
            await other.act(ToolCall("two", "shell", {"command": "cat mine"}))
            Path(f"waiting-{episode.task.id}").write_text("")
            await other.act(ToolCall("three", "shell", {"command": "sleep MARK", "timeout_s": 600}))
        await episode.submit("done")
""".replace("trellis.messages_of", "trellis.models.messages")

COMPOSE = """
services:
  agent: {image: trellis-base}
  db: {image: trellis-base, command: sleep MARK}
"""


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.parametrize(
    "world", ["sandbox", pytest.param("docker", marks=docker_needed), pytest.param("compose", marks=docker_needed)]
)
async def test_a_killed_run_leaves_nothing_after_cleaning(
    world: str, own_store: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kind = "sandbox" if world == "sandbox" else "docker"
    request.getfixturevalue(kind)
    if world == "compose":
        pytest.importorskip("yaml", reason="needs PyYAML")
    for name, content in (("waits.py", BENCHMARK), ("compose.yaml", COMPOSE)):
        (tmp_path / name).write_text(content.replace("sleep MARK", MARK.replace("\x00", " ")))
    options = ["-B", f"compose={tmp_path}/compose.yaml"] if world == "compose" else []
    command = [sys.executable, "-m", "trellis.runs.cli", "run", "waits.py:Waits", "--scaffold", "waits.py:Waiter"]
    run = subprocess.Popen(
        [*command, "--env", kind, "--jobs", "2", *options],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        await _see_that_it_is_cleaned(run, world, kind, own_store, tmp_path)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()


async def _see_that_it_is_cleaned(
    run: subprocess.Popen[str], world: str, kind: str, own_store: Path, tmp_path: Path
) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while len(list(tmp_path.glob("waiting-*"))) < 2 and time.monotonic() < deadline and run.poll() is None:
        await asyncio.sleep(0.1)
    assert run.poll() is None, run.communicate()
    await asyncio.sleep(0.5)
    (label,) = (path.name for path in (tmp_path / "runs").iterdir())
    traces = Traces(label, own_store)
    groups = [path.name for path in own_store.iterdir()]
    if kind == "docker":
        assert len(traces.containers()) >= (8 if world == "compose" else 4)
        assert len(traces.networks()) == (4 if world == "compose" else 0)
        assert traces.images()
    else:
        assert len(traces.folders()) >= 6  # a world and its fork for each episode, and a snapshot
    assert len(traces.processes()) >= 4
    assert named(clean("--dry-run"), label) == []  # its owner lives
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()

    would = clean("--dry-run")
    assert would["dry_run"] is True
    assert named(would, label)
    assert named(clean(), label) == named(would, label) or kind == "docker"  # containers go by themselves meanwhile
    deadline = time.monotonic() + 10
    while traces.processes() and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    assert (traces.containers(), traces.networks(), traces.images()) == ([], [], [])
    assert (traces.folders(), traces.processes(), traces.mounts()) == ([], [], [])
    assert traces.cgroups(groups) == []
    assert named(clean(), label) == []


@pytest.fixture(params=["sandbox", pytest.param("docker", marks=docker_needed)])
def isolated(request: pytest.FixtureRequest) -> Kind:
    request.getfixturevalue(request.param)
    kind: Kind = request.param
    return kind


ONCE = """
import asyncio, os, sys
from trellis.environments.environment import EnvironmentSpec, Files

async def main():
    spec = EnvironmentSpec(kind=sys.argv[1], files=(Files(sys.argv[3], "file"),))
    world = await spec.start(label=sys.argv[2])
    await world.exec("echo x > x")
    await world.snapshot()
    os._exit(1)

asyncio.run(main())
"""


async def test_it_says_what_it_removes_and_keeps_what_was_built(
    isolated: Kind, own_store: Path, tmp_path: Path
) -> None:
    label = f"{LABEL}/says/{isolated}"
    (tmp_path / "file").write_text(f"{tmp_path}")
    subprocess.run([sys.executable, "-c", ONCE, isolated, label, str(tmp_path / "file")], check=False)
    gone = clean()
    assert gone["removed"] == len(gone["items"])
    expected = ["snapshot", "world"] if isolated == "sandbox" else ["snapshot"]
    assert [what for what in named(gone, label) if what != "container"] == expected
    name = "built layer" if isolated == "sandbox" else "built image"
    assert [item for item in gone["items"] if item["what"] == name] == []
    cache = next(cache for cache in await kinds.caches() if cache.what == name)
    assert await cache.find()


async def test_built_things_are_removed_when_asked(sandbox: None, own_store: Path, tmp_path: Path) -> None:
    """Layers only: images belong to the whole machine."""
    (tmp_path / "file").write_bytes(os.urandom(3 << 20))
    spec = EnvironmentSpec(kind="sandbox", files=(Files(str(tmp_path / "file"), "file"),))
    env = {**os.environ, "DOCKER_HOST": "unix:///nonexistent/docker.sock"}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "trellis.runs.cli", "clean", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout

    world = await spec.start(label=f"{LABEL}/built")
    assert run("--built") == "0 leftovers removed\n"  # this process uses it
    await world.close()
    await kinds.reap(f"{LABEL}/built")
    assert run("--max-gb", "0.1") == "0 leftovers removed\n"
    assert run("--max-gb", "0.001", "--dry-run").endswith("1 leftover would be removed\n")
    assert run("--max-gb", "0.001").startswith("built layer ")
    assert [path.name for path in own_store.iterdir() if path.name != "base"] in ([], ["built"])
    assert list(built.folder().iterdir()) == []


async def test_old_locks_go(sandbox: None, own_store: Path) -> None:
    store.store_folder()
    built.folder().mkdir()
    (built.folder() / "0123456789abcdef.use").touch()
    (built.folder() / "0123456789abcdef.build").touch()
    assert [item["what"] for item in clean()["items"] if item["what"] == "lock"] == ["lock", "lock"]
    assert list(built.folder().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--built", "--max-gb", "1"], "leave out --max-gb"), (["--max-gb", "some"], "--max-gb")],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "trellis.runs.cli", "clean", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr


@docker_needed
async def test_doctor_tells_about_the_engine(docker: None) -> None:
    command = [sys.executable, "-m", "trellis.runs.cli", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    rows = {row["what"]: row for row in json.loads(done.stdout)}
    info = engine.client().info()
    for fact in (info["ServerVersion"], info["Driver"], "runc"):
        assert fact in rows["docker engine"]["found"]
    assert rows["docker seccomp"]["ok"] is True
    assert {"built images", "built layers"} <= rows.keys()
