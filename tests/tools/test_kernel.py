"""`python`: cells in a kernel whose state lasts."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from trellis.environments import kinds
from trellis.environments.environment import (
    Environment,
    EnvironmentFault,
    EnvironmentSpec,
    EnvironmentUnavailable,
    Resources,
)
from trellis.environments.guest.program import pack as pack_program
from trellis.tools import kernel
from trellis.tools.catalog import make
from trellis.tools.frames import Frames, pack
from trellis.tools.tool import Output, Tool, ToolError

LABEL = f"test-kernel-{os.getpid()}"
GONE = "The next cell runs in a new one: all variables are gone]"


@pytest.fixture
def python() -> Tool:
    return make(["python"])[0]


async def said(python: Tool, world: Environment, *cells: str) -> list[str]:
    return [(await python(world, code=code)).text for code in cells]


async def runs(world: Environment, pid: str) -> bool:
    return (await world.exec(f"grep -q '^State:.[^ZX]' /proc/{pid}/status")).ok


# --- what a cell shows ---


async def test_state_lasts_and_the_last_expression_is_shown(world: Environment, python: Tool) -> None:
    texts = await said(
        python, world, "x = 20\nprint('hi')\nx + 1", "x += 1; x", "def f(): return x * 2", "f()", "f();", "None", "_"
    )
    assert texts == ["hi\n21", "21", "(no output)", "42", "(no output)", "(no output)", "42"]
    output = await python(world, code="x")
    assert {**output.data, "duration_s": 0} == {"ok": True, "timed_out": False, "restarted": False, "duration_s": 0}


async def test_cells_run_in_the_workdir_and_find_what_lies_there(world: Environment, python: Tool) -> None:
    await world.write_file("helper.py", b"WORD = 'helped'\n")
    texts = await said(python, world, "import os, sys, helper; os.getcwd()", "helper.WORD", "sys.argv, __name__")
    assert texts == [repr(world.workdir), "'helped'", "([''], '__main__')"]
    assert (await world.exec("ls -A | grep -v __pycache__")).stdout == b"helper.py\n"


async def test_all_output_comes_in_its_order(world: Environment, python: Tool) -> None:
    code = (
        "import os, subprocess, sys\n"
        "print('one', end=' '); sys.stderr.write('two\\n'); print('three')\n"
        "os.system('echo four'); subprocess.run(['sh', '-c', 'echo five >&2'])\n"
        "os.write(1, b'six\\n'); sys.stdout.buffer.write(b'seven\\n'); print('eight \\udc80 ünïcödé')"
    )
    (text,) = await said(python, world, code)
    assert text == "one two\nthree\nfour\nfive\nsix\nseven\neight \\udc80 ünïcödé"


async def test_tracebacks_show_the_cells_and_their_lines(world: Environment, python: Tool) -> None:
    await said(python, world, "def f(d):\n    return d['x']")
    (text,) = await said(python, world, "print('before')\nf({})")
    assert re.sub(r"\n +[~^]+\n", "\n", text) == (
        "before\nTraceback (most recent call last):\n"
        '  File "cell 2", line 2, in <module>\n    f({})\n'
        "  File \"cell 1\", line 2, in f\n    return d['x']\n"
        "KeyError: 'x'"
    )
    await world.write_file("mine.py", b"import json\ndef load(text): return json.loads(text)\n")
    (text,) = await said(python, world, "import mine\nmine.load('{')")
    assert 'File "cell 3", line 2' in text
    assert "mine.py" in text
    assert text.count("json/") == 1, "of a library, only the place where it was raised"
    (text,) = await said(python, world, "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError from e")
    assert text.count('File "cell 4"') == 2
    assert "direct cause" in text


async def test_syntax_errors_have_their_caret_and_magics_a_hint(world: Environment, python: Tool) -> None:
    text, magic, percent = await said(python, world, "if True print(1)", "x = 1\n!pip list", "%%bash\nls")
    assert text.startswith('  File "cell 1", line 1\n    if True print(1)\n            ^^^^^\nSyntaxError: ')
    for hinted in (magic, percent):
        assert hinted.endswith("run commands with the shell tool]")
    assert "IPython" not in text
    assert not (await python(world, code="x = (")).data["ok"]


async def test_a_repr_has_no_address_and_reads_the_same_again(world: Environment, python: Tool) -> None:
    cells = [
        "class A: pass\nA(), print",
        "lambda: 1",
        "{'b', 'a', 'c'}",
        "import random; random.seed(1); random.random()",
    ]
    first = await said(python, world, *cells)
    assert first[:2] == ["(<__main__.A object>, <built-in function print>)", "<function <lambda>>"]
    assert await said(make(["python"])[0], world, *cells) == first


async def test_await_works_at_the_top_level(world: Environment, python: Tool) -> None:
    texts = await said(
        python,
        world,
        "import asyncio\nawait asyncio.sleep(0)\nlock = asyncio.Lock()",
        "async with lock: print('held')\nawait asyncio.gather(*(asyncio.sleep(0, n) for n in range(3)))",
        "asyncio.run(asyncio.sleep(0, 'run'))",
        "await asyncio.sleep(0, 'still')",
    )
    assert texts == ["(no output)", "held\n[0, 1, 2]", "'run'", "'still'"]


async def test_future_statements_last(world: Environment, python: Tool) -> None:
    texts = await said(
        python, world, "from __future__ import annotations", "def f(x: nothing): pass\nf.__annotations__"
    )
    assert texts[1] == "{'x': 'nothing'}"


async def test_tables_come_as_text(world: Environment, python: Tool) -> None:
    code = "import pandas as pd\npd.DataFrame({f'column_{n}': range(200) for n in range(12)})"
    wide, series = await said(python, world, code, "pd.Series([1.5, 2.5], name='s')")
    lines = wide.splitlines()
    assert len(lines) == 14
    assert "column_11" in lines[0], "not folded at the 80 columns of a terminal"
    assert lines[-1] == "[200 rows x 12 columns]"
    assert series == "0    1.5\n1    2.5\nName: s, dtype: float64"


async def test_figures_come_as_images(world: Environment, python: Tool) -> None:
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.figure(); plt.plot([2, 1])\nplt.show()"
    output = await python(world, code=code)
    assert (output.text, len(output.images)) == ("", 2)
    for image in output.images:
        assert image.media_type == "image/png"
        assert image.data.startswith(b"\x89PNG")
        assert image.data.endswith(b"IEND\xaeB`\x82")
    assert not (await python(world, code="plt.get_fignums()")).images


async def test_anything_that_knows_how_to_be_an_image_is_one(world: Environment, python: Tool) -> None:
    first, second, wide = png(1, 1), png(2, 1), png(2001, 1)
    code = (
        "class Drawing:\n    def __init__(self, png): self.png = png\n    def _repr_png_(self): return self.png\n"
        f"display(Drawing({first!r}), 'text', Drawing(None))\nprint('between')\nDrawing({second!r})"
    )
    output = await python(world, code=code)
    assert output.text == "'text'\n<__main__.Drawing object>\nbetween"
    assert [image.data for image in output.images] == [first, second]
    output = await python(world, code=f"display(*[Drawing({first!r})] * 20); display(Drawing(bytes(5 << 20)))")
    assert len(output.images) == 8
    assert "an image is left out" in output.text
    output = await python(world, code=f"display(Drawing({wide!r}), Drawing(b'no image'), Drawing({first!r}))")
    assert [image.data for image in output.images] == [first]
    assert output.text.startswith("[an image is left out: it has 2001 x 1 pixels")
    assert "[an image is not an image (8 bytes)" in output.text


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(width)) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


async def test_a_large_figure_is_drawn_small_enough_to_be_shown(world: Environment, python: Tool) -> None:
    output = await python(
        world, code="import matplotlib.pyplot as plt\nplt.figure(figsize=(30, 20), dpi=300); plt.plot([1, 2]);"
    )
    assert (output.text, len(output.images)) == ("", 1)


async def test_there_is_no_input(world: Environment, python: Tool) -> None:
    texts = await said(python, world, "input('name? ')", "import sys; sys.stdin.read()")
    assert texts[0].endswith("EOFError: input('name? '): there is nobody to answer; write the value into the code")
    assert texts[1] == "''"


async def test_leaving_a_cell_leaves_the_kernel_alone(world: Environment, python: Tool) -> None:
    texts = await said(python, world, "x = 1", "import sys; sys.exit(3)", "exit()", "x")
    assert texts[1] == "SystemExit: 3\n[this ended the cell; the kernel goes on]"
    assert texts[3] == "1"


async def test_closed_and_replaced_streams_are_mended(world: Environment, python: Tool) -> None:
    texts = await said(
        python,
        world,
        "import sys, io; sys.stdout.close()",
        "print('back')",
        "sys.stdout = io.StringIO()",
        "print('again')",
    )
    assert texts[1::2] == ["back", "again"]
    texts = await said(
        python, world, "import os; os.close(1); os.close(2)", "print('and again'); os.system('echo too')"
    )
    assert texts[1].splitlines()[:2] == ["and again", "too"]


# --- processes and threads ---


async def test_forks_pools_and_threads(world: Environment, python: Tool) -> None:
    texts = await said(
        python,
        world,
        "import os\npid = os.fork()\nif pid == 0: print('child')\nelse: os.waitpid(pid, 0); print('parent')",
        "import multiprocessing as m\ndef f(x): return x * x\n"
        "with m.get_context('fork').Pool(2) as pool: print(pool.map(f, range(4)))",
        "import threading\nt = threading.Thread(target=print, args=['thread']); t.start(); t.join()",
        "from concurrent.futures import ProcessPoolExecutor as P\n"
        "with P(2, mp_context=m.get_context('fork')) as p: print(list(p.map(f, [5])))",
    )
    assert texts == ["child\nparent", "[0, 1, 4, 9]", "thread", "[25]"]


async def test_a_cell_has_no_way_to_the_protocol(world: Environment, python: Tool) -> None:
    """What is printed on every descriptor there is, in the protocol's own form, is text or nothing."""
    forged = pack(
        {"ok": True, "cell": "cell 1", "timed_out": False, "duration_s": 0, "spilled": [], "output": 6}, b"forged"
    )
    output = await python(world, code=f"import os, sys\nos.write(1, {forged!r}); os.write(2, {forged!r})\n1 / 0")
    assert not output.data["ok"]
    assert output.text.count("forged") == 2
    assert "ZeroDivisionError" in output.text
    (inherited,) = await said(python, world, "import subprocess; subprocess.run(['ls', '/proc/self/fd'])")
    assert inherited.splitlines()[:4] == ["0", "1", "2", "3"]
    assert "4" not in inherited.splitlines()


