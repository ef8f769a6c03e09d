"""Wrong input: one clear line, exit status 2, nothing written."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Trellis = Callable[..., Any]

GOOD = """\
epochs = 2

[[benchmarks]]
name = "{sums}:Sums"
split = "plain"

[[agents]]
scaffold = "noop"

[[agents]]
name = "second"
scaffold = "{sums}:Asker"
model = "{sums}:Adder"
[agents.options]
votes = 5

[budget]
steps = 7
"""


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            "run nope:sample",
            "unknown benchmark 'nope' (known: browser, hle, mle, swelancer) or e.g. ./my_benchmark.py:MyBenchmark",
        ),
        ("run SUMS:Sums:hard", "unknown split 'hard'; there are: plain, world, sample"),
        ("run SUMS:Summs", "has no 'Summs'; did you mean Sums"),
        ("run ./missing.py:Sums", "missing.py: no such file"),
        ("run no.such.module:Thing", "benchmark 'no.such.module:Thing': there is no module 'no'"),
        ("run SUMS:Sums --scaffold raect", "unknown scaffold 'raect'; did you mean react?"),
        ("run SUMS:Sums --scaffold noop --tools shel", "unknown tool 'shel'; did you mean shell?"),
        ("run SUMS:Sums --model offline/tabluar", "unknown model 'offline/tabluar': did you mean offline/tabular?"),
        ("run SUMS:Sums", "scaffold react needs a model: --model NAME"),
        ("run SUMS:Sums --model openai/gpt-5", "OPENAI_API_KEY"),
        ("run SUMS:Sums --scaffold SUMS:Asker -S votez=3", "has no option votez; it has: votes"),
        ("run SUMS:Sums --scaffold SUMS:Asker -S votes=many", "SUMS:Asker: votes: Input should be a valid integer"),
        (
            "run SUMS:Sums --scaffold react --model SUMS:Adder -S context=trimm",
            "react: context: Input should be 'none'",
        ),
        (
            "run SUMS:Sums --scaffold react --model SUMS:Adder -S context=native",
            "does not compact conversations itself; take -S context=trim or context=summarise",
        ),
        ("run SUMS:Sums --scaffold SUMS:Asker -S votes", "-S votes: expected -S key=value"),
        ("run SUMS:Sums --scaffold SUMS:Asker --model SUMS:Adder -M rate=1", "has no option rate; it has: cost_usd"),
        ("run SUMS:Sums --scaffold noop -B size=3", "has no option size; it has: break_grader, count"),
        ("run SUMS:Sums --scaffold noop -E memory=1", "environment.memory: "),
        (
            "run SUMS:Sums --scaffold noop -E alow=a.test:1",
            "environment.alow: no such setting; did you mean allow? (known: allow, cpus, disk_mb,",
        ),
        ("run SUMS:Sums --scaffold noop -E memory_mb=much", "environment.memory_mb: input should be a valid integer"),
        ("run SUMS:Sums --scaffold oracle -S x=1", "scaffold oracle has no option 'x'"),
        (
            "run SUMS:Sums --scaffold noop --scaffold SUMS:Asker -S votes=1",
            "say whose option it is: -S SCAFFOLD.votes=",
        ),
        ("run SUMS:Sums --scaffold noop --tasks zebra", "has no task 'zebra' (known: sum-0, sum-1, sum-2, sum-3)"),
        ("run SUMS:Sums --scaffold noop --scaffold noop", "2 agents are called 'noop'; give each a name of its own"),
        ("run SUMS:Sums --scaffold noop --epochs 0", "Invalid value for '--epochs': 0 is not in the range x>=1"),
        ("run SUMS:Sums --scaffold noop --env podman", "environment.kind: there is no kind of world called 'podman'"),
        ("run SUMS:Sums --scaffold noop --env dokcer", "did you mean docker? (known: auto, docker, local, sandbox)"),
        ("run", "Missing argument"),
        ("rnu", "No such command 'rnu'"),
        ("run SUMS:Sums --modle x", "No such option"),
        ("run missing.toml", "missing.toml: No such file or directory"),
        ("resume nowhere", "nowhere is not a run: it has no experiment.toml"),
        ("compare SUMS:Sums --scaffold noop", "compare needs at least two agents"),
        ("list tasks", "list tasks needs a benchmark: trellis list tasks mle:sample"),
        ("new scaffold My-Agent", "'My-Agent': expected a name for a Python file in lower case"),
        ("new scaffold class", "'class': expected a name"),
    ],
)
def test_one_line_and_nothing_written(
    trellis: Trellis, sums: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, complaint: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    ran = trellis(*arguments.replace("SUMS", sums).split())
    assert ran.status == 2, ran.err
    assert complaint.replace("SUMS", sums) in ran.complaint
    assert ran.complaint.startswith("trellis: ")
    assert ran.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("good", "bad", "complaint"),
    [
        ("epochs = 2", "epochs = ", "line 1: not TOML: Invalid value"),
        ("epochs = 2", "epochs = 0", "line 1: epochs: Input should be greater than or equal to 1"),
        ("epochs = 2", "epoch = 2", "line 1: epoch: no such setting; did you mean epochs?"),
        ('scaffold = "noop"', 'scafold = "noop"', "line 7: agents.0.scaffold: Field required"),
        ("epochs = 2", 'approval = "shell"', "line 1: approval: Input should be a list"),
        ("epochs = 2", 'approval = ["shell"]', "line 1: approval.0: Input should be a table"),
        ("[budget]", "[[budget]]", "line 17: budget: Input should be a table"),
        ('name = "second"', 'nam = "second"', "line 11: agents.1.nam: no such setting; did you mean name?"),
        ("steps = 7", "steps = 7\nstpes = 8", "line 19: budget.stpes: no such setting; did you mean steps?"),
        ("steps = 7", 'steps = "seven"', "line 18: budget.steps: Input should be a valid integer"),
        ("[budget]", "[budgets]", "line 17: budgets: no such setting; did you mean budget?"),
        ('name = "second"', 'on = "hle*"', "agent 'Asker' meets no benchmark: on = 'hle*' matches none of Sums:plain"),
        ('name = "second"', 'name = "noop"', "2 agents are called 'noop'"),
        ("[[agents]]", "[[agents", "line 7: not TOML"),
        ("votes = 5", 'votes = "a"', "votes: Input should be a valid integer"),
    ],
)
def test_a_wrong_experiment_file_names_the_line(
    trellis: Trellis, sums: str, tmp_path: Path, good: str, bad: str, complaint: str
) -> None:
    file = tmp_path / "experiment.toml"
    text = GOOD.format(sums=sums)
    assert good in text
    file.write_text(text.replace(good, bad, 1))
    ran = trellis("run", "experiment.toml")
    assert ran.status == 2
    assert complaint in ran.complaint
    assert [path.name for path in tmp_path.iterdir()] == ["experiment.toml"]


def test_what_only_follows_from_another_mistake_is_not_said(trellis: Trellis, sums: str, tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text(f'benchmarks = ["{sums}:Sums:plain"]\n[[agents]]\nscaffold = 3\n')
    assert (
        trellis("run", "e.toml").complaint
        == "trellis: e.toml, line 3: agents.0.scaffold: Input should be a valid string"
    )
    (tmp_path / "e.toml").write_text(f'benchmarks = ["{sums}:Sums:plain"]\nagents = []\n')
    assert trellis("run", "e.toml").complaint.startswith(
        "trellis: e.toml, line 2: agents: Tuple should have at least 1"
    )


def test_the_good_file_runs_and_flags_add_to_it(trellis: Trellis, sums: str, tmp_path: Path) -> None:
    (tmp_path / "experiment.toml").write_text(GOOD.format(sums=sums))
    ran = trellis("run", "experiment.toml", "--epochs", "1", "--max-tokens", "1000", "--json")
    assert ran.status == 0, ran.err
    assert ran.document["episodes"] == 8
    stored = Path(ran.document["run"], "experiment.toml").read_text()
    assert "steps = 7\ntokens = 1000" in stored
    assert trellis("run", "experiment.toml", "--scaffold", "noop").complaint.startswith("trellis: --scaffold goes with")


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/version").exists(), reason="root can write everywhere here")
@pytest.mark.parametrize("place", ["/proc/runs", "file/runs"])
def test_an_unwritable_folder(trellis: Trellis, sums: str, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", "noop", "--runs-dir", place)
    assert ran.status == 2
    assert f"cannot write to {place}: " in ran.complaint
    assert "--runs-dir" in ran.complaint
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_broken_file_of_ones_own_names_its_line(trellis: Trellis, sums: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("x = 1\ny = x / 0\n")
    assert "mine.py, line 2: ZeroDivisionError: division by zero" in trellis("run", "mine.py:Mine").complaint
    (tmp_path / "mine.py").write_text("def f(:\n")
    assert "mine.py, line 1: " in trellis("run", "mine.py:Mine").complaint


def test_damaged_results_name_their_line(trellis: Trellis, sums: str) -> None:
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", "noop", "--json")
    results = Path(ran.document["run"], "results.jsonl")
    lines = results.read_text().splitlines()
    lines[1] = lines[1][:40]
    results.write_text("\n".join(lines) + "\n")
    again = trellis("resume", ran.document["run"])
    assert again.status == 2
    assert "results.jsonl, line 2: not a result" in again.complaint
