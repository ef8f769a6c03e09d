"""The distribution: what is declared is what is there, and a wheel works outside the checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from trellis.runs.commands_machine import EXTRAS

ROOT = Path(__file__).parent.parent
ROOMS = ("environments", "models", "tools", "trajectories", "scaffolds", "benchmarks", "runs")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_declared_and_typed() -> None:
    found = {
        "trellis." + ".".join(init.parent.relative_to(ROOT).parts)
        for room in ROOMS
        for init in (ROOT / room).rglob("__init__.py")
        if "sample" not in init.parts  # an application that agents repair
    }
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])
    assert all((ROOT / room / "py.typed").exists() for room in ROOMS)
    assert {f"trellis.{room}" for room in ROOMS} == set(PROJECT["tool"]["setuptools"]["package-dir"])


def test_type_checkers_find_every_room() -> None:
    assert {link.name for link in (ROOT / ".types" / "trellis").iterdir()} == set(ROOMS)
    assert all((ROOT / ".types" / "trellis" / room).resolve() == ROOT / room for room in ROOMS)


def test_pins_name_no_index_and_cover_what_is_declared() -> None:
    pins = (ROOT / "constraints.txt").read_text()
    assert "://" not in pins
    assert "--" not in pins
    pinned = {line.split("==")[0].lower() for line in pins.splitlines() if line}
    wanted = list(PROJECT["project"]["dependencies"])
    for extra in PROJECT["project"]["optional-dependencies"].values():
        wanted += extra
    names = {re.split(r"[<>=!~ ;\[]", requirement)[0].lower() for requirement in wanted}
    assert names <= pinned


def test_doctor_looks_for_every_extra() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert {extra: len(modules) for extra, modules in EXTRAS.items()} == {
        extra: len(packages) for extra, packages in extras.items() if extra != "dev"
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, for a build leaves its own files behind."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in (*ROOMS, "pyproject.toml", "README.md", "LICENSE"):
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__", "20*-*"))
        else:
            shutil.copy(path, source / name)
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(source)],
        check=True,
        capture_output=True,
        timeout=170,
    )
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_the_rooms_and_their_data_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[1] for name in names if name.startswith("trellis/")}
    assert tops == set(ROOMS)
    assert not [name for name in names if "__pycache__" in name or name.startswith(("tests", "docs"))]
    for needed in (
        "trellis/benchmarks/hle/sample/questions.jsonl",
        "trellis/benchmarks/swelancer/sample/swelancer_tasks.csv",
        "trellis/benchmarks/browser/site/inbox/claim-0412.txt",
        "trellis/benchmarks/browser/site/pages/login.html",
        "trellis/models/prices.json",
        "trellis/tools/browser/driver/page.js",
        "trellis/runs/py.typed",
    ):
        assert needed in names
    assert len([name for name in names if name.endswith("/leaderboard.csv")]) >= 5


@pytest.mark.slow
def test_a_wheel_installed_elsewhere_runs(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    site = next(home.glob("lib/python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    # The dependencies are those of this environment; a path in a .pth file does not bring in the checkout's own one.
    (site / "dependencies.pth").write_text(f"{Path(pytest.__file__).parent.parent}\n")
    python = home / "bin" / "python"
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TRELLIS"))}
    environ |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}

    def trellis(*arguments: str) -> str:
        command = [str(python), "-c", "from trellis.runs.cli import main; main()", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = subprocess.run(
        [python, "-c", "import trellis.runs.cli as c; print(c.__file__)"],
        cwd=tmp_path, env=environ, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert where.startswith(str(home))
    assert "resume" in trellis("--help")
    document = json.loads(
        trellis("run", "hle:sample", "--scaffold", "react", "--model", "offline/chance", "--limit", "3", "--json")
    )
    assert document["episodes"] == 3
    assert document["outcomes"] == {"completed": 3}
    assert Path(document["run"]).is_relative_to(tmp_path)
