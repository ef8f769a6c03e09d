import asyncio
import re

import pytest

from trellis.environments.environment import Environment, EnvironmentSpec
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
    notice = re.search(r"\[\.\.\. [\d,]+ characters cut here; the output is kept in (\S+) \.\.\.\]", output.text)
    assert notice is not None
    assert (await world.read_file(notice[1])).decode().splitlines() == [str(n) for n in range(1, 30001)]
    assert (await shell(world, command=command)).text == output.text, "the same output reads the same when replayed"


async def test_output_beyond_any_memory_is_cut_by_the_world_and_still_kept(world: Environment, shell: Tool) -> None:
    output = await shell(world, command="seq 1 3000000")
    assert len(output.text) < 17_000
    assert output.text.endswith("\n2999999\n3000000")
    notice = re.search(r"the output is kept in (\S+) \.\.\.\]", output.text)
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
        await shell(fork, command="X=child")
        assert (await shell(fork, command='cat file; echo "X=$X"; echo second > file')).text == "first\nX=child"
        assert (await shell(world, command='cat file; echo "X=$X"')).text == "first\nX=parent"
    finally:
        await fork.close()


@pytest.mark.parametrize("first", [{"command": "true", "background": True}, {"input": "nobody waits"}])
async def test_what_a_fork_has_not_taken_over_is_told_whatever_comes_first(
    world: Environment, shell: Tool, first: dict[str, object]
) -> None:
    await shell(world, command="mkdir gone; cd gone; rmdir ../gone")
    fork = await world.fork()
    try:
        said = ""
        for arguments in (first, {"command": "echo on"}, {"command": "echo more"}):
            try:
                said += (await shell(fork, **arguments)).text + "\n"
            except ToolError:
                assert "input" in arguments
        assert said.count("[the shell of the snapshot: the working folder is gone: ") == 1
        assert said.startswith("[the shell of the snapshot")
        assert said.endswith("on\nmore\n")
    finally:
        await fork.close()


async def test_what_a_world_says_on_standard_error_is_no_part_of_a_path_or_of_a_jobs_state(shell: Tool) -> None:
    world = await EnvironmentSpec(kind="local", env={"BASH_ENV": "noise"}).start(label="tests/tools")
    try:
        await world.write_file("noise", b"echo 'a warning' >&2; trap \"echo 'a warning' >&2\" EXIT\n")
        assert (await world.exec("true")).stderr == b"a warning\n" * 2
        await shell(world, command="echo of a job", background=True)
        said = (await shell(world, job=1, timeout_s=20)).text
        assert said.splitlines()[-1] == "[job 1 ended with exit code 0]"
        assert "of a job" in said
        long = (await shell(world, command="seq 20000")).text
        kept = re.search(r"kept in (\S+) \.\.\.\]", long)
        assert kept is not None, long[-200:]
        assert (await world.read_file(kept[1])).endswith(b"\n20000")
    finally:
        await world.close()


async def test_a_prompt_is_answered(world: Environment, shell: Tool) -> None:
    output = await shell(world, command="read -p 'Go on? ' x; echo \"<$x>\"")
    assert output.text.startswith("Go on? \n[the command waits for input. Go on with `input`")
    assert (output.data["waiting"], output.data["exit_code"], output.is_error) == (True, -1, False)
    assert (await shell(world, input="yes")).text == "<yes>"
    await shell(world, command='read x; echo "<$x>"')
    assert (await shell(world, input="with its end\n")).text == "<with its end>"
    await shell(world, command='read x; echo "<$x>"')
    assert (await shell(world, input="")).text == "<>", "Enter alone"


async def test_the_end_of_input_and_an_interrupt_as_keys(world: Environment, shell: Tool) -> None:
    await shell(world, command="cat; echo done")
    assert (await shell(world, input="no line end\x04")).text == "no line enddone"
    await shell(world, command="cat; echo done")
    assert (await shell(world, input="\x04")).text == "done"
    await shell(world, command="X=kept; cat; echo done")
    assert (await shell(world, input="\x03")).text == "[interrupted]"
    await shell(world, command="cat; echo done")
    output = await shell(world, interrupt=True)
    assert (output.text, output.data["exit_code"]) == ("[interrupted]", 130)
    assert (await shell(world, command="echo $X")).text == "kept"


