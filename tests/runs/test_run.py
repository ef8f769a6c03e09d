"""`trellis run` as a user sees it: outcomes, exit status, what is printed and what is kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trellis.environments.environment import Environment, EnvironmentSpec
from trellis.models.cache import ReplyCache, default_folder
from trellis.models.messages import assistant
from trellis.models.model import Reply

Trellis = Callable[..., "Ran"]  # type: ignore[name-defined]  # noqa: F821


def test_the_ends_of_the_scale(trellis: Trellis, sums: str) -> None:
    best = trellis("run", f"{sums}:Sums:plain", "--scaffold", "oracle", "--json")
    worst = trellis("run", f"{sums}:Sums:plain", "--scaffold", "noop", "--json")
    assert (best.status, worst.status) == (0, 0)
    assert best.document["metrics"] == {"score": 1.0, "success_rate": 1.0, "points": 4.0}
    assert worst.document["metrics"] == {"score": 0.0, "success_rate": 0.0, "points": 0.0}
    assert best.document["episodes"] == 4
    assert best.document["outcomes"] == {"completed": 4}
    assert (Path(best.document["run"]) / "experiment.toml").is_file()


def test_json_is_one_document_and_nothing_else(trellis: Trellis, sums: str) -> None:
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", "noop", "--json")
    json.loads(ran.out)
    assert ran.err == ""


def test_agents_are_compared_on_equal_seeds(trellis: Trellis, sums: str) -> None:
    ran = trellis(
        "compare", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Asker", "--scaffold", f"{sums}:Boaster",
        "--model", f"{sums}:Adder", "-M", "error_rate=0.5", "-S", "Asker.votes=5", "--epochs", "3", "--json",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    document = ran.document
    assert [(row["agent"], row["steps"], row["flagged"]) for row in document["agents"]] == [
        ("Asker", 5, 0), ("Boaster", 1, 12)
    ]  # fmt: skip
    (pair,) = document["comparisons"]
    assert (pair["a"], pair["b"], pair["result"]["tasks"], pair["result"]["episodes"]) == ("Asker", "Boaster", 4, 12)
    lines = [json.loads(line) for line in (Path(document["run"]) / "results.jsonl").read_text().splitlines()]
    seeds = {(line["task"], line["epoch"], line["agent"]): line["seed"] for line in lines}
    assert len(seeds) == 24
    assert all(seeds[t, e, "Asker"] == seeds[t, e, "Boaster"] for t, e, _ in seeds)
    assert len(set(seeds.values())) == 12


def test_the_same_seed_gives_the_same_results(trellis: Trellis, sums: str) -> None:
    arguments = ("run", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Asker", "--model", f"{sums}:Adder", "--json")
    first, again, other = (trellis(*arguments, "--seed", seed).document["run"] for seed in ("1", "1", "2"))
    answers = [
        {p.parent.parent.parent.name: json.loads(p.read_text())["answer"] for p in Path(run).rglob("submission.json")}
        for run in (first, again, other)
    ]
    assert answers[0] == answers[1]
    assert len(answers[0]) == 4


def test_the_stored_experiment_repeats_the_run(trellis: Trellis, sums: str) -> None:
    first = trellis("run", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Asker", "--model", f"{sums}:Adder",
                    "--max-steps", "2", "--tasks", "sum-[12]", "--epochs", "2", "--json")  # fmt: skip
    again = trellis("run", f"{first.document['run']}/experiment.toml", "--json")
    assert again.status == 0, again.err
    for name in ("outcomes", "metrics", "episodes"):
        assert again.document[name] == first.document[name]
    stored = [Path(ran.document["run"], "experiment.toml").read_text() for ran in (first, again)]
    assert stored[0].replace('name = ""', "") == stored[1].replace('name = "experiment"', "")


def test_a_limit_is_scored(trellis: Trellis, sums: str) -> None:
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Asker", "--model", f"{sums}:Adder",
                  "--max-steps", "2", "--json")  # fmt: skip
    assert ran.status == 0
    assert ran.document["outcomes"] == {"limit": 4}
    assert ran.document["metrics"]["score"] == 0


@pytest.mark.parametrize("prefix", ["", "group-"])
@pytest.mark.parametrize(
    ("trouble", "outcome", "fault", "retries"),
    [
        ("world", "fault", "EnvironmentFault: the container died: out of memory", 1),
        ("model", "fault", "ModelFault: overloaded, after 5 retries", 1),
        ("bug", "fault", "IndexError: list index out of range", 0),
        ("refusal", "refused", "", 0),
        ("endless", "limit", "", 0),
    ],
)
def test_blame_decides_the_outcome(
    trellis: Trellis, sums: str, prefix: str, trouble: str, outcome: str, fault: str, retries: int
) -> None:
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Troubled", "--model", f"{sums}:Adder",
                  "-S", f"trouble={prefix}{trouble}", "--limit", "1", "--max-steps", "3", "--retries", "1",
                  "--json")  # fmt: skip
    result = json.loads((Path(ran.document["run"]) / "results.jsonl").read_text())
    assert (result["outcome"], result["fault"], result["retries"]) == (outcome, fault, retries)
    assert ran.status == (1 if outcome == "fault" else 0)
    assert (result["score"] is None) == (outcome == "fault")
    assert ran.document["metrics"]["score"] == (None if outcome == "fault" else 0.0)
    kept = Path(ran.document["run"], result["path"], "fault.txt")
    assert kept.exists() == (trouble == "bug")


def test_a_broken_grader_is_a_fault_and_no_zero(trellis: Trellis, sums: str) -> None:
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", "oracle", "-B", "break_grader=true", "--limit", "1",
                  "--retries", "0", "--json")  # fmt: skip
    assert ran.status == 1
    assert ran.document["outcomes"] == {"fault": 1}
    assert ran.document["metrics"] == {"score": None, "success_rate": None}
    assert "trellis resume" in ran.complaint


def test_a_wrong_key_stops_the_run_with_one_line(trellis: Trellis, sums: str) -> None:
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Troubled", "--model", f"{sums}:Adder",
                  "-S", "trouble=key", "--jobs", "1", "--json")  # fmt: skip
    assert ran.status == 1
    assert ran.document["outcomes"] == {"cancelled": 1}
    assert ran.complaint.startswith("OPENAI_API_KEY is wrong: 401 invalid key; go on with: trellis resume ")


def test_the_cost_cap_stops_the_run_and_resume_goes_on(trellis: Trellis, sums: str) -> None:
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Asker", "--model", f"{sums}:Adder",
                  "--max-cost-usd", "0.05", "--jobs", "1", "--json")  # fmt: skip
    assert ran.status == 1
    assert "cost cap: $0.0500 of $0.05" in ran.complaint
    assert ran.document["outcomes"] == {"completed": 1, "cancelled": 1}
    again = trellis("resume", ran.document["run"], "--json")
    assert "cost cap" in again.complaint
    done = trellis("resume", ran.document["run"], "--max-cost-usd", "1", "--json")
    assert done.status == 0, done.err
    assert done.document["outcomes"] == {"completed": 4}
    assert done.document["agents"][0]["cost_usd"] == pytest.approx(0.12)


def test_an_unknown_price_and_a_cap_do_not_go_together(trellis: Trellis, sums: str) -> None:
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Asker", "--model", f"{sums}:Priceless",
                  "--max-cost-usd", "1", "--json")  # fmt: skip
    assert ran.status == 1
    assert "the price of test/adder is unknown" in ran.complaint


def test_faults_are_tried_again_by_resume(trellis: Trellis, sums: str, tmp_path: Path) -> None:
    heal = tmp_path / "healed"
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Troubled", "--model", f"{sums}:Adder",
                  "-S", "trouble=world", "-S", f"heal_file={heal}", "--retries", "0", "--json")  # fmt: skip
    assert ran.document["outcomes"] == {"fault": 4}
    heal.touch()
    again = trellis("resume", ran.document["run"], "--json")
    assert (again.status, again.document["outcomes"]) == (0, {"completed": 4})


def test_a_world_of_ones_own(trellis: Trellis, sums: str) -> None:
    ran = trellis("run", f"{sums}:Sums:world", "--scaffold", f"{sums}:Asker", "--model", f"{sums}:Adder", "--env",
                  "local", "--limit", "2", "--json")  # fmt: skip
    assert ran.status == 0, ran.err
    lines = [json.loads(line) for line in (Path(ran.document["run"]) / "results.jsonl").read_text().splitlines()]
    assert [line["score"]["evidence"]["steps"] for line in lines] == ["3", "3"]


def test_worlds_are_started_ahead_and_only_so_many_at_a_time(
    trellis: Trellis, sums: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, most, labels = 0, 0, []
    start = EnvironmentSpec.start

    async def watched(self: EnvironmentSpec, *, label: str, **rest: Any) -> Environment:
        nonlocal under_way, most
        labels.append(label)
        under_way += 1
        most = max(most, under_way)
        try:
            return await start(self, label=label, **rest)
        finally:
            under_way -= 1

    monkeypatch.setattr(EnvironmentSpec, "start", watched)
    ran = trellis(
        "run", f"{sums}:Sums:world", "--scaffold", f"{sums}:Asker", "--scaffold", "noop", "--scaffold", "oracle",
        "--model", f"{sums}:Adder", "-S", "Asker.votes=1", "--env", "local", "--jobs", "4", "--starts", "1",
        "--warm", "2", "--json",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    run = Path(ran.document["run"])
    assert most == 1
    assert f"{run.name}/warm" in labels
    assert len(labels) == 4, "each world was used, also those that were started ahead, and noop and oracle need none"
    assert "starts = 1\nwarm = 2\n" in (run / "experiment.toml").read_text()


def test_the_oracle_does_all_browser_tasks(trellis: Trellis) -> None:
    ran = trellis("run", "browser:sample", "--scaffold", "oracle", "--env", "local", "--json")
    assert ran.status == 0, ran.err
    assert (ran.document["episodes"], ran.document["metrics"]["score"]) == (30, 1.0)


def test_score_again_from_what_was_handed_in(
    trellis: Trellis, sums: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks = tmp_path / "marks"
    monkeypatch.setenv("SUMS_MARKS", str(marks))
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Asker", "--model", f"{sums}:Adder", "--json")
    asked = marks.read_text()
    again = trellis("score", ran.document["run"], "--json")
    assert again.status == 0, again.err
    assert again.document == ran.document
    assert marks.read_text() == asked
    monkeypatch.setenv("SUMS_BREAK_GRADER", "1")
    broken = trellis("score", ran.document["run"], "--json")
    assert broken.status == 1
    assert broken.document["metrics"] == ran.document["metrics"]
    assert "sum-0 Asker #1: GraderFault: the grader fell over" in broken.err


def test_compare_finished_runs(trellis: Trellis, sums: str) -> None:
    runs = [
        trellis("run", f"{sums}:Sums:plain", "--scaffold", f"{sums}:Asker", "--model", f"{sums}:Adder", "-M",
                f"error_rate={rate}", "--seed", seed, "--json").document["run"]
        for rate, seed in (("0", "0"), ("1", "0"), ("0", "7"))
    ]  # fmt: skip
    ran = trellis("compare", runs[0], runs[1], "--json")
    assert ran.status == 0, ran.err
    first, second = (f"Asker ({Path(run).name[-4:]})" for run in runs[:2])
    assert [row["agent"] for row in ran.document["agents"]] == [first, second]
    assert ran.document["comparisons"][0]["result"]["difference"]["value"] == 0.75
    assert ran.document["warnings"] == []
    cautious = trellis("compare", runs[0], runs[2])
    assert "another seed" in cautious.err
    assert "paired by task" in cautious.out


def test_the_table_shows_what_matters(trellis: Trellis, sums: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "132")
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", "oracle", "--scaffold", "noop", "--epochs", "2")
    for word in ("score", "success", "95 %", "steps", "tokens", "cost", "time", "faults", "flags", "oracle",
                 "noop", "points", "paired by task", "oracle better on these", "report.html"):  # fmt: skip
        assert word in ran.out
    assert "\x1b" not in ran.out
    assert "[16/16]" in ran.err


def test_nothing_of_the_table_is_cut_off_on_80_columns(
    trellis: Trellis, sums: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", "oracle", "--scaffold", "noop")
    table = ran.out.partition("run:")[0]
    assert "…" not in table
    assert all(len(line) <= 80 for line in table.splitlines())
    for word in ("oracle", "1.000", "[1.000, 1.000]", "steps", "tokens", "cost", "faults"):
        assert word in table


def test_clean_tells_of_kept_replies(
    trellis: Trellis, sums: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRELLIS_CACHE", str(tmp_path / "cache"))
    ReplyCache(default_folder()).keep("ab" * 32, Reply(assistant("fine")))
    assert trellis("clean", "--dry-run", "--json").document["replies"]["count"] == 1
    told = trellis("clean", "--dry-run").out.splitlines()[-1]
    assert told.startswith("replies kept by run --cache: 1 (0.0 MB)")
    assert told.endswith(f"remove {tmp_path / 'cache' / 'replies'}")


def test_cache_without_a_folder(trellis: Trellis, sums: str) -> None:
    ran = trellis("run", f"{sums}:Sums:plain", "--scaffold", "noop", "--json", "--cache")
    assert ran.status == 0, ran.err
    assert "cache = true" in (Path(ran.document["run"]) / "experiment.toml").read_text()