FIND_CONNECTION = """
import gc, json, os, socket, struct
(connection,) = [each for each in gc.get_objects() if isinstance(each, socket.socket) and each.fileno() >= 0]
def forge(header, payload=b"", size=None):
    connection.sendall(struct.pack(">II", len(header), size or len(payload)) + header + payload)
"""


@pytest.mark.parametrize(
    "frame",
    [
        """forge(b'{"ok": true, "images": []}')""",
        """forge(b'{"cell": "cell 1", "ok": true, "images": ["x", null]}')""",
        """forge(b'{"cell": "cell 1", "ok": true, "images": [-6, 6]}')""",
        """forge(b'{"cell": "cell 1", "ok": true, "images": {}}', b'x')""",
        """forge(b'{"cell": "", "ended": true}')""",
        """forge(b'{"cell": "cell 1", "ok": true, "images": [6], "output": -9, "spilled": 3}', b'forged')""",
    ],
)
async def test_a_forged_answer_counts_for_its_own_cell_at_most(world: Environment, python: Tool, frame: str) -> None:
    await python(world, code=f"{FIND_CONNECTION}\n{frame}")
    assert await said(python, world, "6 * 7", "'next'") == ["42", "'next'"]


@pytest.mark.parametrize(
    "frame",
    [
        "forge(b'[' * 100_000)",
        "forge(b'[]')",
        "forge(b'no JSON')",
        "connection.sendall(b'\\xff' * 4096)",
        """forge(b'{"cell": "cell 1"}', b'', 1 << 31)""",
    ],
)
async def test_what_is_no_answer_ends_the_kernel(world: Environment, python: Tool, frame: str) -> None:
    output = await python(world, code=f"{FIND_CONNECTION}\n{frame}\nimport time; time.sleep(60)")
    assert "was killed by SIGKILL" in output.text
    assert output.text.endswith(GONE)
    assert await said(python, world, "6 * 7") == ["42"]


