"""What happens where a world is not to be had, on a machine that really refuses it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
REFUSE = 'echo 0 >/proc/sys/user/max_user_namespaces && echo 0 >/proc/sys/user/max_mnt_namespaces && exec "$@"'
NO_NAMESPACES = ("unshare", "--user", "--map-root-user", "bash", "-c", REFUSE, "bash")
"""Within a user namespace of its own, a process may forbid itself any more of them: so does a hardened kernel."""


def can_refuse() -> bool:
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*NO_NAMESPACES, "true"], capture_output=True, timeout=30, check=False).returncode == 0


needs_namespaces = pytest.mark.skipif(not can_refuse(), reason="needs user namespaces, to forbid them")


def trellis(folder: Path, *arguments: str, before: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*before, sys.executable, "-m", "trellis.runs.cli", *arguments],
        cwd=folder, env={**os.environ, **NO_ENGINE}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_without_an_engine(tmp_path: Path, sums: str) -> None:
    ran = trellis(tmp_path, "run", f"{sums}:Sums:world", "--scaffold", "noop", "--env", "docker")
    assert ran.returncode == 2
    assert ran.stderr.startswith("trellis: --env docker: ")
    assert len(ran.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@needs_namespaces
def test_without_anything(tmp_path: Path, sums: str) -> None:
    ran = trellis(tmp_path, "run", f"{sums}:Sums:world", "--scaffold", "noop", before=NO_NAMESPACES)
    assert ran.returncode == 2
    assert ran.stderr.startswith("trellis: --env auto: ")
    assert len(ran.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@needs_namespaces
def test_the_demo_may_fall_back_to_local_with_a_notice(tmp_path: Path, sums: str) -> None:
    ran = trellis(
        tmp_path, "run", f"{sums}:Sums:world", "--scaffold", f"{sums}:Asker", "--model", f"{sums}:Adder", "--limit",
        "1", "--embedded", before=NO_NAMESPACES,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.splitlines()[0].startswith("notice: no isolation on this machine, so commands run as you")
    (run,) = (tmp_path / "runs").iterdir()
    assert 'kind = "local"' in (run / "experiment.toml").read_text()


@needs_namespaces
def test_a_task_without_a_world_needs_none(tmp_path: Path, sums: str) -> None:
    ran = trellis(tmp_path, "run", f"{sums}:Sums:plain", "--scaffold", "oracle", before=NO_NAMESPACES)
    assert ran.returncode == 0, ran.stderr
