"""What is said to a fork's model stays where it was said, however the scaffold edits its history afterwards."""

import pytest

from trellis.models.messages import Message, Text, ToolResult, assistant, system, user
from trellis.scaffolds.interjection import Interjection
from trellis.trajectories.log import Event
from trellis.trajectories.recorded import Recorded
from trellis.trajectories.source import Source

SAID = user("Mind the gap.")
RESULT = ToolResult("1", "shell", (Text("a long output"),)).message
FIRST = [system("s"), user("task"), assistant("ls"), RESULT]


def load(name: str) -> bytes:
    raise FileNotFoundError(name)


def interjection(calls: dict[str, int], branch: str = "main") -> Interjection:
    events: list[Event] = []
    for name, count in calls.items():
        for _ in range(count):
            seq = len(events)
            events.append({"seq": seq, "at": 0.0, "branch": name, "kind": "generate.begun", "request": ""})
            events.append({"seq": seq + 1, "at": 0.0, "branch": name, "kind": "generate.done", "begun": seq})
    return Interjection(Source(Recorded(events, load), strict=False, message=SAID, branch=branch))


def test_it_is_said_in_the_first_call_beyond_the_record_and_stays() -> None:
    put = interjection({"main": 2})
    assert put.into("main", 0, FIRST) is FIRST
    assert put.into("main", 1, FIRST) is FIRST
    assert put.into("main", 2, FIRST) == [*FIRST, SAID]
    later = [*FIRST, assistant("more"), user("go on")]
    assert put.into("main", 3, later) == [*FIRST, SAID, *later[4:]]


def test_a_branch_that_begins_afterwards_hears_it_where_the_forked_one_is_over() -> None:
    put = interjection({"main/a": 1, "main/b": 1}, branch="main/a")
    assert put.into("main/b", 1, FIRST) is FIRST, "it was there before the fork, and is another's"
    assert put.into("main/c", 0, FIRST) == [*FIRST, SAID]
    assert put.into("main/d", 0, FIRST) is FIRST, "it is said once"


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
    put = interjection({"main": 0})
    put.into("main", 0, FIRST)
    found = list(put.into("main", 1, history))
    assert found == (history if expected is None else [*history[:expected], SAID, *history[expected:]])
