"""`python` with `fresh`: whole scripts, each in an interpreter of its own. Cells: test_kernel.py."""

import re
from functools import partial
from typing import Any

import pytest

from trellis.environments.environment import Environment
from trellis.tools.catalog import make


@pytest.fixture
def run() -> Any:
    return partial(make(["python"])[0], fresh=True)


async def test_a_script_runs_in_the_workdir_and_leaves_only_its_files(world: Environment, run: Any) -> None:
    await world.write_file("helper.py", b"WORD = 'helped'\n")
    code = "import os, helper\nopen('made.txt', 'w').write('x')\nprint(os.getcwd(), helper.WORD)"
    output = await run(world, code=code)
    assert output.text == f"{world.workdir} helped"
    assert output.data["exit_code"] == 0
    listing = await world.exec("ls -A | grep -v __pycache__")
    assert listing.stdout.split() == [b"helper.py", b"made.txt"]


async def test_nothing_lasts_between_scripts(world: Environment, run: Any) -> None:
    await run(world, code="import builtins; builtins.left_behind = 1; x = 1")
    output = await run(
        world, code="import builtins; print(hasattr(builtins, 'left_behind'), 'x' in globals(), __name__)"
    )
    assert output.text == "False False __main__"


async def test_a_traceback_names_script_py_and_the_right_line(world: Environment, run: Any) -> None:
    output = await run(world, code="print('before', flush=True)\n\nraise ValueError('no such luck')\n")
    assert output.text.startswith("before\nTraceback (most recent call last):\n")
    assert re.search(r'File "script\.py", line 3, in <module>', output.text)
    assert output.text.endswith("ValueError: no such luck\n[exit code 1]")
    assert ".script-" not in output.text


async def test_a_syntax_error_is_shown(world: Environment, run: Any) -> None:
    output = await run(world, code="if True print(1)")
    assert 'File "script.py", line 1' in output.text
    assert "SyntaxError" in output.text
    assert output.data["exit_code"] == 1


async def test_exit_codes_and_standard_error(world: Environment, run: Any) -> None:
    output = await run(
        world, code="import sys; print('out'); sys.stdout.flush(); print('err', file=sys.stderr); sys.exit(4)"
    )
    assert output.text == "out\nerr\n[exit code 4]"
    assert output.data["exit_code"] == 4


async def test_an_error_begins_on_a_line_of_its_own(world: Environment, run: Any) -> None:
    output = await run(world, code="print('half a line', end=''); 1 / 0")
    assert output.text.startswith("half a line\nTraceback")


async def test_a_timeout_keeps_what_was_printed(world: Environment, run: Any) -> None:
    output = await run(world, code="import time; print('early', flush=True); time.sleep(600)", timeout_s=1.5)
    assert output.text == "early\n[timed out: the script was killed after 1.5 s; above is what it printed until then]"
    assert output.data["timed_out"]


async def test_long_output_is_cut_and_kept(world: Environment, run: Any) -> None:
    output = await run(world, code="for n in range(30_000): print(n)")
    notice = re.search(r"the output is kept in (\S+) \.\.\.\]", output.text)
    assert notice is not None
    assert (await world.read_file(notice[1])).count(b"\n") == 29_999
    assert output.text.endswith("29998\n29999")


async def test_text_beyond_ascii_goes_in_and_out(world: Environment, run: Any) -> None:
    output = await run(world, code="print('ünïcödé ✓')")
    assert output.text == "ünïcödé ✓"
