"""What `trellis new` writes works at once."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Trellis = Callable[..., Any]


@pytest.mark.parametrize("kind", ["scaffold", "tool", "benchmark"])
def test_its_test_passes(trellis: Trellis, tmp_path: Path, kind: str) -> None:
    ran = trellis("new", kind, f"my_{kind}")
    assert ran.status == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"my_{kind}.py", f"test_my_{kind}.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"test_my_{kind}.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


def test_the_scaffold_meets_a_benchmark(trellis: Trellis, sums: str) -> None:
    trellis("new", "scaffold", "my_agent")
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", "./my_agent.py:MyAgent", "--model", f"{sums}:Adder",
                  "-M", "error_rate=0", "--json")  # fmt: skip
    assert ran.status == 0, ran.err
    assert ran.document["metrics"]["score"] == 1.0


def test_the_benchmark_has_its_ends(trellis: Trellis) -> None:
    trellis("new", "benchmark", "my_benchmark")
    arguments = ("run", "./my_benchmark.py:MyBenchmark", "--env", "local", "--json", "--scaffold")
    assert trellis(*arguments, "oracle").document["metrics"] == {"score": 1, "success_rate": 1, "valid_rate": 1}
    assert trellis(*arguments, "noop").document["metrics"] == {"score": 0, "success_rate": 0, "valid_rate": 0}


def test_nothing_is_overwritten(trellis: Trellis, tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("precious")
    ran = trellis("new", "tool", "mine")
    assert ran.status == 2
    assert ran.complaint == "trellis: test_mine.py exists already; nothing was written"
    assert (tmp_path / "test_mine.py").read_text() == "precious"
    assert not (tmp_path / "mine.py").exists()