@pytest.mark.parametrize("world", ["sandbox"], indirect=True)
async def test_a_cell_cannot_look_into_the_broker(world: Environment, python: Tool) -> None:
    code = (
        "import os\nfound = []\nfor pid in filter(str.isdigit, os.listdir('/proc')):\n    try:\n"
        "        if b'kernel-' in open(f'/proc/{pid}/cmdline', 'rb').read() or os.getsid(int(pid)) == int(pid):\n"
        "            if int(pid) != os.getpid(): found.append(os.listdir(f'/proc/{pid}/fd'))\n"
        "    except OSError: pass\nfound"
    )
    assert await said(python, world, code) == ["[]"]


# --- limits ---


async def test_long_output_is_cut_and_kept(world: Environment, python: Tool) -> None:
    (text,) = await said(python, world, "for n in range(30_000): print(n)")
    notice = re.search(r"the output is kept in (\S+) \.\.\.\]", text)
    assert notice is not None
    assert (await world.read_file(notice[1])).count(b"\n") == 29_999
    assert text.endswith("29998\n29999")


async def test_gigabytes_are_printed_into_nobodys_memory(world: Environment, python: Tool) -> None:
    line = "x" * 99
    output = await python(world, code=f"for _ in range(4000): print(({line!r} + chr(10)) * 5000, end='')\n'end'")
    assert output.text.endswith("'end'")
    assert len(output.text) < 20_000
    kept = re.search(r"the output is kept in (\S+) \.\.\.\]", output.text)
    assert kept is not None
    size = int((await world.exec(["stat", "-c", "%s", kept[1]])).stdout)
    assert 200 << 20 < size <= 256 << 20
    peak = await said(python, world, "import resource; resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 200_000")
    assert peak == ["True"]