async def test_a_command_while_another_waits_is_told_what_waits(world: Environment, shell: Tool) -> None:
    await shell(world, command="read answer; echo got $answer")
    for arguments in ({"command": "ls"}, {"command": "sleep 9", "background": True}):
        with pytest.raises(
            ToolError, match=r"waits for input; first go on with `input`.*`interrupt`.*`timeout_s` alone"
        ):
            await shell(world, **arguments)
    with pytest.raises(ToolError, match=r"It is: read answer; echo got \$answer$"):
        await shell(world, command="ls")
    assert (await shell(world, input="it")).text == "got it"


async def test_what_waits_can_be_left_to_itself(world: Environment, shell: Tool) -> None:
    assert (await shell(world, command="read -t 1 x; echo over")).data["waiting"]
    assert (await shell(world, timeout_s=20)).text == "over"
    assert (await shell(world, command="read -t 1 x; echo over")).data["waiting"]
    await asyncio.sleep(1.2)
    assert (await shell(world, command="echo next")).text == "over\nnext"


async def test_a_conversation_with_an_interpreter(world: Environment, shell: Tool) -> None:
    assert ">>> \n[the command waits" in (await shell(world, command="python3")).text
    assert (await shell(world, input="6 * 7")).text.startswith("42\n>>> \n[the command waits")
    output = await shell(world, input="exit(3)")
    assert (output.text, output.data["waiting"]) == ("[exit code 3]", False)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({}, "no command waits for input: give a `command`"),
        ({"command": "  \n"}, "no command waits for input: give a `command`"),
        ({"input": "x"}, "no command waits for input: give a `command`"),
        ({"interrupt": True}, "no command waits for input: give a `command`"),
        ({"command": "ls", "input": "x"}, "give either `command`"),
        ({"command": "ls", "job": 1}, "give either `command`"),
        ({"input": "x", "interrupt": True}, "`input` is for the command that waits"),
        ({"background": True}, "`background` needs a `command`"),
        ({"job": 7}, "there is no job 7; none was started"),
    ],
)
async def test_arguments_that_make_no_sense_together(
    world: Environment, shell: Tool, arguments: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ToolError, match=complaint):
        await shell(world, **arguments)
    assert (await shell(world, command="echo fine")).text == "fine"


async def test_a_job_is_read_as_it_goes_on(world: Environment, shell: Tool) -> None:
    await shell(world, command='mkdir sub; cd sub; f() { echo "$PWD $X"; }; X=shared')
    command = "f; echo one; until [ -e ../go ]; do sleep 0.05; done; echo two >&2; exit 4"
    started = await shell(world, command=command, background=True)
    assert started.text == "[job 1 runs in the background: read it with `job`, end it with `job` and `interrupt`]"
    first = await shell(world, job=1, timeout_s=1)
    assert first.text == f"{world.workdir}/sub shared\none\n[job 1 still runs]"
    assert (await shell(world, job=1)).text == "[job 1 still runs; nothing new]"
    assert (await shell(world, command="jobs | wc -l; touch ../go")).text == "1"
    last = await shell(world, job=1, timeout_s=20)
    assert (last.text, last.data["exit_code"], last.data["running"]) == (
        "two\n[job 1 ended with exit code 4]",
        4,
        False,
    )
    assert (await shell(world, job=1)).text == "[job 1 ended with exit code 4]"


async def test_a_job_is_ended_with_all_it_started(world: Environment, shell: Tool) -> None:
    await shell(
        world, command="sleep 600 & bash -c 'trap \"\" TERM; echo $$ > pid; sleep 600; sleep 600'", background=True
    )
    await shell(world, command="until [ -s pid ]; do sleep 0.05; done")
    assert (await shell(world, job=1, interrupt=True)).text == "[job 1 was killed]"
    assert (await shell(world, command="kill -0 $(cat pid) 2>/dev/null || echo gone")).text == "gone"
    with pytest.raises(ToolError, match="there is no job 2; there are 1: sleep 600 & bash"):
        await shell(world, job=2)


async def test_a_job_outlives_its_shell_and_timeouts(world: Environment, shell: Tool) -> None:
    await shell(world, command="until [ -e go ]; do sleep 0.05; done; echo finished", background=True)
    assert (await shell(world, command="sleep 60", timeout_s=0.5)).data["timed_out"]
    assert (await shell(world, command="exit")).data["restarted"]
    await shell(world, command="touch go")
    assert (await shell(world, job=1, timeout_s=20)).text == "finished\n[job 1 ended with exit code 0]"


