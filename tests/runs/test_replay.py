"""`trellis replay`: recorded calls are made again in fresh worlds, and every difference is told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trellis.environments.environment import EnvironmentUnavailable

Trellis = Callable[..., "Ran"]  # type: ignore[name-defined]  # noqa: F821
Record = Callable[..., str]

COMMANDS = Path(__file__).parent / "parts" / "commands.py"


@pytest.fixture
def record(trellis: Trellis, sums: str) -> Record:
    """Runs commands as an episode, and names the run."""

    def run(
        *first: str,
        forked: tuple[str, ...] = (),
        kind: str = "local",
        epochs: int = 1,
        limit: int = 1,
        more: tuple[str, ...] = (),
    ) -> str:
        ran = trellis(
            "run", f"{sums}:Sums:world", "--scaffold", f"{COMMANDS}:Commands", "--model", f"{sums}:Adder",
            "-S", f"first={json.dumps(first)}", "-S", f"forked={json.dumps(forked)}", "--env", kind,
            "--limit", str(limit), "--epochs", str(epochs), *more, "--json",
        )  # fmt: skip
        assert ran.status == 0, ran.err
        path: str = ran.document["run"]
        return path

    return run


def need_docker() -> None:
    from trellis.environments.docker import engine
    from trellis.environments.docker.base_image import base_image_name

    try:
        engine.find_image(base_image_name())
    except EnvironmentUnavailable as reason:
        pytest.skip(f"docker is not to be had here: {reason}")


def calls(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Without the handing in at the end."""
    (episode,) = document["episodes"]
    return [call for call in episode["calls"] if call["tool"] != "submit" or call["branch"] != "main"]


@pytest.mark.parametrize("kind", ["local", "sandbox", pytest.param("docker", marks=pytest.mark.docker)])
def test_what_does_the_same_is_the_same(trellis: Trellis, record: Record, kind: str) -> None:
    if kind == "docker":
        need_docker()
    run = record("echo one > a; cat a", "cat gone", "exit 3", forked=("cat a; echo x >> steps.txt", "ls"), kind=kind)
    ran = trellis("replay", run, "--json")
    assert ran.status == 0, ran.out
    made = calls(ran.document)
    assert [call["verdict"] for call in made] == ["equal"] * 7
    assert [call["branch"] for call in made] == ["main"] * 3 + ["main/fork-0"] * 2 + ["main/fork-1"] * 2
    assert [call["tool"] for call in made][-2:] == ["shell", "submit"]
    assert ran.document["tasks"] == [
        {"task": "sum-0", "episodes": 1, "same": 1, "calls": 7, "exact": 1.0, "score": 1.0}
    ]


def test_what_no_program_has_in_its_hand_is_forgiven_and_shown(trellis: Trellis, record: Record) -> None:
    run = record("date +%H:%M:%S.%N", "echo $$", "mktemp", "python3 -c 'print(object())'")
    ran = trellis("replay", run)
    assert ran.status == 0, ran.out
    assert "4 normalised" in ran.out
    for what in ("time: ", "pid: ", "temporary path: /tmp/tmp.", "address: 0x"):
        assert what in ran.out
    document = trellis("replay", run, "--json").document
    assert document["tasks"][0]["exact"] == 1 / 5
    assert document["tasks"][0]["score"] == 1.0


RANDOM = "head -c 8 /dev/urandom | od -An -tx1"


