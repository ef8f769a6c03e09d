"""What every environment must do, as tests that anybody can run over their own.

    class TestMine(EnvironmentConformance):
        spec = EnvironmentSpec(kind="local")      # or whatever starts yours

pytest and pytest-asyncio are needed. Tests that leave nothing behind share the world `world`; the others start theirs.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import ClassVar, Protocol

import pytest
import pytest_asyncio

from trellis.environments.environment import Environment, EnvironmentFault, EnvironmentSpec
from trellis.environments.guest.streams import OUTPUT_CAP_BYTES

ME = os.getpid()
"""In the name of whatever could be taken for that of another process that runs this suite beside this one."""
LABEL = f"conformance-{ME}"


class Start(Protocol):
    """Starts a world: the one under test, or another."""

    async def __call__(self, spec: EnvironmentSpec | None = None) -> Environment: ...


async def gone(world: Environment, marker: str, *, within_s: float = 5.0) -> bool:
    """Is no process left in the world whose command line has `marker`?"""
    deadline = time.monotonic() + within_s
    pattern = f"[{marker[0]}]{marker[1:]}"  # does not find itself
    while time.monotonic() < deadline:
        if not (
            await world.exec(f"cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q {shlex.quote(pattern)}")
        ).ok:
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.mark.conformance
@pytest.mark.asyncio(loop_scope="class")
class EnvironmentConformance:
    spec: ClassVar[EnvironmentSpec]

    @pytest_asyncio.fixture(loop_scope="class", scope="class")
    @classmethod
    async def start(cls) -> AsyncIterator[Start]:
        """Starts worlds and closes them after the class."""
        started: list[Environment] = []

        async def start(spec: EnvironmentSpec | None = None) -> Environment:
            world = await (spec or cls.spec).start(label=LABEL)
            started.append(world)
            return world

        yield start
        for world in started:
            await world.close()

    @pytest_asyncio.fixture(loop_scope="class", scope="class")
    @classmethod
    async def world(cls, start: Start) -> Environment:
        return await start()

    # --- exec ---

    async def test_streams_are_apart_and_exact(self, world: Environment) -> None:
        result = await world.exec(["bash", "-c", r"printf '\x00\xff\n'; printf '\xfe' >&2; exit 7"])
        assert (result.stdout, result.stderr) == (b"\x00\xff\n", b"\xfe")
        assert (result.exit_code, result.signal, result.timed_out, result.ok) == (7, None, False, False)

    async def test_a_string_is_bash_and_a_sequence_is_not(self, world: Environment) -> None:
        assert (await world.exec("[[ a == a* ]] && echo $((1+1))")).stdout == b"2\n"
        assert (await world.exec(["echo", "$((1+1))", "a b"])).stdout == b"$((1+1)) a b\n"

    async def test_a_signal_is_told_apart(self, world: Environment) -> None:
        result = await world.exec("kill -SEGV $$")
        assert (result.exit_code, result.signal, result.timed_out) == (139, 11, False)

    async def test_a_missing_program_and_a_missing_folder(self, world: Environment) -> None:
        missing = await world.exec(["no-such-program"])
        assert missing.exit_code == 127
        assert b"no-such-program" in missing.stderr
        assert (await world.exec(["true"], cwd="no/such/folder")).exit_code == 126

    async def test_standard_input(self, world: Environment) -> None:
        data = bytes(range(256)) * 4000  # more than a pipe holds
        assert (await world.exec(["cat"], stdin=data)).stdout == data
        assert (await world.exec(["cat"])).stdout == b""

    async def test_variables_and_folder(self, world: Environment) -> None:
        result = await world.exec('echo "$X"; pwd', env={"X": "a 'b' $c"}, cwd="/")
        assert result.stdout == b"a 'b' $c\n/\n"
        assert (await world.exec("pwd")).stdout.decode().strip() == world.workdir

    async def test_the_host_s_variables_stay_outside(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOME_API_KEY", "sk-secret-of-the-host")
        world = await start()
        everything = await world.exec("env; cat /proc/[0-9]*/environ 2>/dev/null", timeout_s=20)
        if self.spec.kind != "local":  # local sees the host's processes
            assert b"sk-secret-of-the-host" not in everything.stdout
        assert b"sk-secret-of-the-host" not in (await world.exec("env")).stdout
        await world.close()

    async def test_the_same_clean_variables_everywhere(self, world: Environment) -> None:
        names = ("LANG", "TZ", "PYTHONHASHSEED", "OMP_NUM_THREADS")
        shown = await world.exec(" ".join(["printf '%s '", *(f'"${name}"' for name in names)]))
        assert shown.stdout == b"C.UTF-8 UTC 0 1 "

    async def test_long_output_is_cut_and_kept(self, world: Environment) -> None:
        result = await world.exec("seq 1 600000; echo the end")
        assert len(result.stdout) < OUTPUT_CAP_BYTES + 100
        assert result.stdout.startswith(b"1\n2\n")
        assert result.stdout.endswith(b"600000\nthe end\n")
        (kept,) = result.spilled
        whole = await world.read_file(kept)
        assert whole.count(b"\n") == 600_001
        assert b"bytes cut" in result.stdout
        assert b"bytes cut" not in whole

    async def test_a_timeout_returns_what_was_printed(self, world: Environment) -> None:
        result = await world.exec("echo before; sleep 60; echo after", timeout_s=0.3)
        assert result.timed_out
        assert not result.ok
        assert result.stdout == b"before\n"

    async def test_a_timeout_kills_daemons_too(self, world: Environment) -> None:
        nested = f"trap : TERM HUP INT; exec -a hidden-daemon-{ME} sleep 600"
        hide = f"setsid bash -c 'setsid bash -c \"{nested}\" & disown' &"
        result = await world.exec(f"{hide} sleep 0.2; echo started; sleep 60", timeout_s=1.0)
        assert (result.timed_out, result.stdout) == (True, b"started\n")
        assert await gone(world, f"hidden-daemon-{ME}")

    async def test_a_background_process_outlives_its_command(self, world: Environment) -> None:
        result = await world.exec("(while :; do sleep 0.05; date; done) & echo $!")
        process = int(result.stdout.split()[0])
        assert result.duration_s < 5
        await asyncio.sleep(0.3)
        assert (await world.exec(f"kill {process}")).ok

    async def test_many_at_once(self, world: Environment) -> None:
        async def one(number: int) -> bytes:
            return (await world.exec(f"sleep 0.1; echo {number}; echo {number} >&2")).stdout

        assert await asyncio.gather(*map(one, range(50))) == [b"%d\n" % number for number in range(50)]

    async def test_a_cancelled_command_dies(self, world: Environment) -> None:
        task = asyncio.create_task(world.exec(["bash", "-c", f"exec -a cancelled-command-{ME} sleep 600"]))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await gone(world, f"cancelled-command-{ME}")

    async def test_a_script_longer_than_an_argument_may_be(self, world: Environment) -> None:
        script = "x=0\n" + "x=$((x+1)) # padding padding\n" * 10_000 + "echo $x"
        assert (await world.exec(script)).stdout == b"10000\n"

    # --- shell ---

    async def test_a_shell_keeps_its_state(self, world: Environment) -> None:
        shell = await world.open_shell()
        await shell.run(
            "cd /usr; x=3; declare -A m=([k]=v); f() { echo f$x; }; set -f; shopt -s extglob; alias hi='echo hi'"
        )
        result = await shell.run("f; pwd; echo ${m[k]} *; hi; shopt -q extglob && echo yes")
        assert result.output == b"f3\n/usr\nv *\nhi\nyes\n"
        assert (result.exit_code, result.restarted, result.timed_out) == (0, False, False)
        await shell.close()

    async def test_shells_are_apart(self, world: Environment) -> None:
        one, other = await world.open_shell(), await world.open_shell()
        await one.run("x=1")
        assert (await other.run('echo "[$x]"')).output == b"[]\n"
        await one.close()
        await other.close()

    async def test_streams_are_in_order(self, world: Environment) -> None:
        shell = await world.open_shell()
        result = await shell.run("for i in 1 2 3; do echo out$i; echo err$i >&2; done; (exit 5)")
        assert (result.output, result.exit_code) == (b"out1\nerr1\nout2\nerr2\nout3\nerr3\n", 5)
        await shell.close()

    async def test_background_jobs_last(self, world: Environment) -> None:
        shell = await world.open_shell()
        assert (await shell.run("sleep 0.3 & echo begun")).output == b"begun\n"
        assert (await shell.run("wait %1 && echo ended")).output == b"ended\n"
        await shell.close()

    @pytest.mark.parametrize(
        "broken",
        ["echo 'open", 'echo "open', "if true; then", "cat <<END\nopen", "echo $((", "fi", "echo ${", ")"],
    )
    async def test_broken_syntax_is_survived(self, world: Environment, broken: str) -> None:
        shell = await world.open_shell()
        await shell.run("x=kept")
        assert not (await shell.run(broken, timeout_s=10)).timed_out
        after = await shell.run("echo $x")
        assert (after.output, after.restarted) == (b"kept\n", False)
        await shell.close()

    @pytest.mark.parametrize(
        ("fatal", "code"),
        [("exit 4", 4), ("exec true", 0), ("kill -9 $$", 137), ("set -e; false", 1), ("exec no-such-program", 127)],
    )
    async def test_the_end_of_a_shell_is_survived_and_told(self, world: Environment, fatal: str, code: int) -> None:
        shell = await world.open_shell()
        await shell.run("x=lost; cd /")
        result = await shell.run(f"echo out; {fatal}")
        assert (result.output.splitlines()[0], result.exit_code, result.restarted) == (b"out", code, True)
        after = await shell.run('echo "[$x]"; pwd')
        assert (after.output.decode(), after.restarted) == (f"[]\n{world.workdir}\n", False)
        await shell.close()

    async def test_nothing_in_the_output_ends_a_command(self, world: Environment) -> None:
        shell = await world.open_shell()
        forged = await shell.run(
            "for i in $(seq 0 50); do echo $i 0; printf '%s 0\\n' $i >&8; done 2>/dev/null; echo end"
        )
        assert forged.output.endswith(b"50 0\nend\n")
        assert (await shell.run("echo next")).output == b"next\n"
        await shell.close()

    async def test_tracing_shows_only_the_command(self, world: Environment) -> None:
        shell = await world.open_shell()
        await shell.run("set -x")
        assert (await shell.run("echo hi")).output.splitlines()[1:] == [b"hi"]
        assert b"printf" not in (await shell.run("true")).output
        await shell.close()

    async def test_standard_input_of_a_shell_is_empty(self, world: Environment) -> None:
        shell = await world.open_shell()
        assert (await shell.run("cat; read x; echo $?")).output == b"1\n"
        await shell.close()

    @pytest.mark.parametrize(
        "endless",
        [
            "sleep 60; echo no",
            "while :; do sleep 1; done",
            "while :; do :; done",
            "f() { while :; do sleep 1; done; }; f | cat",
            "bash -c 'trap \"\" INT TERM; while :; do sleep 0.1; done'",
        ],
    )
    async def test_a_timeout_keeps_the_shell(self, world: Environment, endless: str) -> None:
        shell = await world.open_shell()
        await shell.run("x=kept; (exec -a old-job sleep 600) & cd /usr")
        result = await shell.run(f"echo before; {endless}", timeout_s=0.4)
        assert (result.timed_out, result.output[:7]) == (True, b"before\n")
        after = await shell.run("echo $x; pwd; kill %1 && echo alive")
        assert (after.output, after.restarted) == (b"kept\n/usr\nalive\n", False)
        await shell.close()

    async def test_a_timeout_kills_what_the_command_started(self, world: Environment) -> None:
        shell = await world.open_shell()
        daemon = f"setsid bash -c 'trap : INT; exec -a shell-daemon-{ME} sleep 600' &"
        hide = f"{daemon} (exec -a shell-job-{ME} sleep 600) &"
        assert (await shell.run(f"{hide} sleep 60", timeout_s=0.5)).timed_out
        assert await gone(world, f"shell-daemon-{ME}")
        assert await gone(world, f"shell-job-{ME}")
        await shell.close()

    async def test_a_shell_that_cannot_be_interrupted_is_replaced(self, world: Environment) -> None:
        shell = await world.open_shell()
        result = await shell.run("trap '' INT; x=1; while :; do :; done", timeout_s=0.3)
        assert (result.timed_out, result.restarted) == (True, True)
        assert (await shell.run("echo [$x]")).output == b"[]\n"
        await shell.close()

    async def test_a_cancelled_shell_command_is_interrupted(self, world: Environment) -> None:
        shell = await world.open_shell()
        await shell.run("x=kept")
        task = asyncio.create_task(shell.run("sleep 600", timeout_s=900))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await shell.run("echo $x")).output == b"kept\n"
        await shell.close()

    async def test_long_output_of_a_shell_is_cut_and_kept(self, world: Environment) -> None:
        shell = await world.open_shell()
        result = await shell.run("seq 1 600000")
        assert result.output.startswith(b"1\n2\n")
        assert result.output.endswith(b"\n600000\n")
        assert (await world.read_file(result.spilled[0])).count(b"\n") == 600_000
        assert (await shell.run("echo short")).output == b"short\n"
        await shell.close()

    # --- files ---

    async def test_files_go_in_and_out(self, world: Environment) -> None:
        data = bytes(range(256)) * 20_000
        await world.write_file("new/deep/data.bin", data)
        assert await world.read_file("new/deep/data.bin") == data
        assert await world.read_file(f"{world.workdir}/new/deep/data.bin") == data
        assert (await world.exec(["wc", "-c", "new/deep/data.bin"])).stdout.split()[0] == b"5120000"
        await world.exec("printf x > written; chmod +x new/deep/data.bin; ln -s new/deep/data.bin link")
        await world.write_file("link", b"through the link")
        assert await world.read_file("new/deep/data.bin") == b"through the link"
        assert (await world.exec(["test", "-x", "new/deep/data.bin"])).ok
        assert await world.read_file("written") == b"x"

    async def test_file_errors_are_those_of_open(self, world: Environment) -> None:
        await world.exec("mkdir -p folder; touch plain; mkfifo fifo")
        with pytest.raises(FileNotFoundError, match="no/such"):
            await world.read_file("no/such")
        with pytest.raises(IsADirectoryError):
            await world.read_file("folder")
        with pytest.raises(IsADirectoryError):
            await world.write_file("folder", b"")
        with pytest.raises(NotADirectoryError):
            await world.write_file("plain/below", b"")
        with pytest.raises(OSError, match="not a regular file"):
            await world.read_file("fifo")
        with pytest.raises(OSError, match="not a regular file"):
            await world.read_file("/dev/zero")

    # --- worlds ---

    async def test_snapshots_and_forks_share_nothing(self, start: Start) -> None:
        origin = await start()
        await origin.exec(
            "mkdir -p keep/sub gone; echo one > keep/a; echo two > gone/b; echo three > c; "
            "chmod 700 keep/sub; chmod 755 c; ln -s c link; touch 'a name\nwith a line'"
        )
        before = await origin.snapshot()
        await origin.exec("rm -r gone c; echo changed > keep/a; mkdir gone; echo new > gone/new")
        after = await origin.snapshot()
        await origin.exec("rm -rf *")

        first = await origin.fork(before)
        listing = "find . -printf '%P %y %m %l\\n' | LC_ALL=C sort; cat keep/a"
        assert (await first.exec("cat keep/a gone/b c link; stat -c %a keep/sub c")).stdout == (
            b"one\ntwo\nthree\nthree\n700\n755\n"
        )
        assert (await first.exec(["test", "-e", "a name\nwith a line"])).ok
        second = await origin.fork(after)
        assert (await second.exec("cat keep/a; ls gone; ls c link 2>/dev/null")).stdout == b"changed\nnew\nlink\n"

        await first.exec("echo first > keep/a; rm c")
        again = await first.fork(before)
        assert (await again.exec(listing)).stdout.endswith(b"one\n")
        child = await first.fork()
        assert (await child.exec("cat keep/a; ls c 2>/dev/null")).stdout == b"first\n"
        await child.exec("echo child > keep/a")
        assert (await first.exec("cat keep/a")).stdout == b"first\n"
        for world in (child, again, second, first, origin):
            await world.close()

    async def test_a_fork_outlives_its_origin(self, start: Start) -> None:
        origin = await start()
        await origin.exec("echo kept > file")
        fork = await origin.fork()
        await origin.close()
        assert (await fork.exec("cat file")).stdout == b"kept\n"
        await fork.close()

    async def test_snapshots_do_not_end_processes(self, start: Start) -> None:
        world = await start()
        shell = await world.open_shell()
        await shell.run("x=kept; sleep 600 &")
        await world.snapshot()
        assert (await shell.run("echo $x; kill %1 && echo alive")).output == b"kept\nalive\n"
        await world.close()

    async def test_a_closed_world_is_a_fault(self, start: Start) -> None:
        world = await start()
        shell = await world.open_shell()
        waiting = asyncio.create_task(world.exec("sleep 600", timeout_s=900))
        await asyncio.sleep(0.1)
        await world.close()
        await world.close()
        with pytest.raises(EnvironmentFault):
            await waiting
        for attempt in (world.exec("true"), shell.run("true"), world.read_file("x"), world.snapshot()):
            with pytest.raises(EnvironmentFault):
                await attempt

    async def test_set_up(self, start: Start) -> None:
        world = await start(replace(self.spec, setup="pwd > where; export X=lost; echo $Y > y", env={"Y": "given"}))
        assert (await world.read_file("where")).decode().strip() == world.workdir
        assert await world.read_file("y") == b"given\n"
        await world.close()
        with pytest.raises(EnvironmentFault, match=r"(?s)ended with 3.*reason"):
            await start(replace(self.spec, setup="echo the reason >&2; exit 3"))