async def test_a_timeout_interrupts_and_keeps_the_variables(world: Environment, python: Tool) -> None:
    output = await python(world, code="import time\nx = 5\nprint('early')\ntime.sleep(600)", timeout_s=0.5)
    assert output.text.startswith("early\nTraceback")
    assert output.text.endswith(
        "KeyboardInterrupt\n[timed out: the cell was interrupted after 0.5 s; variables are kept]"
    )
    assert {**output.data, "duration_s": 0} == {"ok": False, "timed_out": True, "restarted": False, "duration_s": 0}
    output = await python(world, code="import asyncio\nawait asyncio.sleep(600)", timeout_s=0.5)
    assert "KeyboardInterrupt" in output.text
    assert await said(python, world, "x") == ["5"]


async def test_a_program_in_the_foreground_is_interrupted_and_one_behind_is_not(
    world: Environment, python: Tool
) -> None:
    await said(python, world, "import os, subprocess\nold = subprocess.Popen(['sleep', '600'])")
    output = await python(world, code="os.system('sleep 600')", timeout_s=0.3)
    assert output.data["timed_out"]
    assert not output.data["restarted"]
    assert await said(python, world, "old.poll() is None") == ["True"]


async def test_a_cell_that_does_not_let_go_is_killed(world: Environment, python: Tool) -> None:
    code = "import time\nwhile True:\n    try: time.sleep(1)\n    except KeyboardInterrupt: print('no')"
    output = await python(world, code=code, timeout_s=0.3)
    assert output.text.splitlines() == [
        "no", "no", "no",
        "[timed out: after 0.3 s the cell was interrupted, and it did not end]",
        f"[the kernel was killed by SIGKILL. {GONE}",
    ]  # fmt: skip
    assert (output.data["timed_out"], output.data["restarted"]) == (True, True)
    assert await said(python, world, "'time' in globals()") == ["False"]


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("import os; os._exit(3)", "ended with exit code 3"),
        ("import ctypes; ctypes.string_at(0)", "was killed by SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "was killed by SIGTERM"),
    ],
)
async def test_a_dead_kernel_is_reported_and_replaced(world: Environment, python: Tool, code: str, how: str) -> None:
    output = await python(world, code=f"print('last words')\n{code}")
    assert output.text == f"last words\n[the kernel {how}. {GONE}"
    assert (output.data["ok"], output.data["restarted"]) == (False, True)
    assert await said(python, world, "1 + 1") == ["2"]


async def test_a_kernel_that_died_between_cells_is_reported_with_the_next(world: Environment, python: Tool) -> None:
    await said(python, world, "import threading, os\nthreading.Timer(0.1, os._exit, (7,)).start()")
    await asyncio.sleep(0.5)
    output = await python(world, code="'os' in globals()")
    assert output.text == (
        "False\n[since the last cell the kernel ended with exit code 7. "
        "This cell ran in a new one: earlier variables are gone]"
    )
    assert (output.data["ok"], output.data["restarted"]) == (True, True)


async def test_reset_begins_anew(world: Environment, python: Tool) -> None:
    (pid,) = await said(python, world, "x = 1\nimport subprocess\nsubprocess.Popen(['sleep', '600']).pid")
    assert await runs(world, pid)
    output = await python(world, code="'x' in globals()", reset=True)
    assert (output.text, output.data["restarted"]) == ("False", False)
    assert not await runs(world, pid)


async def test_forks_and_tools_have_kernels_of_their_own(world: Environment, python: Tool) -> None:
    await said(python, world, "x = 'here'")
    fork = await world.fork()
    try:
        assert await said(python, fork, "'x' in globals()") == ["False"]
        cells = [python(each, code="import time; time.sleep(0.3); 'x' in globals()") for each in (world, fork, world)]
        assert [output.text for output in await asyncio.gather(*cells)] == ["True", "False", "True"]
    finally:
        await fork.close()


