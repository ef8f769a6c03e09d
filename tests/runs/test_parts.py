"""The parts of a run by themselves: experiment files, names, folders, the command line's start."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trellis.runs import experiment, toml
from trellis.runs.errors import UsageError
from trellis.runs.folder import safe_name
from trellis.runs.options import parse_options
from trellis.runs.plan import episode_seed, make_plan
from trellis.runs.registry import BENCHMARKS, SCAFFOLDS, anchored, is_reference, resolve, split_benchmark

Trellis = Callable[..., Any]

PLAIN = st.one_of(
    st.text(st.characters(blacklist_categories=["Cs"])), st.booleans(), st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
)  # fmt: skip
KEYS = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1)
TABLES = st.recursive(
    st.dictionaries(KEYS, PLAIN | st.lists(PLAIN)),
    lambda inner: st.dictionaries(KEYS, PLAIN | st.lists(inner, min_size=1) | inner.filter(bool)),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(TABLES)
def test_what_is_written_reads_back(table: dict[str, Any]) -> None:
    assert tomllib.loads(toml.dumps(table)) == table


def test_an_experiment_reads_back(sums: str, tmp_path: Path) -> None:
    made = experiment.make(
        {
            "name": "x",
            "benchmarks": [{"name": f"{sums}:Sums:plain", "options": {"count": 2}, "limit": 3}, "mle:sample"],
            "agents": [{"scaffold": "tree", "model": "m", "models": {"review": "n"}, "options": {"deep": {"a": [1]}}}],
            "environment": {"memory_mb": 512},
            "budget": {"time_s": 1.5},
        },
        folder=tmp_path,
    )
    file = tmp_path / "x.toml"
    file.write_text(made.to_toml())
    assert experiment.read(file) == made


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("x=4", 4), ("x=0.5", 0.5), ("x=true", True), ("x=word", "word"), ("x=two words", "two words"), ("x=", ""),
        ('x="4"', "4"), ("x=[1, 2]", [1, 2]), ('x={"a": 1}', {"a": 1}), ("x={a = 1}", {"a": 1}), ("x=a=b", "a=b"),
        ("x=2026-01-01", "2026-01-01"), ("x=1\ny = 2", "1\ny = 2"), ("x=1 # not a comment", "1 # not a comment"),
    ],
)  # fmt: skip
def test_option_values(pair: str, value: Any) -> None:
    assert parse_options([pair], "-S") == {"x": value}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("mle:sample", ("mle", "sample")), ("mle", ("mle", "")), ("./a/b.py:Mine", ("./a/b.py:Mine", "")),
        ("./a/b.py:Mine:hard", ("./a/b.py:Mine", "hard")), ("pkg.mod:Mine", ("pkg.mod:Mine", "")),
        ("pkg.mod:Mine:hard", ("pkg.mod:Mine", "hard")),
    ],
)  # fmt: skip
def test_benchmark_and_split(text: str, parts: tuple[str, str]) -> None:
    assert split_benchmark(text) == parts


def test_file_references_hold_from_anywhere(tmp_path: Path) -> None:
    assert anchored("./mine.py:Mine", tmp_path) == f"{tmp_path}/mine.py:Mine"
    assert anchored("react", tmp_path) == "react"
    assert is_reference("openai/gpt-5:latest") is False


@pytest.mark.parametrize(
    ("kind", "name"), [*(("scaffold", n) for n in SCAFFOLDS), *(("benchmark", n) for n in BENCHMARKS)]
)
def test_every_registered_name_is_there(kind: Any, name: str) -> None:
    assert resolve(kind, name).name == name


def test_an_entry_point_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "somebodys_package-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys-package\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[trellis.scaffolds]\ntheirs = trellis.scaffolds.baselines:Noop\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert resolve("scaffold", "theirs").name == "noop"


def test_only_the_oracle_knows_the_gold(sums: str, tmp_path: Path) -> None:
    """A scaffold of another name that asks for `gold` does not get it."""
    (tmp_path / "sly.py").write_text(
        "class Sly:\n    name = 'oracle'\n    def __init__(self, gold):\n        self.gold = gold\n"
    )
    settings_ = {"benchmarks": [f"{sums}:Sums:plain"], "agents": [{"scaffold": "./sly.py:Sly"}]}
    with pytest.raises(UsageError, match="gold: Field required"):
        make_plan(experiment.make(settings_, folder=tmp_path))


def test_names_of_folders() -> None:
    assert safe_name("sum-1") == "sum-1"
    hostile = ["../../etc", "a/b", "a b", "", ".", "..", "-rf", "x" * 300, "ä", "a\x00b", "CON:"]
    safe = [safe_name(name) for name in hostile]
    assert len(set(safe)) == len(hostile)
    for name in safe:
        assert 0 < len(name) < 100
        assert not set(name) & set("/\\: \x00")
        assert name[0] not in ".-"


def test_seeds_differ_by_everything_but_the_agent() -> None:
    seeds = {episode_seed(s, b, t, e) for s in (0, 1) for b in "ab" for t in "xy" for e in (1, 2)}
    assert len(seeds) == 16
    assert all(0 <= seed < 2**48 for seed in seeds)


def test_agents_advance_evenly(sums: str, tmp_path: Path) -> None:
    settings_ = {
        "benchmarks": [f"{sums}:Sums:plain"],
        "agents": [{"scaffold": "noop"}, {"scaffold": "oracle"}],
        "epochs": 2,
    }
    order = [(k.epoch, k.task, k.agent) for k in make_plan(experiment.make(settings_, folder=tmp_path)).keys]
    assert order[:4] == [(1, "sum-0", "noop"), (1, "sum-0", "oracle"), (1, "sum-1", "noop"), (1, "sum-1", "oracle")]
    assert [epoch for epoch, *_ in order] == [1] * 8 + [2] * 8


def test_help_imports_next_to_nothing() -> None:
    code = "import sys; from trellis.runs.cli import invoke; invoke(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "trellis" in done.stdout
    loaded = set(done.stderr.split())
    assert loaded.isdisjoint({"rich", "pydantic", "jinja2", "openai", "anthropic", "docker", "asyncio"})


@pytest.mark.parametrize("command", ["run", "resume", "score", "compare", "list", "new", "doctor", "clean"])
def test_every_command_explains_itself(trellis: Trellis, command: str) -> None:
    ran = trellis(command, "--help")
    assert ran.status == 0
    assert ran.out.startswith(f"Usage: trellis {command}")


@pytest.mark.parametrize("what", ["scaffolds", "tools", "models", "benchmarks", "runs"])
def test_lists(trellis: Trellis, what: str) -> None:
    assert trellis("list", what).status == 0
    assert isinstance(trellis("list", what, "--json").document, list)


def test_list_of_tasks_and_runs(trellis: Trellis, sums: str) -> None:
    assert [t["id"] for t in trellis("list", "tasks", f"{sums}:Sums:plain", "--json").document][:1] == ["sum-0"]
    trellis("run", f"{sums}:Sums:plain", "--scaffold", "noop", "--name", "mine")
    (run,) = trellis("list", "runs", "--json").document
    assert (run["agents"], run["done"]) == (["noop"], 4)
    assert "-mine-" in run["run"]


def test_a_run_is_found_by_the_end_of_its_name(trellis: Trellis, sums: str) -> None:
    first = trellis("run", f"{sums}:Sums:plain", "--scaffold", "noop", "--json").document["run"]
    assert trellis("resume", first[-4:], "--json").document["run"] == first


@pytest.mark.usefixtures("nobody_else_cleans")
def test_doctor_and_clean(trellis: Trellis) -> None:
    found = {row["what"]: row["ok"] for row in trellis("doctor", "--json").document}
    assert found["python"] is True
    assert {"world local", "world sandbox", "world docker", "disk", "chromium", "OPENAI_API_KEY"} <= found.keys()
    cleaned = trellis("clean", "--json")
    assert cleaned.status == 0
    assert set(json.loads(cleaned.out)) == {"removed", "dry_run", "items", "replies"}