@pytest.mark.parametrize("odd", ["if", "exit 2", "exec bash -c 'exit 2'", "set -e; (exit 2); echo no", "' \" \\"])
async def test_a_job_may_be_anything(world: Environment, shell: Tool, odd: str) -> None:
    await shell(world, command=odd, background=True)
    assert (await shell(world, job=1, timeout_s=20)).text.endswith("[job 1 ended with exit code 2]")


async def test_a_job_gets_no_input(world: Environment, shell: Tool) -> None:
    await shell(world, command="cat; read x; echo $?", background=True)
    assert (await shell(world, job=1, timeout_s=20)).text == "1\n[job 1 ended with exit code 0]"


async def test_jobs_keep_the_options_of_the_shell(world: Environment, shell: Tool) -> None:
    for options in ("", "set -m; "):
        before = await shell(world, command=f"{options}echo $-")
        await shell(world, command="true", background=True)
        assert (await shell(world, command="echo $-")).text == before.text


async def test_colours_stay_in_the_log(world: Environment, shell: Tool) -> None:
    output = await shell(world, command=r"printf '\033[31mred\033[0m\xff\n'")
    assert (output.text, output.data["raw"]) == ("red\ufffd", "\x1b[31mred\x1b[0m\\xff\n")
    assert "raw" not in (await shell(world, command="echo plain; echo é")).data


@pytest.mark.parametrize(
    ("command", "program"),
    [
        (r"printf '\033[?1049h\033[H~\n'", "this"),
        (r"printf '\033[12;40Hhere'", "this"),
        ("echo 'Error opening terminal: dumb.' >&2; (exit 1)", "this"),
        ("vim() { read x; }; vim file", "vim"),
        ("less() { sleep 60; }; cd /; PAGER=x less file", "less"),
    ],
)
async def test_a_program_that_wants_a_screen_is_told_so(
    world: Environment, shell: Tool, command: str, program: str
) -> None:
    output = await shell(world, command=command, timeout_s=3)
    assert output.text.splitlines()[-1].startswith(
        f"[{program} is a full-screen program, for which there is no screen: "
    )
    assert "~" not in output.text


async def test_what_is_printed_beside_a_picture_is_shown(world: Environment, shell: Tool) -> None:
    text = (await shell(world, command=r"echo before; printf '\033[?1049h~\n\033[?1049l'; echo after")).text
    assert text.startswith("before\nafter\n[this is a full-screen program")


async def test_real_programs_that_want_a_screen(world: Environment, shell: Tool) -> None:
    names = (await shell(world, command="command -v vim top less git")).text.split()
    if any(name.endswith("/vim") for name in names):
        assert "[vim is a full-screen program" in (await shell(world, command="vim file", timeout_s=20)).text
        assert (await shell(world, interrupt=True)).text == "[interrupted]"
    if any(name.endswith("/top") for name in names):
        assert "`top -b -n 1`" in (await shell(world, command="top", timeout_s=20)).text
        await shell(world, interrupt=True)
    if any(name.endswith("/less") for name in names):
        assert (await shell(world, command="echo page | less")).text == "page"
    if any(name.endswith("/git") for name in names):
        who = "git init -q r; cd r; git config user.name n; git config user.email e"
        output = await shell(
            world, command=f"{who}; git commit --allow-empty; git commit -qm x --allow-empty; git log -1"
        )
        assert "Aborting commit due to empty commit message" in output.text
        assert output.text.endswith("    x")
    assert names, "none of these programs is here"


async def test_settings_come_back_with_a_new_shell(world: Environment, shell: Tool) -> None:
    ask = "echo $TERM $PAGER $GIT_PAGER $EDITOR; export -p | grep -c PAGER="
    assert (await shell(world, command=ask)).text == "dumb cat cat false\n4"
    await shell(world, command="exec true")
    assert (await shell(world, command=ask)).text == "dumb cat cat false\n4"
    assert (await world.exec("echo $PAGER")).stdout == b"\n", "only shells have them"


@pytest.mark.parametrize(
    "odd",
    ["echo 'open", "if true; then", "cat <<E\nno end", "exec 3<&0; exec 3<&-", "fi", "echo $(", ")", "\\", "# nothing"],
)
async def test_whatever_a_model_sends_the_shell_lives_on(world: Environment, shell: Tool, odd: str) -> None:
    await shell(world, command="X=kept")
    output = await shell(world, command=odd, timeout_s=10)
    assert not output.data["timed_out"]
    assert (await shell(world, command="echo $X")).text == "kept"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"command": ["ls"]}, "command: Input should be a valid string"),
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
