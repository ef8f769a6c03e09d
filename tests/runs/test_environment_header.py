"""What an experiment decides about worlds, and what the header of a trajectory says about them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trellis.environments.content import files_digest, source_digest
from trellis.environments.describe import describe
from trellis.environments.environment import EnvironmentSpec, EnvironmentUnavailable, Files, Resources
from trellis.runs.experiment import EnvironmentChoice

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "orders"
Trellis = Callable[..., Any]


def engine_facts(image: str) -> Any:
    from trellis.environments.docker import engine
    from trellis.environments.docker.base_image import base_image_name

    try:
        return engine.find_image(image or base_image_name())
    except EnvironmentUnavailable as reason:
        pytest.skip(f"docker is not to be had here: {reason}")


def test_what_a_run_decides() -> None:
    choice = EnvironmentChoice(kind="docker", runtime="runsc", inodes=500, cpus=1)
    spec = choice.of(EnvironmentSpec(resources=Resources(pids=7), setup="x", dockerfile="folder"))
    assert (spec.kind, spec.runtime, spec.setup, spec.dockerfile) == ("docker", "runsc", "x", "folder")
    assert spec.resources == Resources(pids=7, inodes=500, cpus=1)
    assert EnvironmentChoice().of(spec) == spec
    assert EnvironmentChoice(image="mine:1").of(spec).dockerfile == ""


def test_on_the_command_line(trellis: Trellis, sums: str) -> None:
    ran = trellis("run", f"{sums}:Sums:world", "--scaffold", "noop", "-E", "inodes=0")
    assert (ran.status, ran.complaint) == (2, "trellis: environment.inodes: input should be greater than or equal to 1")
    ran = trellis("run", f"{sums}:Sums:world", "--scaffold", "noop", "-E", "run_time=x")
    assert ran.status == 2
    assert "environment.run_time" in ran.complaint


@pytest.mark.docker
def test_a_runtime_that_the_engine_lacks(trellis: Trellis, sums: str) -> None:
    engine_facts("")
    ran = trellis("run", f"{sums}:Sums:world", "--scaffold", "noop", "--env", "docker", "-E", "runtime=no-such")
    assert ran.status == 2
    assert "this engine has no runtime 'no-such', only " in ran.complaint
    assert not Path("runs").exists()


async def test_a_recipe_is_described_whole(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("content")
    files = (Files(str(tmp_path / "folder"), "data"), Files("/no/such/file", "x"))
    spec = EnvironmentSpec(
        kind="sandbox",
        files=files,
        setup="make",
        setup_network="full",
        env={"A": "b"},
        hidden=("h",),
        preload=("json",),
    )
    found = await describe(spec)
    assert json.loads(json.dumps(found)) == found
    assert found["files"] == [
        {"source": str(tmp_path / "folder"), "target": "data", "sha256": source_digest(str(tmp_path / "folder"))},
        {"source": "/no/such/file", "target": "x", "sha256": None},
    ]
    assert (found["kind"], found["setup"], found["env"]) == ("sandbox", "make", {"A": "b"})
    assert (found["hidden"], found["preload"]) == (["h"], ["json"])
    assert found["network"] == {"network": "none", "allow": []}
    assert found["setup_network"] == {"network": "full", "allow": []}
    assert found["resources"]["memory_mb"] == 4096
    assert files_digest(files[:1])


@pytest.mark.docker
async def test_an_image_is_named_with_its_id(tmp_path: Path) -> None:
    from trellis.environments.docker.base_image import base_image_name

    facts = engine_facts("")
    found = await describe(EnvironmentSpec(kind="docker"))
    assert found["image"] == {"name": base_image_name(), "id": facts["Id"], "digests": facts["RepoDigests"] or []}
    missing = await describe(EnvironmentSpec(kind="docker", image="no-such-image:ever"))
    assert missing["image"] == {"name": "no-such-image:ever", "id": None, "digests": []}


@pytest.mark.docker
async def test_what_is_built_is_named_with_its_content(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="needs PyYAML")
    base = engine_facts("")["Id"]
    found = (await describe(EnvironmentSpec(kind="docker", compose=str(EXAMPLE / "compose.yaml"))))["compose"]
    assert found["sha256"] == hashlib.sha256((EXAMPLE / "compose.yaml").read_bytes()).hexdigest()
    assert found["service"] == "agent"
    assert found["services"]["prices"]["image"]["id"] == base
    shop = found["services"]["shop"]["build"]
    assert list(shop["from"].values()) == [base]
    assert len(shop["sha256"]) == 64

    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    spec = EnvironmentSpec(kind="docker", dockerfile=str(tmp_path))
    one = (await describe(spec))["dockerfile"]
    (tmp_path / "Dockerfile").write_text("FROM scratch\nUSER x\n")
    two = (await describe(spec))["dockerfile"]
    assert one["sha256"] != two["sha256"]
    assert one["file"] == str(tmp_path / "Dockerfile")


def test_the_header_of_a_run(trellis: Trellis, sums: str) -> None:
    command = ["--scaffold", f"{sums}:Asker", "-S", "votes=1", "--model", f"{sums}:Adder", "--limit", "1"]
    ran = trellis("run", f"{sums}:Sums:world", *command, "--env", "local", "-E", "memory_mb=512", "--json")
    assert ran.status == 0, ran.err
    (log,) = Path("runs").rglob("trajectory.jsonl")
    header = json.loads(log.read_text().splitlines()[0])
    assert header["environment"]["kind"] == "local"
    assert header["environment"]["resources"]["memory_mb"] == 512
    assert header["environment"]["network"] == {"network": "none", "allow": []}


def test_a_kind_of_world_of_another_package(
    trellis: Trellis, sums: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "somebodys_package-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys-package\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[trellis.environments]\ntheirs = trellis.environments.local\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    command = ["--scaffold", f"{sums}:Asker", "-S", "votes=1", "--model", f"{sums}:Adder", "--limit", "1"]
    ran = trellis("run", f"{sums}:Sums:world", *command, "--env", "theirs", "--json")
    assert ran.status == 0, ran.err
    (log,) = Path("runs").rglob("trajectory.jsonl")
    assert json.loads(log.read_text().splitlines()[0])["environment"]["kind"] == "theirs"
    assert trellis("run", str(Path(ran.document["run"], "experiment.toml")), "--json").status == 0


@pytest.mark.docker
@pytest.mark.slow
def test_the_example_with_services_runs(trellis: Trellis, tmp_path: Path) -> None:
    """A model that answers from the services, through the whole command line."""
    pytest.importorskip("yaml", reason="needs PyYAML")
    engine_facts("")
    (tmp_path / "asks.py").write_text(
        """
class Asks:
    name = "asks"

    async def solve(self, episode):
        from trellis.models.messages import ToolCall

        code = (
            "import json, urllib.request as u; "
            "g = lambda what: json.load(u.urlopen('http://shop:8000/' + what, timeout=20)); "
            "p = g('prices'); print(sum(o['count'] * p[o['item']] for o in g('orders') if o['paid']))"
        )
        said = await episode.act(ToolCall("one", "shell", {"command": f'python3 -c "{code}"'}))
        await episode.submit(said.text.strip())
"""
    )
    benchmark = f"{EXAMPLE / 'orders.py'}:Orders"
    ran = trellis("run", benchmark, "--scaffold", "asks.py:Asks", "--json", "--retries", "0")
    assert ran.status == 0, ran.err
    results = [
        json.loads(line) for path in Path("runs").rglob("results.jsonl") for line in path.read_text().splitlines()
    ]
    assert [result["outcome"] for result in results] == ["completed"]
    assert results[0]["score"]["value"] == 1.0
    (log,) = Path("runs").rglob("trajectory.jsonl")
    header = json.loads(log.read_text().splitlines()[0])
    assert header["environment"]["compose"]["services"]["shop"]["build"]["sha256"]