def test_the_first_difference_is_found_where_it_is(trellis: Trellis, record: Record) -> None:
    run = record("echo before", RANDOM, "echo after")
    ran = trellis("replay", run, "--json")
    assert ran.status == 1
    assert [call["verdict"] for call in calls(ran.document)] == ["equal", "different", "equal"]
    wrong = calls(ran.document)[1]
    assert (wrong["step"], wrong["why"], wrong["difference"]["line"]) == (2, "another observation", 1)
    stopped = trellis("replay", run, "--stop-at-first", "--json")
    assert len(calls(stopped.document)) == 2
    shown = trellis("replay", run)
    assert shown.status == 1
    assert "1 different" in shown.out
    assert "--- recorded" in shown.out


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("cat {outside}", "another observation"),
        ("grep -q one {outside}", "exit code 1, was 0"),
        ("cp {outside} copy", "other files"),
    ],
)
def test_what_hangs_on_the_world_outside_differs(
    trellis: Trellis, record: Record, tmp_path: Path, command: str, why: str
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("one\n")
    run = record(command.format(outside=outside))
    outside.write_text("two\n")
    (call,) = calls(trellis("replay", run, "--json").document)
    assert (call["verdict"], call["why"]) == ("different", why)
    if why == "other files":
        assert call["files"][0].startswith("copy: sha256 ")


def test_what_is_handed_in_is_compared(trellis: Trellis, record: Record, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("x\n")
    run = record("true", forked=(f"cp {outside} steps.txt",))
    outside.write_text("x\nx\n")
    made = calls(trellis("replay", run, "--json").document)
    assert (made[-1]["tool"], made[-1]["verdict"], made[-1]["files"]) == ("submit", "different", ["steps"])


def test_a_part_of_a_trajectory(trellis: Trellis, record: Record) -> None:
    run = record("echo a > a", RANDOM, forked=("cat a", RANDOM))
    assert trellis("replay", run, "--upto", "1").status == 0
    assert trellis("replay", run, "--upto", "main:2").status == 1
    made = calls(trellis("replay", run, "--branch", "main/fork-0", "--json").document)
    assert {call["branch"] for call in made} == {"main", "main/fork-0"}
    assert "has no branch 'side'" in trellis("replay", run, "--branch", "side").complaint


def test_another_kind_of_world_is_said(trellis: Trellis, record: Record) -> None:
    run = record("echo hello")
    ran = trellis("replay", run, "--env", "sandbox")
    assert ran.status == 0, ran.out
    assert "recorded in local, replayed in sandbox" in ran.out


def test_a_whole_run_has_a_score_for_each_task(trellis: Trellis, record: Record) -> None:
    run = record("echo hello", RANDOM, epochs=2, limit=2)
    ran = trellis("replay", run, "--json")
    assert ran.status == 1
    assert ran.document["tasks"] == [
        {"task": f"sum-{i}", "episodes": 2, "same": 0, "calls": 6, "exact": 4 / 6, "score": 4 / 6} for i in range(2)
    ]
    assert [task["task"] for task in trellis("replay", run, "--tasks", "*-1", "--json").document["tasks"]] == ["sum-1"]
    shown = trellis("replay", run)
    assert "66.7%" in shown.out
    assert "sum-1/Commands/2: different at step 2: another observation" in shown.err
    assert "sum-1/Commands/2: 3 calls: 2 equal, 1 different" in shown.err
    assert "has no task 'gone'" in trellis("replay", run, "--tasks", "gone").complaint


def test_hostile_output_does_not_steer_the_terminal(trellis: Trellis, record: Record) -> None:
    run = record(f"printf '\\033]0;title\\007\\033[2J'; {RANDOM}")
    shown = trellis("replay", run)
    assert shown.status == 1
    assert "\x1b" not in shown.out
    assert "\x07" not in shown.out


def test_flags_of_the_other_kind_of_replay_are_refused(trellis: Trellis, record: Record) -> None:
    run = record("true")
    assert trellis("replay", run, "-S", "x=1").complaint == "trellis: -S goes with --recorded"
    assert trellis("replay", run, "--recorded", "--upto", "1").complaint == "trellis: --upto goes without --recorded"


def test_what_was_never_done_is_not_done_and_said(trellis: Trellis, record: Record) -> None:
    run = record("echo yes", "echo secret", forked=("echo yes",),
                 more=("-S", "strange=true", "--approve", "shell:*secret*=deny"))  # fmt: skip
    made = calls(trellis("replay", run, "--json").document)
    assert [(call["verdict"], call["why"]) for call in made] == [
        ("equal", ""),
        ("not replayed", "it was denied"),
        ("not replayed", "there is no such tool here"),
        ("not replayed", "its arguments were malformed: nothing was done"),
        ("equal", ""),
        ("equal", ""),
    ]
    assert "not replayed: it was denied" in trellis("replay", run).out


def test_a_call_that_was_cut_off_is_not_made(trellis: Trellis, record: Record) -> None:
    run = record("echo one", "echo two")
    (log,) = Path(run).glob("episodes/**/trajectory.jsonl")
    lines = log.read_bytes().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if b'"kind":"act.begun"' in line)
    log.write_bytes(b"".join(lines[: last + 1]))
    made = calls(trellis("replay", run, "--json").document)
    assert [call["verdict"] for call in made] == ["equal", "not replayed"]
    assert "cut off" in made[1]["why"]


def test_a_world_that_cannot_be_had_is_a_fault_and_no_difference(trellis: Trellis, record: Record) -> None:
    run = record("echo before")
    elsewhere = ("--env", "docker", "-E", "image=no-such-image:1")
    ran = trellis("replay", run, *elsewhere, "--json")
    assert ran.status == 1
    (episode,) = ran.document["episodes"]
    assert (episode["calls"], episode["same"]) == ([], False)
    assert episode["fault"]
    shown = trellis("replay", run, *elsewhere)
    assert shown.status == 1
    assert "0 calls: nothing to replay, and then a fault\n  fault: " in shown.out


def test_a_secret_is_compared_as_the_log_holds_it(
    trellis: Trellis, record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "a-very-secret-thing")
    (tmp_path / "outside").write_text("a-very-secret-thing 1\n")
    run = record(f"cat {tmp_path}/outside")
    assert trellis("replay", run).status == 0
    (tmp_path / "outside").write_text("a-very-secret-thing 2\n")
    shown = trellis("replay", run)
    assert shown.status == 1
    assert "[redacted] 2" in shown.out
    assert "very-secret" not in shown.out


def imported(commands: list[tuple[str, int, str]]) -> dict[str, Any]:
    """A trajectory of mini-swe-agent with these commands, exit codes and outputs."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": "s"}, {"role": "user", "content": "Do it."}]
    for command, code, output in commands:
        messages.append({"role": "assistant", "content": f"THOUGHT: so.\n\n```bash\n{command}\n```"})
        told = f"<returncode>{code}</returncode>\n<output>\n{output}</output>"
        messages.append({"role": "user", "content": told})
    return {"trajectory_format": "mini-swe-agent-1", "info": {"exit_status": "Submitted"}, "messages": messages}


def test_what_was_recorded_elsewhere_is_replayed_where_it_ran_commands(trellis: Trellis, tmp_path: Path) -> None:
    (tmp_path / "x.traj.json").write_text(
        json.dumps(
            imported([("echo one > a; cat a", 0, "one\n"), ("cat a; (exit 3)", 3, "one\n"), ("echo 1", 0, "2\n")])
        )
    )
    ran = trellis("import", "x.traj.json")
    assert ran.status == 0, ran.err
    (log,) = tmp_path.glob("**/trajectory.jsonl")
    shown = trellis("replay", str(log), "--env", "sandbox", "--json")
    assert shown.status == 1
    (episode,) = shown.document["episodes"]
    assert [call["verdict"] for call in episode["calls"]] == ["equal", "equal", "different"]
    assert "which files 3 calls changed was not recorded" in episode["notes"][-1]