async def test_a_cancelled_cell_does_not_run_on(world: Environment, python: Tool) -> None:
    code = "import time\nfor n in range(600): open('alive', 'w').write(str(n)); time.sleep(0.1)"
    cell = asyncio.create_task(python(world, code=code))
    await asyncio.sleep(1.0)
    cell.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cell
    before = await world.read_file("alive")
    await asyncio.sleep(0.4)
    assert await world.read_file("alive") == before
    assert await said(python, world, "'time' in globals()") == ["False"]


async def test_a_world_that_is_gone_is_a_fault(world: Environment, python: Tool) -> None:
    await said(python, world, "1")
    cell = asyncio.create_task(python(world, code="import time; time.sleep(60)"))
    await asyncio.sleep(0.3)
    await world.close()
    with pytest.raises(EnvironmentFault):
        await cell


async def test_a_world_without_python_says_so(python: Tool) -> None:
    world = await EnvironmentSpec(kind="local", env={"PATH": "/nonexistent"}).start(label=LABEL)
    try:
        with pytest.raises(ToolError, match=r"no Python 3\.8 or later to be had here: .*No such file"):
            await python(world, code="1")
    finally:
        await world.close()


async def test_a_kernel_is_a_fork_of_the_warm_interpreter(world: Environment, python: Tool) -> None:
    warm = await dataclasses.replace(world.spec, preload=("decimal",)).start(label=LABEL)
    try:
        code = "import sys; ['decimal' in sys.modules, [name for name in sys.modules if name.startswith('trellis')]]"
        assert await said(python, warm, code) == ["[True, []]"]
        assert await said(python, world, code) == ["[False, []]"]
    finally:
        await warm.close()
        await kinds.reap(LABEL)


# --- memory ---


@pytest.fixture(params=["sandbox", pytest.param("docker", marks=pytest.mark.docker)])
async def small_world(request: pytest.FixtureRequest) -> AsyncIterator[Environment]:
    spec = EnvironmentSpec(kind=request.param, resources=Resources(memory_mb=300))
    try:
        environment = await spec.start(label=LABEL)
    except EnvironmentUnavailable as reason:
        pytest.skip(f"no {request.param}: {reason}")
    yield environment
    await environment.close()
    await kinds.reap(LABEL)


async def test_too_much_memory_ends_the_kernel_at_most(small_world: Environment, python: Tool) -> None:
    output = await python(
        small_world, code="print('before')\nx = bytearray(1 << 30)\nx[::4096] = b'1' * len(x[::4096])"
    )
    assert isinstance(output, Output)
    assert "MemoryError" in output.text or "was killed by SIGKILL, as happens to what needs more than" in output.text
    assert output.text.startswith("before")
    assert await said(python, small_world, "'alive'") == ["'alive'"]
    assert (await small_world.exec("echo alive")).stdout == b"alive\n"


# --- interpreters ---

PYTHONS = sorted({str(Path(sys.executable).resolve()), str(Path("/usr/bin/python3").resolve())})
OLDEST = [str(path) for path in Path.home().glob(".pyenv/versions/3.8.*/bin/python3")]


@pytest.mark.parametrize("interpreter", [path for path in (*PYTHONS, *OLDEST) if Path(path).exists()])
def test_the_program_runs_on_any_python(interpreter: str, tmp_path: Path) -> None:
    program = tmp_path / "kernel.py"
    program.write_text(pack_program(kernel.MODULES))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [interpreter, str(program)], stdin=theirs.fileno(), stdout=theirs.fileno(), env={"TMPDIR": str(tmp_path)}
        )
        theirs.close()
        ours.settimeout(30)
        frames = Frames()
        received: list[tuple[dict[str, Any], bytes]] = []
        for code in (b"x = 1\nprint(x)\nx + 1", b"1 / 0", b"import asyncio\nawait asyncio.sleep(0, 'a')"):
            before = len(received)
            ours.sendall(pack({"cell": "c", "limit_s": 60}, code))
            while len(received) < max(2, before + 1):
                received += frames.feed(ours.recv(1 << 16))
        ours.shutdown(socket.SHUT_WR)
        assert process.wait(10) == -9
    hello, first, second, third = received
    assert "python" in hello[0]
    assert first[1] == b"1\n2\n"
    assert second[1].splitlines()[-1] == b"ZeroDivisionError: division by zero"
    assert third[1] == b"'a'\n"
