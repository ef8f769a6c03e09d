"""Shells: state that lasts, and commands that try to break it."""

from __future__ import annotations

import asyncio

import pytest

from trellis.environments.conformance.base import ME, Base, gone
from trellis.environments.environment import Environment


class Shells(Base):
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
        for forged in ("$i 0", "$i x", "$i $(printf %05000d 9)"):
            result = await shell.run(
                "all=$(find /proc/$$/fd -perm 300)\n"  # what bash itself holds open
                "for i in $(seq 0 50); do for to in $all /proc/self/fd/8; do\n"
                f'printf "{forged}\\n{forged}" >$to; done; echo $i 0; done 2>/dev/null; echo end'
            )
            assert result.output.endswith(b"50 0\nend\n")
            assert (result.exit_code, result.restarted, result.timed_out) == (0, False, False)
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
