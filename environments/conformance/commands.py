"""Commands: streams, exit codes, timeouts, long output, many at once."""

from __future__ import annotations

import asyncio

import pytest

from trellis.environments.conformance.base import ME, Base, Start, gone
from trellis.environments.environment import Environment
from trellis.environments.guest.streams import OUTPUT_CAP_BYTES


class Commands(Base):
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
