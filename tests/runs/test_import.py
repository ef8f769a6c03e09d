"""`trellis import`: what is printed, where it goes, and that what was imported can be used like what was run here."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from trellis.runs import results
from trellis.trajectories.trajectory import Trajectory

Trellis = Callable[..., "Ran"]  # type: ignore[name-defined]  # noqa: F821
SAMPLES = Path(__file__).parent.parent / "trajectories" / "converters" / "samples"


def test_one_document_says_what_was_imported(trellis: Trellis, tmp_path: Path) -> None:
    ran = trellis("import", str(SAMPLES / "mini-1.traj.json"), "--json")
    assert (ran.status, ran.err) == (0, "")
    path = Path(ran.document["path"])
    assert {name: ran.document[name] for name in ("format", "version", "steps", "tool_calls", "messages", "usage")} == {
        "format": "mini-swe-agent", "version": "1", "steps": 3, "tool_calls": 2, "messages": 8,
        "usage": {"input": 100, "output": 20},
    }  # fmt: skip
    assert ran.document["losses"][0] == {"what": "raw replies of the provider", "count": 1}
    assert path.parent == Path("runs/imported")
    assert path.name.startswith("mini-1-")
    with Trajectory(path) as trajectory:
        assert len(trajectory) == 3
        assert trajectory.header["imported"]["file"] == "mini-1.traj.json"


def test_a_log_of_several_samples_is_a_folder_of_episodes(trellis: Trellis) -> None:
    ran = trellis("import", str(SAMPLES / "inspect.json"), "--to", "there", "--json")
    assert (ran.document["path"], ran.document["steps"], ran.document["tool_calls"]) == ("there", 5, 2)
    assert ran.document["usage"] == {"input": 20, "cache_read": 100, "output": 9}
    assert ran.document["cost_usd"] is None  # of one of them it is not known
    assert [each["path"] for each in ran.document["trajectories"]] == [
        "there/episodes/sums/one/react/1", "there/episodes/sums/2/react/1",
    ]  # fmt: skip
    found = results.read(Path("there/results.jsonl"))
    assert [(key.task, result.outcome, result.score and result.score.value) for key, result in found.items()] == [
        ("one", "completed", 1.0), ("2", "limit", None),
    ]  # fmt: skip
    assert all((Path("there") / result.path / "trajectory.jsonl").is_file() for result in found.values())


def test_a_folder_of_imported_episodes_is_looked_at_like_a_run(trellis: Trellis) -> None:
    trellis("import", str(SAMPLES / "inspect.json"), "--to", "there")
    assert trellis("show", "there/one").out.startswith("sums one · react · epoch 1")
    ran = trellis("resume", "there")
    assert ran.status == 2
    assert ran.complaint.endswith("there was imported: it has no experiment that could be gone on with")


def test_what_is_lost_is_printed(trellis: Trellis) -> None:
    ran = trellis("import", str(SAMPLES / "openhands.json"))
    assert ran.status == 0
    assert "format: openhands V0" in ran.out
    assert "  1 media behind an address (only the address is kept)" in ran.out.splitlines()


def test_importing_again_gives_the_same_bytes(trellis: Trellis) -> None:
    def log() -> bytes:
        return (
            Path(trellis("import", str(SAMPLES / "aide.json"), "--json").document["path"]) / "trajectory.jsonl"
        ).read_bytes()

    assert log() == log()
    assert len(list(Path("runs/imported").iterdir())) == 1


def test_what_lies_there_is_not_overwritten(trellis: Trellis, tmp_path: Path) -> None:
    kept = tmp_path / "mine" / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    ran = trellis("import", str(SAMPLES / "aide.json"), "--to", "mine")
    assert ran.status == 2
    assert ran.complaint == "trellis: mine holds something else already: choose another with --to"
    assert trellis("import", str(SAMPLES / "aide.json"), "--to", "other").status == 0
    assert trellis("import", str(SAMPLES / "atif.json"), "--to", "other").status == 2
    (tmp_path / "other" / "notes.txt").write_text("mine")
    assert trellis("import", str(SAMPLES / "aide.json"), "--to", "other").status == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "other"]
    assert (tmp_path / "other" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "trellis: x.json: No such file or directory"),
        ("[1,", "trellis: x.json: not JSON: Expecting value (line 1, column 4, byte 3)"),
        ("{}", "trellis: x.json is no trajectory of a known format (atif, swe-agent, mini-swe-agent, openhands, aide, "
               "inspect; see --format)"),
        ('{"nodes": [{"id": "a\\u001b[2J"}, {"id": "a\\u001b[2J"}], "node2parent": {}}',
         "trellis: x.json: nodes[1]: there is a node of id 'a\\x1b[2J' already"),
    ],
)  # fmt: skip
def test_what_cannot_be_imported_is_one_line_and_leaves_nothing(
    trellis: Trellis, tmp_path: Path, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "x.json").write_text(content)
    ran = trellis("import", "x.json", "--json")
    assert (ran.status, ran.out) == (2, "")
    assert ran.complaint == says
    assert not list(tmp_path.glob("runs/imported/*"))


def test_commands_that_were_recorded_are_forked_here(trellis: Trellis, tmp_path: Path) -> None:
    """A model of ours goes on where the other framework's had made its first command."""
    path = trellis("import", str(SAMPLES / "mini-1.traj.json"), "--json").document["path"]
    ran = trellis(
        "fork", path, "--at", "1", "--model", "offline/repair", "--env", "local", "--max-steps", "2", "--json"
    )
    assert ran.status == 0, ran.err
    (log,) = Path(ran.document["run"]).rglob("trajectory.jsonl")
    with Trajectory(log) as forked:
        first = forked.step(1)
        assert first.reply is not None
        assert first.reply.cached
        assert [act.call.arguments["command"] for act in first.acts] == ["printf 'a - b\\n' | tee sum.py"]
        assert len(forked) > 1


def test_what_was_imported_is_exported_with_its_outcome(trellis: Trellis) -> None:
    sample = json.loads((SAMPLES / "mini-1.traj.json").read_text())
    sample["info"]["exit_status"] = "LimitsExceeded"
    Path("x.traj.json").write_text(json.dumps(sample))
    path = trellis("import", "x.traj.json", "--json").document["path"]
    assert trellis("export", path, "--format", "mini-swe-agent", "-o", "y.json").status == 0
    assert json.loads(Path("y.json").read_text())["info"]["exit_status"] == "LimitsExceeded"


def test_commands_that_were_recorded_are_replayed_here(trellis: Trellis) -> None:
    path = trellis("import", str(SAMPLES / "mini-2.traj.json"), "--json").document["path"]
    ran = trellis("replay", path, "--env", "local")
    assert ran.status == 0, ran.out
    assert ran.out.splitlines()[-2].endswith("3 calls: 2 equal, 1 not replayed")
