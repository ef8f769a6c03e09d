"""Commands that wait for input: noticed without a look at what they print, answered, ended."""

from __future__ import annotations

import time

import pytest

from trellis.environments.conformance.base import Base
from trellis.environments.environment import Environment, Shell, ShellResult

PROMPT_S = 15.0
"""How long a test waits at most for a prompt; a machine may be busy."""


async def ask(shell: Shell, command: str) -> ShellResult:
    return await shell.run(command, interactive=True, timeout_s=PROMPT_S)


class Interactive(Base):
    async def test_a_prompt_is_noticed_and_answered(self, world: Environment) -> None:
        shell = await world.open_shell()
        began_s = time.monotonic()
        waiting = await ask(shell, "x=kept; read -p 'Name? ' name; echo \"hello $name\"; (exit 3)")
        assert time.monotonic() - began_s < PROMPT_S / 2
        assert (waiting.waiting, waiting.output, waiting.exit_code) == (True, b"Name? ", -1)
        done = await shell.send(b"Ann\n")
        assert (done.waiting, done.output, done.exit_code) == (False, b"hello Ann\n", 3)
        assert (await shell.run("echo $x $name")).output == b"kept Ann\n"
        await shell.close()

    @pytest.mark.parametrize(
        ("command", "typed", "answer"),
        [
            ("cat", b"one\n", b"one\n"),
            ("cat | tr a-z A-Z | cat", b"one\n", b"ONE\n"),
            ("{ echo first | { cat >&2; cat <&3; }; } 3<&0", b"more\n", b"more\n"),
            ('python3 -c \'print("got", input("? "))\'', b"it\n", b"got it\n"),
            ("python3 -c 'import sys; print(sys.stdin.read())'", b"all\n", b"all\n\n"),
            ("bash -c 'read -r x; echo \"<$x>\"'", b"a\\b\n", b"<a\\b>\n"),
            ("sleep 0.7; read x; echo $x", b"late\n", b"late\n"),
        ],
    )
    async def test_input_arrives_and_the_end_of_it(
        self, world: Environment, command: str, typed: bytes, answer: bytes
    ) -> None:
        shell = await world.open_shell()
        result = await ask(shell, command)
        output = b""
        for piece in (typed, b""):
            if result.waiting:
                result = await shell.send(piece, timeout_s=PROMPT_S)
                output += result.output
        assert (result.waiting, result.exit_code, output) == (False, 0, answer)
        await shell.close()

    async def test_input_is_exact(self, world: Environment) -> None:
        shell = await world.open_shell()
        data = bytes(range(256)) * 400  # lines of all lengths, what terminals take for keys, more than a line may have
        long = b"x" * 10_000 + b"\n"
        assert (await ask(shell, "cat > exact.bin")).waiting
        assert (await shell.send(data + long + b"unfinished", timeout_s=PROMPT_S)).waiting
        assert (await shell.send(b"", timeout_s=PROMPT_S)).exit_code == 0
        assert await world.read_file("exact.bin") == data + long + b"unfinished"
        await shell.close()

    async def test_the_end_of_input_comes_to_one_reader_at_a_time(self, world: Environment) -> None:
        shell = await world.open_shell()
        result = await ask(shell, "cat; echo between; cat; echo after")
        assert result.waiting
        result = await shell.send(b"", timeout_s=PROMPT_S)
        assert (result.waiting, result.output) == (True, b"between\n")
        result = await shell.send(b"", timeout_s=PROMPT_S)
        assert (result.waiting, result.output, result.exit_code) == (False, b"after\n", 0)
        await shell.close()

    @pytest.mark.parametrize("command", ["read x; echo no", "cat; echo no", "python3 -c 'input()'; echo no"])
    async def test_an_interrupt_ends_the_command_and_not_the_shell(self, world: Environment, command: str) -> None:
        shell = await world.open_shell()
        await shell.run("x=kept")
        assert (await ask(shell, command)).waiting
        ended = await shell.interrupt()
        assert (ended.waiting, ended.exit_code, ended.timed_out, ended.restarted) == (False, 130, False, False)
        assert b"no" not in ended.output.split()
        assert (await shell.run("echo $x")).output == b"kept\n"
        await shell.close()

    async def test_the_end_of_the_shell_is_told_while_a_command_waits(self, world: Environment) -> None:
        shell = await world.open_shell()
        assert (await ask(shell, "read x; echo bye; exit 4")).waiting
        ended = await shell.send(b"\n", timeout_s=PROMPT_S)
        assert (ended.output, ended.exit_code, ended.restarted) == (b"bye\n", 4, True)
        assert (await shell.run("echo new")).output == b"new\n"
        await shell.close()

    async def test_what_does_not_wait_for_input_is_not_taken_to(self, world: Environment) -> None:
        shell = await world.open_shell()
        for command in (
            "sleep 1; echo done",
            "{ cat <&3 & } 3<&0; sleep 1; kill $!; echo done",
            "sleep 1 | cat; echo done",
            "python3 -c 'import time; time.sleep(1)'; echo done",
            "mkfifo f; (sleep 1; echo x > f) & cat f > /dev/null; rm f; echo done",
        ):
            result = await ask(shell, command)
            assert (result.waiting, result.output, result.exit_code) == (False, b"done\n", 0), command
        await shell.close()

    async def test_a_limit_ends_what_computes_after_its_answer(self, world: Environment) -> None:
        shell = await world.open_shell()
        await shell.run("x=kept")
        assert (await ask(shell, "read x; echo got; sleep 60")).waiting
        result = await shell.send(b"lost\n", timeout_s=0.4)
        assert (result.timed_out, result.output, result.restarted) == (True, b"got\n", False)
        await shell.close()

    async def test_only_what_waits_can_be_answered(self, world: Environment) -> None:
        shell = await world.open_shell()
        for attempt in (shell.send(b"x"), shell.interrupt(), shell.wait()):
            with pytest.raises(ValueError, match="no command waits"):
                await attempt
        assert (await ask(shell, "read x; echo $x")).waiting
        with pytest.raises(ValueError, match="has not ended"):
            await shell.run("echo other")
        assert (await shell.send(b"still\n")).output == b"still\n"
        with pytest.raises(ValueError, match="no command waits"):
            await shell.send(b"x")
        await shell.close()

    async def test_what_waits_may_go_on_by_itself(self, world: Environment) -> None:
        shell = await world.open_shell()
        assert (await ask(shell, "read -t 1 x; echo over; (exit 5)")).waiting
        result = await shell.wait(timeout_s=PROMPT_S)
        assert (result.waiting, result.output, result.exit_code) == (False, b"over\n", 5)
        assert (await ask(shell, "cat")).waiting
        assert (await shell.wait(timeout_s=0.2)).waiting
        assert (await shell.send(b"")).exit_code == 0
        await shell.close()

    async def test_input_nobody_read_is_gone_with_its_command(self, world: Environment) -> None:
        shell = await world.open_shell()
        assert (await ask(shell, "read x; stty raw -echo")).waiting
        assert (await shell.send(b"one\ntwo\n")).exit_code == 0
        result = await ask(shell, "read y")
        assert result.waiting
        assert (await shell.send(b"three\n")).exit_code == 0
        assert (await shell.run("echo $x $y")).output == b"one three\n"
        await shell.close()

    async def test_a_status_lasts(self, world: Environment) -> None:
        shell = await world.open_shell()
        for code in (0, 1, 2, 77):
            await shell.run(f"set -u; (exit {code})")
            assert (await shell.run("echo $?")).output == b"%d\n" % code
        await shell.close()
