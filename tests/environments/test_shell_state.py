"""What a shell knows travels: it is told by one bash and taken over by another, whatever is in it."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from typing import cast

import pytest

from trellis.environments.channel import ChannelEnvironment
from trellis.environments.environment import Environment, EnvironmentSpec, Kind, Shell
from trellis.environments.guest.shell_state import LONGEST_STATE_BYTES, LONGEST_VARIABLE_BYTES

LABEL = f"test-{os.getpid()}"
STATE = r"""
mkdir -p deep/er old && cd old && cd ../deep/er
plain=$'one\ntwo\'"'; export EXPORTED='x  y $(id) `id`'; declare -i number=5; declare -a array=(1 'b c' [7]=z)
declare -A map=([k v]=w [$'n\nl']=2); declare -r FIXED=1; declare -n ref=plain; declare -u upper=abc
declare -rx BOTH=2; declare -ai numbers=(1 2+3); bytes=$'caf\xe9 \x01\x7f'; unicode='é日本'; empty=
f() { echo "f: $1 $plain"; [[ x == @(x|y) ]] && : $(( 1 << 2 )); case $1 in (a*) echo a;; esac; }
here() { cat <<E
h $1
E
}
export -f here
eval $'odd() { echo "caf\xe9"; }'
alias ll='echo aliased'; alias quote="echo 'it'\''s'"
shopt -s nullglob dotglob; shopt -u sourcepath; set -u; set -o pipefail; set -C; umask 027
trap 'echo usr1 "it'\''s"' USR1; trap '' USR2; set -- p1 'p  2' ''; IFS=$',\n'; OPTIND=3; unset TZ; PATH=$PATH:/extra
"""
QUESTION = r"""
echo "${PWD: -8}|${OLDPWD: -4}"; declare -p plain EXPORTED number array map FIXED ref upper BOTH numbers bytes
declare -p unicode empty; declare -f; ll x; quote; f a; here B; bash -c 'here C'; odd; shopt; set +o; umask
trap -p; echo "$#:$1:$2:$3"; declare -p IFS OPTIND; echo "${TZ-unset} ${PATH##*:}"; number=2+2; echo $number; alias
bash -c 'echo $EXPORTED $BOTH'; (FIXED=3) 2>/dev/null || echo fixed; export -p | grep -v "PWD\|HOME\|TMPDIR"
"""


class World(ChannelEnvironment, Environment):
    """What the kinds of environment are, for type checkers."""


OPENED: list[Environment] = []


@pytest.fixture
async def world(kind: Kind) -> AsyncIterator[World]:
    environment = await EnvironmentSpec(kind=kind).start(label=LABEL)
    OPENED.append(environment)
    yield cast(World, environment)
    while OPENED:
        await OPENED.pop().close()


async def other_world(world: World, states: Mapping[str, str]) -> World:
    fork = cast(World, await world.fork())
    OPENED.append(fork)
    fork.shell_state_of_snapshot = states
    return fork


async def taken_over(world: World, setting: str) -> tuple[World, Shell]:
    """A world, and the shell in it that goes on where the one here is after `setting`."""
    await (await world.open_shell()).run(setting)
    fork = await other_world(world, await world.shell_states())
    return fork, await fork.open_shell()


async def test_everything_bash_can_tell_travels(world: World) -> None:
    shell = await world.open_shell()
    assert (await shell.run(STATE)).output == b""
    states = await world.shell_states()
    assert states["main"].isascii()
    before = await shell.run(QUESTION)
    fork = await other_world(world, states)
    after = await (await fork.open_shell()).run(QUESTION)
    assert after.output == before.output
    assert after.output.startswith(b"/deep/er|/old\n")
    assert after.output.count(b"\n") > 100


WHAT_IS_IGNORED = """
import asyncio, sys
from trellis.environments.environment import EnvironmentSpec

async def main():
    world = await EnvironmentSpec(kind=sys.argv[1]).start(label=sys.argv[2])
    ask = "grep SigIgn /proc/self/status"
    print((await world.exec(ask)).text + (await (await world.open_shell()).run(ask)).output.decode())
    await world.close()

