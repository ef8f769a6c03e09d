"""The hostile suite over the sandbox of an ordinary user, who has no control groups and no right over other users."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from trellis.environments import environment

ROOM = Path(environment.__file__).parent
NEEDED = ("pytest", "pytest-asyncio", "pluggy", "iniconfig", "packaging", "pygments", "typing-extensions")
SOMEBODY = 54321

SUITE = """
import pytest
from trellis.environments.environment import EnvironmentSpec
from trellis.environments.hostile import Hostile

class TestSandbox(Hostile):
    spec = EnvironmentSpec(kind="sandbox")
"""
SETTINGS = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
markers =
    hostile: attacks that a world must contain
"""
BEYOND = (
    "test_memory_of_many",  # without control groups memory is limited process by process,
    "test_memory_in_memory_files",  # and what lies in files is not counted as a process's own
    "test_deleted_files",  # the host sees which files a world holds by its control group
    "test_mapped_files",
)
"""What docs/isolation.md does not promise here."""


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="trellis-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.hostile
@pytest.mark.slow
@pytest.mark.usefixtures("sandbox")
@pytest.mark.timeout(600)
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user; the other tests ran as this one")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv (util-linux)")
def test_attacks_on_the_sandbox_of_an_ordinary_user(public_folder: Path) -> None:
    """Installed as from a wheel, under a Python that this user can read, with the pytest of this environment."""
    python = "/usr/bin/python3"
    ours = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    if subprocess.run([python, "-c", ours], check=False).returncode:
        pytest.skip(f"needs {python} to be of this version: it runs the pytest of this environment")
    subprocess.run([python, "-m", "venv", "--without-pip", public_folder / "venv"], check=True)
    site = next((public_folder / "venv/lib").glob("python3*/site-packages"))
    shutil.copytree(ROOM, site / "trellis/environments", ignore=shutil.ignore_patterns("__pycache__"))
    for name in NEEDED:
        for file in metadata.files(name) or ():
            if file.suffix != ".pyc" and not str(file).startswith(".."):
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), site / file)
    (public_folder / "test_suite.py").write_text(SUITE)
    (public_folder / "pytest.ini").write_text(SETTINGS)
    for name in ("worlds", "home"):
        (public_folder / name).mkdir()
        os.chown(public_folder / name, SOMEBODY, SOMEBODY)
    become = ["setpriv", f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups"]
    options = ["-q", "-rf", "-p", "no:cacheprovider", "-k", f"not ({' or '.join(BEYOND)})"]
    said = subprocess.run(
        [*become, str(public_folder / "venv/bin/python"), "-B", "-m", "pytest", *options, "test_suite.py"],
        env={"TRELLIS_WORLDS": str(public_folder / "worlds"), "HOME": str(public_folder / "home"), "PATH": "/usr/bin"},
        cwd=public_folder,
        capture_output=True,
        text=True,
        check=False,
    )
    print(said.stdout[-3000:])
    assert said.returncode == 0, said.stdout[-8000:] + said.stderr[-2000:]
    assert [entry.name for entry in (public_folder / "worlds").iterdir() if entry.name != "base"] == []
