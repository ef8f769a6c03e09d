"""A script in a fork of a warm interpreter does what it does in an interpreter of its own, in every observable way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from trellis.environments.environment import Environment, EnvironmentSpec

LABEL = f"test-{os.getpid()}"
PRELOAD = ("decimal", "random", "multiprocessing")
pytestmark = pytest.mark.asyncio(loop_scope="module")

SCRIPTS = {
    "prints": "import sys; print('out'); print('err', file=sys.stderr); print('é', sys.argv, __name__, __file__)",
    "raises": "def f():\n    return 1 / 0\n\nprint('before')\nf()",
    "chains": "try:\n    {}['x']\nexcept KeyError as e:\n    raise ValueError('second') from e",
    "syntax": "x = (\nprint('never')",
    "exit code": "import sys; print('x'); sys.exit(3)",
    "exit text": "import sys; sys.exit('the reason')",
    "exit none": "raise SystemExit",
    "exit big": "raise SystemExit(1000)",
    "interrupt": "raise KeyboardInterrupt",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "aborts": "import os; print('lost or not', flush=True); os.abort()",
    "quits": "import os; print('unflushed'); os._exit(4)",
    "open file": "f = open('left-open.txt', 'w'); f.write('content')",
    "at exit": "import atexit; atexit.register(print, 'bye'); print('hi'); 1/0",
    "thread": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()",
    "path": "import sys, os; print(sys.path[0], os.getcwd(), sys.executable, sys.flags, sys.prefix)",
    "main": "import __main__; x = 5; print(__main__.x, sorted(vars(__main__)))",
    "input": "import sys; print(repr(sys.stdin.read()), input.__name__)",
    "imports": "import helper; print(helper.value, helper.__file__)",
    "pickles": "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))))",
    "pool": "import multiprocessing as m\ndef f(x): return x * x\n"
    "if __name__ == '__main__':\n    with m.get_context('spawn').Pool(2) as p: print(p.map(f, [1, 2, 3]))",
    "hash": "print(hash('a'), {'x', 'y', 'z'}, list({'b', 'a', 'c'}))",
    "child": "import subprocess, sys; print(subprocess.run('echo $X; exit 3', shell=True, env={'X': 'y'}).returncode)",
    "environment": "import os; print(sorted(set(os.environ) - {'_', 'SHLVL', 'PWD', 'OLDPWD', 'LC_CTYPE'}))",
    "pipe": "import signal; print(signal.getsignal(signal.SIGPIPE), signal.getsignal(signal.SIGINT))",
    "closes": "import sys; sys.stdout.close()",
    "warns": "import warnings; warnings.warn('careful')",
    "annotations": "x: int = 1; print(__annotations__, __doc__, __spec__, __package__)",
    "recursion": "import sys; print(sys.getrecursionlimit()); f = lambda: f(); f()",
    "finder": "import importlib.util; print(importlib.util.find_spec('no_such_module'))",
}


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["local", "sandbox"])
async def worlds(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Environment, Environment]]:
    if request.param == "sandbox":
        request.getfixturevalue("sandbox")
    spec = EnvironmentSpec(kind=request.param)
    warm = await replace(spec, preload=PRELOAD).start(label=f"{LABEL}/warm")
    cold = await spec.start(label=f"{LABEL}/warm")
    for world in (warm, cold):
        await world.write_file("helper.py", b"value = 42")
        await world.write_file("warm.py", b"import sys; print('decimal' in sys.modules)")
    assert (await warm.exec(["python3", "warm.py"])).stdout == b"True\n"
    yield warm, cold
    await warm.close()
    await cold.close()


@pytest.mark.parametrize("name", SCRIPTS)
async def test_it_is_the_same(worlds: tuple[Environment, Environment], name: str) -> None:
    seen = []
    for world in worlds:
        await world.write_file("folder/script.py", SCRIPTS[name].encode())
        await world.write_file("folder/helper.py", b"value = 43")
        result = await world.exec(["python3", "folder/script.py", "an argument", "-x"], stdin=b"some input")
        output = [stream.replace(world.workdir.encode(), b"WORKDIR") for stream in (result.stdout, result.stderr)]
        output[1] = b"\n".join(line for line in output[1].splitlines() if b"[Previous line repeated" not in line)
        seen.append((result.exit_code, result.signal, *output))
        if name == "open file":
            assert await world.read_file("left-open.txt") == b"content"
    assert seen[0] == seen[1]


@pytest.mark.parametrize("command", [["python3", "no/such.py"], ["python3", "folder"], ["python3", "bad.pyz", "x"]])
async def test_odd_scripts_are_the_same(worlds: tuple[Environment, Environment], command: list[str]) -> None:
    seen = []
    for world in worlds:
        await world.exec("mkdir -p folder; head -c 100 /dev/urandom > bad.pyz; rm -f bad.pyz; touch bad.pyz")
        result = await world.exec(command)
        seen.append((result.exit_code, result.stdout, result.stderr.replace(world.workdir.encode(), b"WORKDIR")))
    assert seen[0] == seen[1]


async def test_unseeded_random_numbers_differ(worlds: tuple[Environment, Environment]) -> None:
    await worlds[0].write_file("random_numbers.py", b"import random; print(random.random())")
    drawn = {(await worlds[0].exec(["python3", "random_numbers.py"])).stdout for _ in range(5)}
    assert len(drawn) == 5


async def test_scripts_share_nothing(worlds: tuple[Environment, Environment]) -> None:
    await worlds[0].write_file("first.py", b"import decimal, sys; decimal.mine = 1; sys.path.append('mine')")
    await worlds[0].write_file("second.py", b"import decimal, sys; print(hasattr(decimal, 'mine'), 'mine' in sys.path)")
    await worlds[0].exec(["python3", "first.py"])
    assert (await worlds[0].exec(["python3", "second.py"])).stdout == b"False False\n"


async def test_other_variables_mean_another_interpreter(worlds: tuple[Environment, Environment]) -> None:
    for env in ({"PYTHONHASHSEED": "7"}, {"PYTHONUNBUFFERED": "1"}, {"TZ": "Asia/Tokyo"}):
        assert (await worlds[0].exec(["python3", "warm.py"], env=env)).stdout == b"False\n"
    assert (await worlds[0].exec(["python3", "warm.py"], env={"OTHER": "1"})).stdout == b"True\n"


async def test_a_timeout_kills_what_a_script_started(worlds: tuple[Environment, Environment]) -> None:
    script = "import os, subprocess, time\nsubprocess.Popen(['sleep', '666'], start_new_session=True)\n"
    await worlds[0].write_file("starts.py", (script + "print('begun', flush=True)\ntime.sleep(60)").encode())
    result = await worlds[0].exec(["python3", "starts.py"], timeout_s=0.5)
    assert (result.timed_out, result.stdout) == (True, b"begun\n")
    assert (await worlds[0].exec("grep -c '^sleep.666' /proc/[0-9]*/cmdline | grep -c ':1'")).stdout == b"0\n"


async def test_without_the_warm_interpreter_it_goes_on(sandbox: None) -> None:
    world = await EnvironmentSpec(kind="sandbox", preload=PRELOAD).start(label=f"{LABEL}/warm")
    await world.write_file("warm.py", b"import sys; print('decimal' in sys.modules)")
    assert (await world.exec(["python3", "warm.py"])).stdout == b"True\n"
    await world.exec("kill -9 -1")
    await asyncio.sleep(0.2)
    assert (await world.exec(["python3", "warm.py"])).stdout == b"False\n"
    await world.close()