asyncio.run(main())
"""


def test_what_whoever_started_trellis_ignores_is_not_ignored_inside(kind: Kind) -> None:
    """Under `nohup`, or behind an `&` in a script, worlds are the same."""
    asked = [sys.executable, "-c", WHAT_IS_IGNORED, kind, f"{LABEL}/ignored"]
    script = f"trap '' HUP QUIT; {shlex.join(asked)}"
    said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=120).stdout
    masks = [int(line.split()[1], 16) for line in said.splitlines() if line]
    assert [mask & 0b101 for mask in masks] == [0, 0]


async def test_being_asked_changes_nothing(world: World) -> None:
    shell = await world.open_shell()
    await shell.run(
        "set -uo pipefail; set -T; trap 'echo debug' DEBUG; trap 'echo err' ERR; trap 'echo exit' EXIT; set -E; set -C"
    )
    await shell.run("trap - DEBUG; (sleep 0.1; echo from a job) & x=1; (exit 7)")
    await world.shell_states()
    await asyncio.sleep(0.3)
    result = await shell.run(
        "echo $? $x; trap -p; jobs -p | wc -l; compgen -v | grep -c trellis; set +o | grep -c -- -o"
    )
    lines = result.output.decode().splitlines()
    assert "7 1" in lines
    assert "from a job" in lines, "what jobs print comes with the next command"
    assert sum("trap --" in line for line in lines) == 2
    assert "0" in lines
    assert not result.restarted


@pytest.mark.parametrize(
    "hostile",
    [
        "set -eEuTC; set -f; trap 'echo noise' DEBUG RETURN ERR EXIT; IFS=0",
        "set -o posix; export POSIXLY_CORRECT=1",
        "declare() { echo no; }; trap() { echo no; }; set() { echo no; }; eval() { echo no; }; printf() { echo no; }",
        "alias builtin='echo no'; alias printf=false; alias declare=exit",
        "LC_ALL=C; PATH=/nowhere; CDPATH=/; BASH_ENV=/nowhere; PROMPT_COMMAND='echo no'; PS1='$(exit)'",
        "shopt -s extdebug nocasematch failglob; shopt -u sourcepath expand_aliases",
        "set -k; set -m; set -x; set -v",
    ],
)
async def test_traps_and_options_that_disturb_are_no_hindrance(world: World, hostile: str) -> None:
    _, shell = await taken_over(world, f"x=kept; f() {{ echo called; }}; cd ..; {hostile}")
    result = await shell.run("echo $x; f")
    assert {b"kept", b"called"} <= set(result.output.splitlines())
    assert b"taken over" not in result.output


async def test_names_that_only_another_world_has_do_not_travel(world: World) -> None:
    fork, shell = await taken_over(world, "HOME=/changed; export NEW=1")
    told = (await shell.run('echo "$HOME $NEW"; echo "$TMPDIR"; pwd')).output.decode().splitlines()
    plain = (await fork.exec('echo "$TMPDIR"; pwd')).stdout.decode().splitlines()
    assert told == ["/changed 1", *plain]


async def test_a_folder_that_is_gone_is_said_once(world: World) -> None:
    fork, shell = await taken_over(world, "mkdir gone; cd gone; x=kept; rmdir ../gone")
    first = await shell.run("echo $x; pwd")
    assert first.output.decode().startswith("[the shell of the snapshot: the working folder is gone: ")
    assert first.output.decode().endswith(f"]\nkept\n{fork.workdir}\n")
    assert (await shell.run("echo again")).output == b"again\n"


async def test_a_variable_of_any_length_is_carried_or_named(world: World) -> None:
    setting = f"long=$(head -c {LONGEST_VARIABLE_BYTES // 2} /dev/zero | tr '\\0' a); longer=$long$long$long; x=kept"
    _, shell = await taken_over(world, setting)
    result = await shell.run("echo ${#long} ${#longer} $x")
    assert result.output.decode() == (
        "[the shell of the snapshot: variables too long to be taken over: longer]\n"
        f"{LONGEST_VARIABLE_BYTES // 2} 0 kept\n"
    )


@pytest.mark.parametrize("count", [LONGEST_STATE_BYTES // (LONGEST_VARIABLE_BYTES // 2) + 1, 80])
async def test_a_state_with_no_limit_is_given_up_and_said(world: World, count: int) -> None:
    half = f"long=$(head -c {LONGEST_VARIABLE_BYTES // 2} /dev/zero | tr '\\0' a)"
    _, shell = await taken_over(world, f"{half}; for i in {{1..{count}}}; do declare v$i=$long; done")
    result = await shell.run("echo works ${#long}")
    assert result.output == (b"[the shell of the snapshot could not be taken over, or not wholly]\nworks 0\n")


def _with(state: str, **members: str) -> str:
    return json.dumps({**json.loads(state), **members})


@pytest.mark.parametrize(
    "damaged",
    [
        lambda state: _with(state, rest="exit 3"),
        lambda state: _with(state, rest="exec true"),
        lambda state: _with(state, rest="kill -9 $$"),
        lambda state: "not a state",
        lambda state: "[1]",
    ],
)
async def test_a_state_that_cannot_be_taken_over_leaves_a_shell_that_works(world: World, damaged: object) -> None:
    await (await world.open_shell()).run("x=1")
    assert callable(damaged)
    fork = await other_world(world, {"main": damaged((await world.shell_states())["main"])})
    shell = await fork.open_shell()
    first = await shell.run("echo works; pwd")
    assert first.output.decode() == (
        f"[the shell of the snapshot could not be taken over, or not wholly]\nworks\n{fork.workdir}\n"
    )
    assert (first.exit_code, first.restarted, first.timed_out) == (0, False, False)
    assert (await shell.run("echo more")).output == b"more\n"


@pytest.mark.parametrize("kind", ["sandbox"])
@pytest.mark.usefixtures("sandbox")
async def test_a_state_with_no_end_is_given_up(world: World) -> None:
    await (await world.open_shell()).run("x=1")
    state = _with((await world.shell_states())["main"], rest="while :; do :; done")
    fork = await other_world(world, {"main": state})
    first = await (await fork.open_shell()).run("echo works", timeout_s=60)
    assert first.output.endswith(b"could not be taken over, or not wholly]\nworks\n")


async def test_functions_that_cannot_be_read_again_are_said(world: World) -> None:
    await (await world.open_shell()).run("x=kept")
    fork = await other_world(world, {"main": _with((await world.shell_states())["main"], functions="f() { if; }")})
    first = await (await fork.open_shell()).run("echo $x")
    assert first.output == b"[the shell of the snapshot: not all functions could be taken over]\nkept\n"


async def test_shells_are_told_by_name_and_only_between_commands(world: World) -> None:
    for name, value in (("main", "1"), ("side", "2"), ("main", "3")):
        await (await world.open_shell(name)).run(f"x={value}")
    waiting = await world.open_shell("waiting")
    assert (await waiting.run("read x", interactive=True)).waiting
    busy = await world.open_shell("busy")
    running = asyncio.create_task(busy.run("sleep 600"))
    await asyncio.sleep(0.1)
    closed = await world.open_shell("closed")
    await closed.run("x=0")
    await closed.close()
    states = await world.shell_states()
    assert sorted(states) == ["main", "main#2", "side"]
    running.cancel()
    fork = await other_world(world, states)
    found = [await (await fork.open_shell(name)).run("echo $x") for name in ("main", "side", "main", "other")]
    assert [result.output for result in found] == [b"1\n", b"2\n", b"3\n", b"\n"]


async def test_what_nobody_took_over_travels_on(world: World) -> None:
    await (await world.open_shell()).run("x=kept; cd /usr")
    first = await other_world(world, await world.shell_states())
    second = await other_world(first, await first.shell_states())
    await second.open_shell()  # opened, and not used
    third = await other_world(second, await second.shell_states())
    assert (await (await third.open_shell()).run("echo $x; pwd")).output == b"kept\n/usr\n"


async def test_a_shell_that_ended_begins_without_the_state(world: World) -> None:
    _, shell = await taken_over(world, "x=kept")
    assert (await shell.run("echo $x; exit")).output == b"kept\n"
    assert (await shell.run("echo [$x]")).output == b"[]\n"


async def test_a_question_that_was_given_up_holds_nothing_up(world: World) -> None:
    shell = await world.open_shell()
    await shell.run("for i in {1..3000}; do declare v$i=x; done")
    asking = asyncio.create_task(world.shell_states())
    await asyncio.sleep(0.005)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (await shell.run("echo $v3000")).output == b"x\n"
    assert (await world.shell_states())["main"]
