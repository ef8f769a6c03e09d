"""`trellis export`: of a real run and of its episodes, what is written where, and what is said of it."""

import json
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from trellis.models.messages import Image, assistant, user
from trellis.models.model import GenerateConfig, Reply
from trellis.runs import exporting, results
from trellis.runs.cli import invoke
from trellis.runs.exporting import FORMATS, module_of
from trellis.runs.folder import RunFolder
from trellis.trajectories.recorder import Recorder

Trellis = Callable[..., "Ran"]  # type: ignore[name-defined]  # noqa: F821
DOCS = Path(__file__).parents[2] / "docs" / "converters.md"


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two questions, each answered twice at random."""
    runs = tmp_path_factory.mktemp("runs")
    arguments = ["run", "hle:sample", "--model", "offline/chance", "--limit", "2", "--epochs", "2", "--json"]
    assert invoke([*arguments, "--runs-dir", str(runs)]) == 0
    (folder,) = runs.iterdir()
    return folder


@pytest.fixture
def run(once: Path, trellis: Trellis) -> RunFolder:
    """A copy of it, in the folder one is in."""
    return RunFolder(Path(shutil.copytree(once, Path("runs") / once.name)))


def test_a_run_in_every_format(run: RunFolder, trellis: Trellis) -> None:
    keys = list(run.results())
    for format in FORMATS:
        if format in ("aide", "otel"):
            continue
        ran = trellis("export", str(run.path), "--format", format, "-o", f"to-{format}", "--json")
        assert (ran.status, ran.err) == (0, ""), format
        assert ran.document["format"] == format
        assert ran.document["episodes"] == len(keys) == 4
        assert all(Path(file).is_file() for file in ran.document["files"])
    places = {str(path.relative_to("to-atif")) for path in Path("to-atif").rglob("*.json")}
    assert places == {f"hle.sample/{key.task}/{key.agent}/{key.epoch}.json" for key in keys}
    first = run.results()[keys[0]]
    document = json.loads((Path("to-atif") / f"hle.sample/{first.key.task}/{first.key.agent}/1.json").read_text())
    assert first.score is not None
    assert document["extra"]["trellis"]["score"]["value"] == first.score.value
    assert document["extra"]["trellis"]["outcome"] == "completed"
    assert document["steps"][0]["timestamp"].startswith(first.started_at[:13])
    (log,) = Path("to-inspect").iterdir()
    with zipfile.ZipFile(log) as archive:
        header = json.loads(archive.read("header.json"))
        samples = [name for name in archive.namelist() if name.startswith("samples/")]
    assert len(samples) == header["results"]["total_samples"] == 4
    assert header["eval"]["config"]["epochs"] == 2
    metrics = {name: each["value"] for name, each in header["results"]["scores"][0]["metrics"].items()}
    assert metrics == json.loads((run.path / "summary.json").read_text())["agents"][0]["metrics"]
    lines = (Path("to-openai") / "training.jsonl").read_text().splitlines()
    assert len(lines) == 4


def test_an_episode_goes_into_one_file_named_after_it(run: RunFolder, trellis: Trellis) -> None:
    key = next(iter(run.results()))
    ran = trellis("export", f"{run.path}/{key.task}/{key.agent}/1", "--format", "atif")
    name = f"{key.task}-{key.agent}-1.json"
    assert ran.out == f"wrote: {name}\nholds: 1 episode\nnot kept:\n  1 calls of a judge\n"
    assert json.loads(Path(name).read_text())["schema_version"] == "ATIF-v1.7"
    ran = trellis(
        "export", str(run.path / run.episode(key)), "--format", "mini-swe-agent", "-o", "there/x.json", "--json"
    )
    assert ran.document["files"] == ["there/x.json"]
    moved = Path("elsewhere")
    (run.path / run.episode(key)).rename(moved)
    ran = trellis("export", "elsewhere", "--format", "inspect", "-o", "folder", "--json")
    assert ran.document["files"] == [f"folder/{key.task}-{key.agent}-1.eval"]


def test_the_name_of_a_run_may_have_dots(run: RunFolder, trellis: Trellis) -> None:
    run.path.rename("v1.2")
    ran = trellis("export", "v1.2", "--format", "atif", "--json")
    assert (ran.status, ran.err) == (0, "")
    assert {file.split("/")[0] for file in ran.document["files"]} == {"v1-2-atif"}


def test_only_what_is_to_be_learnt_from(run: RunFolder, trellis: Trellis) -> None:
    scored = [result.score.value for result in run.results().values() if result.score]
    ran = trellis("export", str(run.path), "--format", "openai", "-o", "x.jsonl", "--min-score", "0.5", "--json")
    assert ran.document["lines"] == ran.document["episodes"] == sum(value >= 0.5 for value in scored)
    ran = trellis("export", str(run.path), "--format", "openai", "-o", "x.jsonl", "--outcome", "limit", "--json")
    assert (ran.document["lines"], Path("x.jsonl").read_text()) == (0, "")


async def test_predictions_are_written_where_patches_were_handed_in(trellis: Trellis) -> None:
    for task, name in (("one", "model.patch"), ("two", "decision.json")):
        head = {"episode": {"benchmark": "swe", "task": task, "agent": "a", "epoch": 1}, "models": {"main": "m"}}
        recorder = Recorder(Path("run/episodes/swe", task, "a/1"), head)
        answer = {"answer": "", "files": {name: recorder.blobs.store(b"diff --git a/x b/x\n")}}

        async def submit(answer: Mapping[str, Any] = answer) -> Mapping[str, Any]:
            return answer

        await recorder.effect("submit", "main", {"answer": ""}, submit)
        recorder.close()
    Path("run/experiment.toml").write_text("")
    ran = trellis("export", "run", "--format", "mini-swe-agent", "-o", "there", "--json")
    assert {str(Path(file).relative_to("there/swe/a/1")) for file in ran.document["files"]} == {
        "one/one.traj.json", "two/two.traj.json", "preds.json",
    }  # fmt: skip
    assert json.loads(Path("there/swe/a/1/preds.json").read_text()) == {
        "one": {"instance_id": "one", "model_name_or_path": "m", "model_patch": "diff --git a/x b/x\n"}
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere", "--format", "atif"), "nowhere is no trajectory"),
        (("{run}", "--format", "aide"), "no search tree"),
        (("{run}", "--format", "atif", "-o", "x.json"), "x.json is one file, and atif has several for a run"),
        (("{run}", "--format", "atif", "--min-score", "1"), "are for --format openai, not atif"),
        (("{run}", "--format", "openai", "--content"), "are for --format otel, not openai"),
        (("{run}", "--format", "otel", "--endpoint", "http://127.0.0.1:9", "-o", "x.json"), "not both"),
        (("{run}", "--format", "nothing"), "'nothing' is not one of"),
        (("{run}", "--format", "atif", "-o", "/dev/null/x"), "Not a directory"),
    ],
)
def test_what_is_wrong_is_one_line(run: RunFolder, trellis: Trellis, arguments: tuple[str, ...], says: str) -> None:
    ran = trellis("export", *(argument.replace("{run}", str(run.path)) for argument in arguments))
    assert (ran.status, ran.out) == (2, "")
    assert says in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("format", FORMATS)
async def test_damage_is_one_line_and_leaves_no_file(trellis: Trellis, format: str) -> None:
    recorder = Recorder(Path("episode"), {"episode": {"benchmark": "b", "task": "t", "agent": "a", "epoch": 1}})
    picture = Image(b"picture", "image/png")

    async def answer() -> Reply:
        return Reply(assistant("I see."))

    await recorder.generate("main", "main", "m", [user("Look.", picture)], (), GenerateConfig(), answer)
    recorder.once("note.node", "main", data={"id": 0, "parent": None, "branch": "main"})
    recorder.close()
    (blob,) = Path("episode/blobs").iterdir()
    blob.chmod(0o644)
    blob.write_bytes(b"another")
    ran = trellis("export", "episode", "--format", format, "-o", "there/x.out")
    if format == "aide":  # which reads no messages
        assert ran.status == 0
        return
    assert (ran.status, ran.out) == (2, "")
    assert "its content does not have the hash in its name" in ran.err
    assert ran.err.count("\n") == 1
    assert not [path for path in Path("there").rglob("*") if path.is_file()]


def test_what_is_lost_stands_in_the_docs() -> None:
    text = DOCS.read_text("utf-8")
    for format in FORMATS:
        (section,) = re.findall(rf"^#### `{format}`\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE)
        listed = re.findall(r"^- (.+)$", section, re.MULTILINE)
        assert listed == list(module_of(format).LOSSES), format


def test_when_an_episode_began_is_told_by_its_run(run: RunFolder) -> None:
    key, *_ = run.results()
    (episode,) = exporting.episodes_of([run.path / run.episode(key) / "trajectory.jsonl"])
    assert episode.result == results.read(run.path / "results.jsonl")[key]
    assert episode.outcome.started_at is not None
    assert episode.outcome.started_at.isoformat() == episode.result.started_at
