"""Interactive shells and real programs; what every environment must do is in the conformance suite."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from trellis.environments.channel import ChannelEnvironment
from trellis.environments.conformance.interactive import PROMPT_S, ask
from trellis.environments.environment import Environment, EnvironmentSpec, Kind
from trellis.environments.guest import waiting
from trellis.environments.guest.terminal import LONGEST_PIECE_BYTES

from .conftest import need

LABEL = f"test-{os.getpid()}"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=["local", "sandbox", pytest.param("docker", marks=pytest.mark.docker)],
)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[Environment]:
    """One for all: each test opens shells of its own in it."""
    need(request.param)
    environment = await EnvironmentSpec(kind=request.param).start(label=LABEL)
    yield environment
    await environment.close()


@pytest_asyncio.fixture(loop_scope="module")
async def own_world(kind: Kind) -> AsyncIterator[Environment]:
    environment = await EnvironmentSpec(kind=kind).start(label=LABEL)
    yield environment
    await environment.close()


async def test_an_interpreter_holds_a_conversation(world: Environment) -> None:
    shell = await world.open_shell()
    assert (await ask(shell, "python3")).output.endswith(b">>> ")
    assert (await shell.send(b"x = 6 * 7\n", timeout_s=PROMPT_S)).output == b">>> "
    assert (await shell.send(b"print(x)\n", timeout_s=PROMPT_S)).output == b"42\n>>> "
    slow = await shell.send(b"import time; time.sleep(1); print('slow')\n", timeout_s=PROMPT_S)
    assert (slow.waiting, slow.output) == (True, b"slow\n>>> ")
    assert (await shell.send(b"exit(3)\n", timeout_s=PROMPT_S)).exit_code == 3


async def test_a_program_with_threads_and_epoll_is_seen_to_wait(world: Environment) -> None:
    if not (await world.exec("command -v node")).ok:
        pytest.skip("there is no node in this world")
    shell = await world.open_shell()
    assert (await ask(shell, "node")).output.endswith(b"> ")
    answered = await shell.send(b"6 * 7\n", timeout_s=PROMPT_S)
    assert (answered.waiting, answered.output) == (True, b"42\n> ")
    assert (await shell.send(b".exit\n", timeout_s=PROMPT_S)).exit_code == 0


@pytest.mark.parametrize(
    "script",
    [
        "import select; select.select([0], [], [])",
        "import select; select.select([0], [], [], 600)",
        "import select; p = select.poll(); p.register(0, select.POLLIN); p.poll()",
        "import select; e = select.epoll(); e.register(0, select.EPOLLIN); e.poll()",
        "import os; f = os.open(os.ttyname(0), os.O_RDONLY | os.O_NOCTTY); os.read(f, 1)",
        "import threading; t = threading.Thread(target=input); t.start(); t.join()",
        "import getpass; getpass.getpass()",
    ],
)
async def test_every_way_to_wait_is_seen(world: Environment, script: str) -> None:
    shell = await world.open_shell()
    assert (await ask(shell, f"python3 -c '{script}'")).waiting
    assert (await shell.interrupt()).exit_code == 130


@pytest.mark.parametrize(
    "script",
    [
        "import os, threading, time; threading.Thread(target=input, daemon=True).start()\n"
        "end = time.time() + 1.5\nwhile time.time() < end: pass\nos._exit(0)",
        "import select; select.select([], [], [], 1)",
        "import os, time; r, w = os.pipe(); os.fork() or (time.sleep(1), os._exit(0)); os.close(w); os.read(r, 1)",
    ],
)
async def test_what_works_or_waits_for_something_else_is_left_alone(world: Environment, script: str) -> None:
    shell = await world.open_shell()
    result = await ask(shell, f"python3 -c '{script}'")
    assert (result.waiting, result.exit_code) == (False, 0), result.output


async def test_a_password_is_not_shown(world: Environment) -> None:
    shell = await world.open_shell()
    prompt = await ask(shell, "python3 -W ignore -c 'import getpass; print(len(getpass.getpass()))'")
    assert prompt.output.endswith(b"Password: ")
    assert (await shell.send(b"secret\n", timeout_s=PROMPT_S)).output.strip() == b"6"


async def test_a_program_without_a_controlling_terminal_fails_at_once(world: Environment) -> None:
    shell = await world.open_shell()
    result = await ask(shell, "read x < /dev/tty; echo $?")
    assert (result.waiting, result.output.splitlines()[-1]) == (False, b"1")


async def test_long_lines_come_whole_to_readers_of_lines(world: Environment) -> None:
    shell = await world.open_shell()
    for length in (LONGEST_PIECE_BYTES - 1, LONGEST_PIECE_BYTES, LONGEST_PIECE_BYTES + 1, 100_000):
        assert (await ask(shell, "python3 -c 'print(len(input()))'")).waiting
        result = await shell.send(b"y" * length + b"\n", timeout_s=PROMPT_S)
        assert result.output == b"%d\n" % length


async def test_a_waiting_command_dies_with_its_world(own_world: Environment) -> None:
    shell = await own_world.open_shell()
    assert (await ask(shell, "cat")).waiting
    await own_world.close()


async def test_a_cancelled_answer_ends_the_command(world: Environment) -> None:
    shell = await world.open_shell()
    await shell.run("x=kept")
    assert (await ask(shell, "read y; sleep 600")).waiting
    answering = asyncio.create_task(shell.send(b"go\n", timeout_s=900))
    await asyncio.sleep(0.3)
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering
    assert (await shell.run("echo $x")).output == b"kept\n"


async def test_shells_that_wait_do_not_hold_each_other_up(world: Environment) -> None:
    shells = [await world.open_shell(f"s{n}") for n in range(8)]
    assert all(result.waiting for result in await asyncio.gather(*(ask(shell, "read x; echo $x") for shell in shells)))
    results = await asyncio.gather(*(shell.send(b"%d\n" % n) for n, shell in enumerate(shells)))
    assert [result.output for result in results] == [b"%d\n" % n for n in range(8)]


@pytest.mark.parametrize(
    "spoil",
    [
        "import fcntl, struct; fcntl.ioctl(0, 0x5423, struct.pack('i', 27))",  # a line discipline that is nothing
        "import termios; t = termios.tcgetattr(0); t[3] |= termios.ECHO | termios.ISIG; termios.tcsetattr(0, 0, t)",
        "import fcntl; fcntl.ioctl(0, 0x540C)",  # nobody else may open it
        "import os; os.set_blocking(0, False)",
    ],
)
async def test_a_terminal_that_was_spoiled_costs_one_shell_at_most(world: Environment, spoil: str) -> None:
    shell = await world.open_shell()
    result = await shell.run(f'python3 -c "{spoil}"; read x; echo over', interactive=True, timeout_s=3)
    if result.waiting:
        result = await shell.send(b"x\n", timeout_s=3)
    assert result.timed_out or result.output.endswith(b"over\n")
    assert (await shell.run("echo lives")).output == b"lives\n"
    assert (await ask(await world.open_shell(), "read x")).waiting


async def test_a_flood_on_the_terminal_is_output_like_any(world: Environment) -> None:
    shell = await world.open_shell()
    result = await shell.run("head -c 30000000 /dev/zero >&0; echo end", interactive=True, timeout_s=60)
    assert (result.timed_out, result.waiting, result.exit_code) == (False, False, 0)
    assert len(result.output) < 3 << 20
    assert result.spilled


@pytest.mark.skipif(shutil.which("python3") is None, reason="no python3 in PATH")
async def test_the_kernel_s_word_for_it_is_read_where_the_call_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine whose calls have no names here: by the function in which the kernel lets it sleep."""
    monkeypatch.setattr(waiting, "CALLS", {})
    master, slave = os.openpty()
    reader = await asyncio.create_subprocess_exec("cat", stdin=slave, stdout=asyncio.subprocess.DEVNULL)
    sleeper = await asyncio.create_subprocess_exec("sleep", "60", stdin=slave)
    try:
        deadline = time.monotonic() + 10
        terminal = waiting.identity(slave)
        while waiting.waits_for(reader.pid, terminal) != waiting.SURELY and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        assert waiting.waits_for(reader.pid, terminal) == waiting.SURELY
        assert waiting.waits_for(sleeper.pid, terminal) == waiting.NO
        assert waiting.waits_for(2**22 + 1, terminal) == waiting.NO
    finally:
        for process in (reader, sleeper):
            process.kill()
            await process.wait()
        os.close(master)
        os.close(slave)


async def test_a_command_that_is_given_up_before_it_begins_does_not_run(own_world: Environment) -> None:
    assert isinstance(own_world, ChannelEnvironment)
    shell = await own_world.open_shell()
    await own_world.channel.request("freeze")  # until it ends, nothing begins
    task = asyncio.create_task(shell.run("touch ran; x=lost"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await own_world.channel.request("thaw")
    after = await shell.run('ls; echo "[$x]"')
    assert (after.output, after.restarted) == (b"[]\n", False)
