"""mini-swe-agent, AIDE's journal and OpenAI's fine-tuning data: what stands in them, and what comes back."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from trellis.trajectories.converters import to_aide, to_mini, to_openai, to_swe_agent
from trellis.trajectories.converters.converter import ConversionError, Losses
from trellis.trajectories.converters.lost import (
    CALLS,
    CUT,
    CUT_ACTS,
    HEADER,
    JUDGED,
    MEDIA,
    NOTES,
    OUTCOME,
    STATE,
    TIMES,
    UNPRICED,
    USES,
)
from trellis.trajectories.converters.telling import Outcome, Told
from trellis.trajectories.converters.to_openai import Choice

Telling = Callable[..., Told]


def counted(losses: Losses) -> dict[str, int]:
    return {loss.what: loss.count for loss in losses}


# --- mini-swe-agent ---


def mini(told: Told, path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    losses = Losses()
    to_mini.write(told, path, losses)
    return json.loads(path.read_text("utf-8")), counted(losses)


def test_mini_swe_agent(react: Path, telling: Telling, tmp_path: Path) -> None:
    document, lost = mini(telling(react, Outcome("r", "completed")), tmp_path / "fix.traj.json")
    assert document["trajectory_format"] == "mini-swe-agent-1.1"
    assert document["instance_id"] == "fix"
    info = document["info"]
    assert info["model_stats"] == {"instance_cost": 0.75, "api_calls": 4}
    assert info["exit_status"] == "Submitted"
    assert info["submission"].startswith("diff --git")
    assert set(info["config"]) == {"agent", "agent_type", "model", "model_type", "environment", "environment_type"}
    messages = document["messages"]
    assert [message["role"] for message in messages] == [
        "system", "user", "assistant", "tool", "tool", "assistant", "tool", "user", "assistant", "tool", "user",
        "assistant", "tool", "exit",
    ]  # fmt: skip
    reply = messages[2]
    assert [action["command"] for action in reply["extra"]["actions"]] == ["ls", "cat x"]
    assert json.loads(reply["tool_calls"][1]["function"]["arguments"]) == {"command": "cat x"}
    assert reply["extra"]["response"]["usage"]["prompt_tokens"] == 150
    assert messages[3]["extra"]["raw_output"] == "x\ny"
    assert messages[6]["extra"]["returncode"] == 1
    assert messages[12]["extra"]["exception_info"] == "the call was cut off"
    assert messages[-1]["extra"]["exit_status"] == "Submitted"
    assert lost == {
        MEDIA: 1, USES: 1, UNPRICED: 1, JUDGED: 1, NOTES: 1, TIMES: 1, CALLS: 4, STATE: 2, CUT_ACTS: 1,
    }  # fmt: skip
    assert reply["thinking_blocks"] == [{"type": "thinking", "thinking": "hm", "signature": "s"}]


def test_a_prediction_is_a_patch(react: Path, tree: Path, telling: Telling) -> None:
    prediction = to_mini.prediction(telling(react))
    assert prediction is not None
    assert prediction["instance_id"] == "fix"
    assert prediction["model_name_or_path"] == "anthropic/claude"
    assert prediction["model_patch"].startswith("diff --git")
    assert to_mini.prediction(telling(tree)) is None


# --- SWE-agent ---


def test_swe_agent(react: Path, telling: Telling, tmp_path: Path) -> None:
    losses, path = Losses(), tmp_path / "fix.traj"
    told = telling(react, Outcome("r", "completed"))
    to_swe_agent.write(told, path, losses)
    document = json.loads(path.read_text("utf-8"))
    steps = document["trajectory"]
    assert [step["action"] for step in steps] == ["ls\ncat x", "false", "shell {not json", "sleep 100"]
    assert [step["observation"] for step in steps] == ["x\ny\npicture", "boom", "arguments are no JSON", ""]
    assert [step["execution_time"] for step in steps] == [2.0, 1.0, 1.0, 0]
    history = document["history"]
    assert [item["message_type"] for item in history[:4]] == ["system_prompt", "observation", "action", "observation"]
    assert [item.get("tool_call_ids") for item in history[3:5]] == [["c1"], ["c2"]]
    info = document["info"]
    assert info["model_stats"] == {"instance_cost": 0.75, "tokens_sent": 180, "tokens_received": 35, "api_calls": 4}
    assert info["exit_status"] == "submitted"
    assert info["submission"].startswith("diff --git")
    assert counted(losses)[to_swe_agent.ACTIONS] == 2


# --- AIDE ---


def test_a_journal_of_aide(tree: Path, telling: Telling, tmp_path: Path) -> None:
    losses = Losses()
    to_aide.write(telling(tree), tmp_path / "journal.json", losses)
    journal = json.loads((tmp_path / "journal.json").read_text("utf-8"))
    nodes = journal["nodes"]
    assert journal["__version"] == "2"
    assert [node["step"] for node in nodes] == [0, 1, 2]
    assert [node["code"] for node in nodes] == ["print(0)", "print(1)", "print(2)"]
    assert [node["is_buggy"] for node in nodes] == [True, False, True]
    assert [node["metric"] for node in nodes] == [
        {"value": None, "maximize": None}, {"value": 0.75, "maximize": True}, {"value": None, "maximize": None},
    ]  # fmt: skip
    assert [node["exc_type"] for node in nodes] == ["ValueError", None, "SystemExit"]
    assert nodes[0]["_term_out"] == ["Traceback\nValueError: no"]
    assert all(node["parent"] is None and node["children"] == [] for node in nodes)
    ids = [node["id"] for node in nodes]
    assert journal["node2parent"] == {ids[1]: ids[0], ids[2]: ids[1]}
    assert {loss.what for loss in losses} == {
        to_aide.PROMPTS, to_aide.USAGE, to_aide.ACTS, to_aide.STACKS, OUTCOME, HEADER,
    }  # fmt: skip


def test_a_loop_has_no_journal(react: Path, telling: Telling, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="no search tree"):
        to_aide.write(telling(react), tmp_path / "deep" / "journal.json", Losses())
    assert not (tmp_path / "deep").exists()


# --- OpenAI ---


def lines(told: Told, path: Path, choice: Choice | None = None) -> tuple[list[Mapping[str, Any]], dict[str, int]]:
    losses = Losses()
    taken, count = to_openai.write([told], path, losses, choice)
    assert taken or not count
    written = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len(written) == count
    for line in written:
        _legal(line)
    return written, counted(losses)


def _legal(line: Mapping[str, Any]) -> None:
    """What OpenAI demands of a line."""
    assert set(line) <= {"messages", "tools", "parallel_tool_calls"}
    messages = line["messages"]
    assert messages[-1]["role"] == "assistant"
    assert any(message.get("weight") == 1 for message in messages)
    unanswered: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            unanswered.remove(message["tool_call_id"])
            continue
        assert not unanswered, "every call has its result before anything else is said"
        assert ("weight" in message) == (message["role"] == "assistant")
        unanswered = {call["id"] for call in message.get("tool_calls", [])}
        for call in message.get("tool_calls", []):
            if message["weight"]:
                json.loads(call["function"]["arguments"])


def test_fine_tuning_data(react: Path, telling: Telling, tmp_path: Path) -> None:
    (line,), lost = lines(telling(react), tmp_path / "x.jsonl")
    assert [(message["role"], message.get("weight")) for message in line["messages"]] == [
        ("system", None), ("user", None), ("assistant", 1), ("tool", None), ("tool", None), ("assistant", 1),
        ("tool", None), ("user", None), ("assistant", 0), ("tool", None), ("user", None), ("assistant", 1),
    ]  # fmt: skip
    assert line["messages"][1]["content"][1]["type"] == "image_url"
    assert line["tools"][0]["function"]["name"] == "shell"
    assert line["parallel_tool_calls"] is True
    assert lost == {
        USES: 1, to_openai.MALFORMED: 1, MEDIA: 1, to_openai.REASONING: 1,
        to_openai.PICTURES: 1, JUDGED: 1, to_openai.FACTS: 4, to_openai.RESULTS: 4, NOTES: 1, OUTCOME: 1, HEADER: 7,
    }  # fmt: skip


def test_replies_whose_calls_failed_can_be_context_only(react: Path, telling: Telling, tmp_path: Path) -> None:
    (line,), lost = lines(telling(react), tmp_path / "x.jsonl", Choice(mask_failed=True))
    weights = [message["weight"] for message in line["messages"] if message["role"] == "assistant"]
    assert weights == [1], "the line ends where nothing more is to be learnt"
    assert lost[to_openai.FAILED] == 2


def test_nothing_is_learnt_twice(shortened: Path, telling: Telling, tmp_path: Path) -> None:
    written, lost = lines(telling(shortened), tmp_path / "x.jsonl")
    learnt = [message["content"] for line in written for message in line["messages"] if message.get("weight")]
    assert learnt == ["step 0", "step 1", "step 2", "short now", "done"]
    context = [m["content"] for line in written for m in line["messages"] if m.get("weight") == 0]
    assert context == ["step 2"]
    assert lost[to_openai.COPIED] == 1
    assert lost[CUT] == 1


@pytest.mark.parametrize(
    ("choice", "outcome", "taken"),
    [
        (Choice(min_score=0.5), Outcome(score={"value": 0.5}), True),
        (Choice(min_score=0.5), Outcome(score={"value": 0.4}), False),
        (Choice(min_score=0.5), Outcome(), False),
        (Choice(outcomes=("completed",)), Outcome(outcome="completed"), True),
        (Choice(outcomes=("completed",)), Outcome(outcome="limit"), False),
    ],
)
def test_only_the_episodes_that_were_asked_for(
    react: Path, telling: Telling, tmp_path: Path, choice: Choice, outcome: Outcome, taken: bool
) -> None:
    written, _ = lines(telling(react, outcome), tmp_path / "x.jsonl", choice)
    assert bool(written) is taken
