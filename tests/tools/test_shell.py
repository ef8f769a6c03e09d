import asyncio
import re

import pytest

from trellis.environments.environment import Environment
from trellis.tools.catalog import make
from trellis.tools.tool import Output, Tool, ToolError


@pytest.fixture
def shell() -> Tool:
    return make(["shell"])[0]


async def test_folder_variables_and_functions_last(world: Environment, shell: Tool) -> None:
    await shell(world, command="mkdir -p a/b && cd a/b && X=1 && f() { echo called $1; }")
    assert (await shell(world, command='pwd; echo "$X"; f twice')).text == f"{world.workdir}/a/b\n1\ncalled twice"


async def test_output_comes_in_order_and_an_exit_code_is_told(world: Environment, shell: Tool) -> None:
    output = await shell(world, command="echo one; echo two >&2; echo three; (exit 3)")
    assert output.text == "one\ntwo\nthree\n[exit code 3]"
    assert output.data["exit_code"] == 3
    assert not output.data["timed_out"]
    assert not output.is_error


async def test_silence_is_said(world: Environment, shell: Tool) -> None:
    assert (await shell(world, command="true")).text == "(no output)"
    assert (await shell(world, command="false")).text == "[exit code 1]"


async def test_colours_are_removed(world: Environment, shell: Tool) -> None:
    assert (await shell(world, command=r"printf '\033[31mred\033[0m\n'")).text == "red"


async def test_a_timeout_keeps_what_was_printed_and_kills_what_was_started(world: Environment, shell: Tool) -> None:
    command = "echo early; bash -c 'echo $$ > pid; exec sleep 600'; echo late"
    output = await shell(world, command=command, timeout_s=1)
    assert output.text.startswith("early\n[timed out: the command was killed after 1 s; ")
    assert output.data["timed_out"]
    assert "late" not in output.text
    after = await shell(world, command="kill -0 $(cat pid) 2> /dev/null && echo running || echo gone")
    assert after.text == "gone"


async def test_a_shell_that_ended_is_replaced_and_this_is_said(world: Environment, shell: Tool) -> None:
    await shell(world, command="cd / && X=1")
    output = await shell(world, command="echo bye; exit 7")
    assert output.text.startswith("bye\n[exit code 7]\n[the shell ended and a new one took its place")
    assert output.data["restarted"]
    assert (await shell(world, command='echo "X=$X"; pwd')).text == f"X=\n{world.workdir}"


async def test_background_jobs_outlive_the_call(world: Environment, shell: Tool) -> None:
    output = await shell(world, command="(sleep 0.2; echo done > finished) > job.log 2>&1 &", timeout_s=20)
    assert not output.data["timed_out"]
    waited = await shell(
        world, command="for i in $(seq 100); do [ -s finished ] && break; sleep 0.1; done; cat finished"
    )
    assert waited.text == "done"


async def test_long_output_is_cut_in_the_middle_and_kept_whole(world: Environment, shell: Tool) -> None:
    command = "seq 1 30000"
    output = await shell(world, command=command)
    assert len(output.text) < 17_000
    assert output.text.startswith("1\n2\n")
    assert output.text.endswith("\n29999\n30000")
    notice = re.search(r"\[\.\.\. [\d,]+ characters cut here; the whole output is in (\S+) \.\.\.\]", output.text)
    assert notice is not None
    assert (await world.read_file(notice[1])).decode().splitlines() == [str(n) for n in range(1, 30001)]
    assert (await shell(world, command=command)).text == output.text, "the same output reads the same when replayed"


async def test_output_beyond_any_memory_is_cut_by_the_world_and_still_kept(world: Environment, shell: Tool) -> None:
    output = await shell(world, command="seq 1 3000000")
    assert len(output.text) < 17_000
    assert output.text.endswith("\n2999999\n3000000")
    notice = re.search(r"the whole output is in (\S+) \.\.\.\]", output.text)
    assert notice is not None
    count = await world.exec(["wc", "-l", notice[1]])
    assert count.stdout.split()[0] == b"3000000"


async def test_calls_at_the_same_time_do_not_mix(world: Environment, shell: Tool) -> None:
    async def ask(word: str) -> Output:
        return await shell(world, command=f"echo {word}; sleep 0.05; echo {word}")

    outputs = await asyncio.gather(*(ask(word) for word in ("a", "b", "c")))
    assert [output.text for output in outputs] == ["a\na", "b\nb", "c\nc"]


async def test_a_fork_has_a_shell_of_its_own(world: Environment, shell: Tool) -> None:
    await shell(world, command="echo first > file; X=parent")
    fork = await world.fork()
    try:
        assert (await shell(fork, command='cat file; echo "X=$X"; echo second > file')).text == "first\nX="
        assert (await shell(world, command='cat file; echo "X=$X"')).text == "first\nX=parent"
    finally:
        await fork.close()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "command: Field required"),
        ({"command": "ls", "timeout_s": 0}, "timeout_s: .*greater than 0"),
        ({"command": "ls", "seconds": 3}, "seconds: Extra inputs"),
        ({"command": "echo \ud800"}, "command: .*character 5 is half of a surrogate pair"),
    ],
)
async def test_wrong_arguments_are_the_models_mistake(
    world: Environment, shell: Tool, arguments: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ToolError, match=f"wrong arguments for shell: {complaint}"):
        await shell(world, **arguments)
