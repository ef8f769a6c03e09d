"""Worlds: started lazily, forked, and rebuilt from the log after the process that held them is gone."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from trellis.environments import store
from trellis.environments.environment import Environment, EnvironmentFault, EnvironmentSpec, Files
from trellis.models.messages import Text, ToolCall
from trellis.scaffolds import world
from trellis.scaffolds.episode import Budget, Episode
from trellis.scaffolds.task import Submission, Task
from trellis.scaffolds.world import Diverged
from trellis.tools import catalog
from trellis.trajectories.log import read

SPEC = EnvironmentSpec(kind="local", setup="echo from-setup > setup.txt")


async def collect(environment: Environment | None, answer: str) -> Submission:
    assert environment is not None
    listing = await environment.exec("cat *.txt")
    return Submission(answer, {"all.txt": listing.stdout})


@asynccontextmanager
async def episode(folder: Path, spec: EnvironmentSpec = SPEC) -> AsyncIterator[Episode]:
    async with Episode.open(
        folder,
        task=Task("t", (Text("do it"),), environment=spec),
        tools=catalog.make(["shell", "edit", "python", "submit"]),
        models={},
        seed=1,
        budget=Budget(),
        collect=collect,
        label="test/world",
        environment=spec,
        header={"episode": "e1"},
    ) as opened:
        yield opened


def started(folder: Path) -> list[str]:
    return [event["kind"] for event in read(folder / "trajectory.jsonl")]


async def shell(opened: Episode, command: str) -> str:
    return (await opened.use("shell", command=command)).text


async def test_a_lost_world_is_rebuilt_by_the_recorded_calls(tmp_path: Path) -> None:
    async with episode(tmp_path) as opened:
        await shell(opened, "echo one > a.txt; cd /; X=kept")
        assert await shell(opened, "echo $X; pwd") == "kept\n/"
    async with episode(tmp_path) as opened:
        await shell(opened, "echo one > a.txt; cd /; X=kept")
        assert await shell(opened, "echo $X; pwd") == "kept\n/"
        # Not recorded: needs the world as the two calls left it, folder and variables included.
        assert await shell(opened, 'cd - > /dev/null; echo "$X $(cat a.txt setup.txt)"') == "kept one\nfrom-setup"
    assert "divergence" not in started(tmp_path)


async def test_the_variables_of_cells_come_back_with_a_rebuilt_world(tmp_path: Path) -> None:
    async def work(opened: Episode) -> list[str]:
        cells = ("x = 20", "def f(): return x\nf", "1 / 0", "import os; os._exit(3)", "x = 21")
        return [(await opened.use("python", code=code)).text for code in cells]

    async with episode(tmp_path) as opened:
        first = await work(opened)
    async with episode(tmp_path) as opened:
        assert await work(opened) == first
        assert (await opened.use("python", code="x * 2, 'f' in globals()")).text == "(42, False)"
    assert "divergence" not in started(tmp_path)


async def test_an_episode_answered_from_its_log_starts_no_world(tmp_path: Path) -> None:
    async def work(opened: Episode) -> tuple[str, Submission]:
        said = await shell(opened, "echo one > a.txt; cat a.txt")
        await opened.act(ToolCall("s", "submit", {"answer": "done"}))
        return said, await opened.finish()

    async with episode(tmp_path) as opened:
        first = await work(opened)
    assert first[1].files["all.txt"] == b"one\nfrom-setup\n"
    impossible = EnvironmentSpec(kind="local", setup="exit 1")
    async with episode(tmp_path, impossible) as opened:
        assert await work(opened) == first


async def test_branches_work_in_forks_and_hand_in_from_them(tmp_path: Path) -> None:
    async def work(opened: Episode, last: bool) -> bytes:
        await shell(opened, "echo root > a.txt")
        async with opened.branch("left") as left:
            await shell(left, "echo left >> a.txt")
            state = await left.snapshot()
        async with opened.branch("right") as right:
            assert await shell(right, "cat a.txt") == "root"
            await shell(right, "rm a.txt")
        async with opened.branch("grandchild", at=state) as grandchild:
            assert await shell(grandchild, "cat a.txt") == "root\nleft"
            if last:
                await shell(grandchild, "echo grandchild >> a.txt")
                await grandchild.submit("best")
        assert await shell(opened, "cat a.txt") == "root"
        return (await opened.finish()).files["all.txt"] if last else b""

    async with episode(tmp_path) as opened:
        await work(opened, last=False)
    # The state of the left branch was lost with its world: it is rebuilt for the one call that was not recorded.
    async with episode(tmp_path) as opened:
        assert await work(opened, last=True) == b"root\nleft\ngrandchild\nfrom-setup\n"
    assert "divergence" not in started(tmp_path)


async def test_a_world_that_answers_differently_when_rebuilt_is_a_fault(tmp_path: Path) -> None:
    counter = tmp_path / "outside.txt"
    command = f"echo counted; echo x >> {counter}; wc -l < {counter}"
    async with episode(tmp_path / "e") as opened, opened.branch("b") as branch:
        assert await shell(branch, command) == "counted\n1"
    async with episode(tmp_path / "e") as opened, opened.branch("b") as branch:
        assert await shell(branch, command) == "counted\n1"
        with pytest.raises(Diverged) as fault:
            await shell(branch, "true")
    assert str(fault.value) == (
        "the world of branch main/b cannot be rebuilt: call 1 of it (shell, main/b-use-1) was answered differently "
        "this time; line 2 was '1' and is '2'"
    )
    divergence = next(e for e in read(tmp_path / "e" / "trajectory.jsonl") if e["kind"] == "divergence")
    assert (divergence["branch"], divergence["recorded"], divergence["now"]) == ("main/b", "counted\n1", "counted\n2")


def outside(folder: Path) -> tuple[str, Callable[[], int]]:
    """A command that the world outside sees, and how often it did."""
    counter = folder / "outside.txt"
    return f"echo x >> {counter}", lambda: len(counter.read_text().splitlines())


async def test_after_a_fault_worlds_go_on_from_their_snapshots(tmp_path: Path) -> None:
    command, seen = outside(tmp_path)

    async def work(opened: Episode, further: bool) -> str:
        await shell(opened, f"{command}; echo root > a.txt")
        async with opened.branch("b") as branch:
            await shell(branch, "echo branch >> a.txt")
            if not further:
                raise EnvironmentFault("the world broke")
            return await shell(branch, "cat a.txt") + await shell(opened, "cat a.txt")

    with pytest.raises(EnvironmentFault, match="broke"):
        async with episode(tmp_path / "e") as opened:
            await work(opened, further=False)
    assert list(store.labelled("test/world", dead_only=False))  # kept for whoever goes on
    async with episode(tmp_path / "e") as opened:
        assert await work(opened, further=True) == "root\nbranchroot"
    assert seen() == 1
    assert list(store.labelled("test/world", dead_only=False)) == []

    async with episode(tmp_path / "e") as opened:  # it came to its end, so they are gone, and made again if need be
        assert await work(opened, further=True) == "root\nbranchroot"
        await shell(opened, "true")
    assert seen() == 2


@pytest.mark.parametrize("running", ["", "sleep 100 > /dev/null 2>&1 &"])
async def test_a_long_episode_goes_on_from_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: str
) -> None:
    monkeypatch.setattr(world, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(world, "CHECKPOINT_SHARE", 0)
    command, seen = outside(tmp_path)

    async def work(opened: Episode, calls: int, broken: bool = False) -> str:
        await shell(opened, f"mkdir d; cd d; X=0; {running}")
        for _ in range(calls):
            await shell(opened, f"{command}; X=$((X + 1)); echo $X >> n.txt")
        if broken:
            raise EnvironmentFault("the world broke")
        return await shell(opened, "pwd | grep -o '[^/]*$'; echo $(cat n.txt)")

    with pytest.raises(EnvironmentFault, match="broke"):
        async with episode(tmp_path / "e") as opened:
            await work(opened, calls=3, broken=True)
    kept = list(store.labelled("test/world", dead_only=False))
    assert len(kept) == (0 if running else 1)  # the others went when it came; and what runs is in none
    async with episode(tmp_path / "e") as opened:
        assert await work(opened, calls=4) == "d\n1 2 3 4"
    assert seen() == (7 if running else 4)


async def test_snapshots_of_before_the_machine_started_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, seen = outside(tmp_path)

    async def work(opened: Episode, further: bool) -> str:
        await shell(opened, f"{command}; echo root > a.txt")
        async with opened.branch("b") as branch:
            if not further:
                raise EnvironmentFault("the world broke")
            return await shell(branch, "cat a.txt")

    with pytest.raises(EnvironmentFault, match="broke"):
        async with episode(tmp_path / "e") as opened:
            await work(opened, further=False)
    assert "snapshot" in started(tmp_path / "e")
    monkeypatch.setattr(store, "boot", lambda: "another")
    async with episode(tmp_path / "e") as opened:
        assert await work(opened, further=True) == "root"
    assert seen() == 2


async def test_a_checkpoint_holds_no_more_than_what_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "CHECKPOINT_S", 0.0)
    async with episode(tmp_path) as opened:
        inner = opened._world
        calls = [ToolCall(f"c{n}", "shell", {"command": f"echo {n} > {n}.txt"}) for n in range(2)]
        results = [(await inner.perform(call))[0] for call in calls]  # side by side, both are done
        await inner.remember(calls[0], results[0], performed=True)
        assert "snapshot" not in started(tmp_path)
        await inner.remember(calls[1], results[1], performed=True)
        assert "snapshot" in started(tmp_path)


async def test_a_world_in_which_a_secret_was_printed_is_rebuilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", 'very"secret')

    async def work(opened: Episode) -> None:
        await shell(opened, "printf 'Authorization: Bearer abcdefghijkl\\n'; echo 'very\"secret'")

    async with episode(tmp_path) as opened:
        await work(opened)
    assert "secret" not in (tmp_path / "trajectory.jsonl").read_text().replace("echo", "").split("act.done")[1]
    async with episode(tmp_path) as opened:
        await work(opened)
        assert await shell(opened, "echo on") == "on"
    assert "divergence" not in started(tmp_path)


async def test_what_only_a_tool_knows_is_in_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "CHECKPOINT_S", 0.0)
    async with episode(tmp_path) as opened:
        await opened.use("edit", command="create", path="a.txt", file_text="one")
        await shell(opened, "cat a.txt")
    assert "snapshot" not in started(tmp_path)
    async with episode(tmp_path) as opened:
        await opened.use("edit", command="create", path="a.txt", file_text="one")
        await shell(opened, "cat a.txt")
        await opened.use("edit", command="undo", path="a.txt")
        assert await shell(opened, "ls") == "setup.txt"


async def test_the_models_mistakes_become_results(tmp_path: Path) -> None:
    async with episode(tmp_path) as opened:
        for call, expected in [
            (ToolCall("1", "shel", {}), "there is no tool 'shel'; there are: shell, edit, python, submit"),
            (ToolCall("2", "python", {}), "code: Field required"),
            (ToolCall("3", "shell", {"command": "ls", "cwd": "/"}), "cwd: Extra inputs are not permitted"),
            (ToolCall("4", "shell", malformed='{"command": '), "not a JSON object"),
        ]:
            result = await opened.act(call)
            assert result.is_error
            assert expected in result.text


async def test_files_of_the_task_are_in_every_world(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    (data / "deep" / "x.csv").write_text("1,2\n")
    spec = EnvironmentSpec(kind="local", files=(Files(str(data), "input"),), setup="wc -l < input/deep/x.csv > n.txt")
    async with episode(tmp_path / "e", spec) as opened, opened.branch("b") as branch:
        assert await shell(branch, "cat input/deep/x.csv n.txt") == "1,2\n1"


async def test_setup_that_fails_is_a_fault(tmp_path: Path) -> None:
    spec = EnvironmentSpec(kind="local", setup="echo no such thing >&2; exit 3")
    async with episode(tmp_path, spec) as opened:
        with pytest.raises(EnvironmentFault, match="no such thing"):
            await shell(opened, "true")


def dead(pid: int) -> bool:
    """Ended, whoever reaps it."""
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(") ")[2].startswith("Z")


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize("finish", [True, False])
async def test_an_episode_that_is_over_leaves_no_process(tmp_path: Path, finish: bool) -> None:
    async with episode(tmp_path) as opened:
        pid = int(await shell(opened, "touch a.txt; sleep 1000 > /dev/null 2>&1 & echo $!"))
        assert not dead(pid)
        if finish:  # grading comes after this
            await opened.finish()
            assert dead(pid)
    assert dead(pid)
