"""What is said to a fork's model stays where it was said, however the scaffold edits its history afterwards."""

import pytest

from trellis.models.messages import Message, Text, ToolResult, assistant, system, user
from trellis.scaffolds.interjection import Interjections
from trellis.trajectories.log import Event
from trellis.trajectories.recorded import Recorded
from trellis.trajectories.recorder import Recorder
from trellis.trajectories.source import Source

SAID = user("Mind the gap.")
RESULT = ToolResult("1", "shell", (Text("a long output"),)).message
FIRST = [system("s"), user("task"), assistant("ls"), RESULT]


def load(name: str) -> bytes:
    raise FileNotFoundError(name)


class Fork:
    """What is put into the conversations of a fork of a log with so many calls on its branches."""

    def __init__(self, calls: dict[str, int], branch: str = "main", under_way: str = "") -> None:
        events: list[Event] = []
        for name, count in calls.items():
            for _ in range(count):
                seq = len(events)
                events.append({"seq": seq, "at": 0.0, "branch": name, "kind": "generate.begun", "request": ""})
                events.append({"seq": seq + 1, "at": 0.0, "branch": name, "kind": "generate.done", "begun": seq})
        if under_way:
            seq = len(events)
            events.append({"seq": seq, "at": 0.0, "branch": under_way, "kind": "generate.begun", "request": ""})
        source = Source(Recorded(events, load), strict=False, message=SAID, branch=branch)
        self.interjections = Interjections(Recorder(None, {"episode": {}}, source=source), source)

    def sends(self, branch: str, calls: int, messages: list[Message]) -> list[Message]:
        return list(self.interjections.into("generate", branch, calls, messages)[0])


def test_it_is_said_in_the_first_call_beyond_the_record_and_stays() -> None:
    fork = Fork({"main": 2})
    assert fork.sends("main", 0, FIRST) == FIRST
    assert fork.sends("main", 1, FIRST) == FIRST
    assert fork.sends("main", 2, FIRST) == [*FIRST, SAID]
    later = [*FIRST, assistant("more"), user("go on")]
    assert fork.sends("main", 3, later) == [*FIRST, SAID, *later[4:]]


def test_a_branch_that_begins_afterwards_hears_it_where_the_forked_one_is_over() -> None:
    fork = Fork({"main/a": 1, "main/b": 1}, branch="main/a")
    assert fork.sends("main/b", 1, FIRST) == FIRST, "it was there before the fork, and is another's"
    assert fork.sends("main/c", 0, FIRST) == [*FIRST, SAID]
    assert fork.sends("main/d", 0, FIRST) == FIRST, "it is said once"


def test_a_branch_that_was_under_way_does_not_hear_it_and_the_forked_one_always_does() -> None:
    fork = Fork({"main/a": 1}, branch="main/a", under_way="main/b")
    assert fork.sends("main/b", 0, FIRST) == FIRST
    assert fork.sends("main/c", 0, FIRST) == [*FIRST, SAID]
    assert fork.sends("main/a", 1, FIRST) == [*FIRST, SAID]


def test_a_judge_does_not_hear_it() -> None:
    assert Fork({"main": 1}).sends("grader", 0, FIRST) == FIRST


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([*FIRST[:3], ToolResult("1", "shell", (Text("[trimmed]"),)).message, assistant("x")], 4),
        ([FIRST[0], FIRST[1], FIRST[3], assistant("x")], 3),
        ([system("s"), user("a summary of it all")], None),
    ],
    ids=["the result was trimmed", "an older message was left out", "the history was summed up"],
)
def test_an_edited_history(history: list[Message], expected: int | None) -> None:
    fork = Fork({"main": 0})
    fork.sends("main", 0, FIRST)
    found = fork.sends("main", 1, history)
    assert found == (history if expected is None else [*history[:expected], SAID, *history[expected:]])
