"""What is written as ATIF obeys the rules of Harbor's RFC 0001, version 1.7, and says what happened."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from trellis.trajectories.converters import to_atif
from trellis.trajectories.converters.converter import Losses
from trellis.trajectories.converters.lost import JUDGED, PAYLOADS, REPEATED, TIMES
from trellis.trajectories.converters.telling import Outcome, Told

Telling = Callable[..., Told]
Document = dict[str, Any]

# --- the rules ---

_STR, _INT, _NUMBER, _DICT, _LIST, _BOOL = (str,), (int,), (int, float), (dict,), (list,), (bool,)
_CONTENT = (str, list)
FIELDS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "trajectory": {
        "schema_version": _STR, "session_id": _STR, "trajectory_id": _STR, "agent": _DICT, "steps": _LIST,
        "notes": _STR, "final_metrics": _DICT, "continued_trajectory_ref": _STR, "subagent_trajectories": _LIST,
        "extra": _DICT,
    },
    "agent": {"name": _STR, "version": _STR, "model_name": _STR, "tool_definitions": _LIST, "extra": _DICT},
    "step": {
        "step_id": _INT, "timestamp": _STR, "source": _STR, "model_name": _STR, "reasoning_effort": (str, int, float),
        "message": _CONTENT, "reasoning_content": _STR, "tool_calls": _LIST, "observation": _DICT, "metrics": _DICT,
        "is_copied_context": _BOOL, "llm_call_count": _INT, "extra": _DICT,
    },
    "call": {"tool_call_id": _STR, "function_name": _STR, "arguments": _DICT, "extra": _DICT},
    "observation": {"results": _LIST},
    "result": {"source_call_id": _STR, "content": _CONTENT, "subagent_trajectory_ref": _LIST, "extra": _DICT},
    "ref": {"trajectory_id": _STR, "trajectory_path": _STR, "session_id": _STR, "extra": _DICT},
    "metrics": {
        "prompt_tokens": _INT, "completion_tokens": _INT, "cached_tokens": _INT, "cost_usd": _NUMBER,
        "prompt_token_ids": _LIST, "completion_token_ids": _LIST, "logprobs": _LIST, "extra": _DICT,
    },
    "final": {
        "total_prompt_tokens": _INT, "total_completion_tokens": _INT, "total_cached_tokens": _INT,
        "total_cost_usd": _NUMBER, "total_steps": _INT, "extra": _DICT,
    },
    "part": {"type": _STR, "text": _STR, "source": _DICT},
    "source": {"media_type": _STR, "path": _STR},
}  # fmt: skip
REQUIRED = {
    "trajectory": ("schema_version", "agent", "steps"), "agent": ("name", "version"),
    "step": ("step_id", "source", "message"), "call": ("tool_call_id", "function_name", "arguments"),
    "observation": ("results",), "part": ("type",), "source": ("media_type", "path"),
}  # fmt: skip
AGENT_ONLY = ("model_name", "reasoning_effort", "reasoning_content", "tool_calls", "metrics")
IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")


def problems(document: Document, folder: Path, at: str = "") -> Iterator[str]:
    """Every rule that a document breaks."""
    yield from shape(document, "trajectory", at)
    if document.get("schema_version") != "ATIF-v1.7":
        yield f"{at}schema_version: {document.get('schema_version')!r}"
    yield from shape(document.get("agent", {}), "agent", f"{at}agent.")
    yield from shape(document.get("final_metrics", {}), "final", f"{at}final_metrics.")
    steps = document.get("steps") or []
    if not steps:
        yield f"{at}steps: none"
    inner = document.get("subagent_trajectories", [])
    ids = [each.get("trajectory_id") for each in inner]
    if None in ids or len(set(ids)) != len(ids):
        yield f"{at}subagent_trajectories: trajectory_id is required, and each only once"
    for number, step in enumerate(steps):
        yield from of_step(step, number, f"{at}steps[{number}].", folder, ids)
    for number, each in enumerate(inner):
        yield from problems(each, folder, f"{at}subagent_trajectories[{number}].")


def of_step(step: Document, number: int, at: str, folder: Path, ids: list[Any]) -> Iterator[str]:
    yield from shape(step, "step", at)
    if step.get("step_id") != number + 1:
        yield f"{at}step_id: {step.get('step_id')}, not {number + 1}"
    if step.get("source") not in ("system", "user", "agent"):
        yield f"{at}source: {step.get('source')!r}"
    if "timestamp" in step:
        try:
            datetime.fromisoformat(step["timestamp"].replace("Z", "+00:00"))
        except ValueError:
            yield f"{at}timestamp: not ISO 8601"
    if step.get("source") != "agent":
        yield from (f"{at}{name}: only an agent has it" for name in AGENT_ONLY if name in step)
    elif step.get("llm_call_count") == 0:
        names = ("metrics", "reasoning_content")
        yield from (f"{at}{name}: there was no call of a model" for name in names if name in step)
    yield from of_content(step.get("message"), f"{at}message", folder)
    yield from shape(step.get("metrics", {}), "metrics", f"{at}metrics.")
    calls = [call.get("tool_call_id") for call in step.get("tool_calls", [])]
    for call in step.get("tool_calls", []):
        yield from shape(call, "call", f"{at}tool_calls.")
    observation = step.get("observation", {"results": []})
    yield from shape(observation, "observation", f"{at}observation.")
    for result in observation.get("results", []):
        yield from shape(result, "result", f"{at}observation.results.")
        yield from of_content(result.get("content"), f"{at}content", folder)
        if "source_call_id" in result and result["source_call_id"] not in calls:
            yield f"{at}source_call_id: {result['source_call_id']} is no call of this step"
        for ref in result.get("subagent_trajectory_ref", []):
            yield from shape(ref, "ref", f"{at}subagent_trajectory_ref.")
            if "trajectory_id" not in ref and "trajectory_path" not in ref:
                yield f"{at}subagent_trajectory_ref: needs trajectory_id or trajectory_path"
            elif "trajectory_path" not in ref and ref["trajectory_id"] not in ids:
                yield f"{at}subagent_trajectory_ref: {ref['trajectory_id']} is not embedded here"


def of_content(content: Any, at: str, folder: Path) -> Iterator[str]:
    for part in content if isinstance(content, list) else []:
        yield from shape(part, "part", f"{at}.")
        if part.get("type") == "text" and ("text" not in part or "source" in part):
            yield f"{at}: a text has a text and no source"
        if part.get("type") == "image":
            source = part.get("source", {})
            yield from shape(source, "source", f"{at}.source.")
            if "text" in part or source.get("media_type") not in IMAGES:
                yield f"{at}: an image has no text, and is one of {IMAGES}"
            elif not (folder / source["path"]).is_file():
                yield f"{at}: {source['path']} does not exist"


def shape(value: Any, kind: str, at: str) -> Iterator[str]:
    fields = FIELDS[kind]
    yield from (f"{at}{name}: missing" for name in REQUIRED.get(kind, ()) if value and name not in value)
    for name, inner in value.items():
        if name not in fields:
            yield f"{at}{name}: unknown"
        elif not isinstance(inner, fields[name]) or (isinstance(inner, bool) and bool not in fields[name]):
            yield f"{at}{name}: {type(inner).__name__}"


# --- tests ---


def written(told: Told, path: Path) -> tuple[Document, dict[str, int]]:
    losses = Losses()
    to_atif.write(told, path, losses)
    return json.loads(path.read_text("utf-8")), {loss.what: loss.count for loss in losses}


def test_a_loop_with_everything_in_it(react: Path, telling: Telling, tmp_path: Path) -> None:
    score = {"value": 0.5, "success": False, "valid": True, "explanation": "half", "evidence": {}, "flags": []}
    outcome = Outcome("run-1", "completed", score=score, started_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    document, lost = written(telling(react, outcome), tmp_path / "x.json")
    assert list(problems(document, tmp_path)) == []
    assert document["session_id"] == "run-1/swe:sample/fix/react/1"
    assert document["agent"]["name"] == "react"
    assert document["agent"]["version"] == "0.1.0"
    assert document["agent"]["model_name"] == "anthropic/claude"
    assert [tool["function"]["name"] for tool in document["agent"]["tool_definitions"]] == ["shell"]
    assert [step["source"] for step in document["steps"]] == [
        "system", "user", "agent", "agent", "agent", "user", "agent", "user", "agent",
    ]  # fmt: skip
    first = document["steps"][2]
    assert first["message"] == "Looking."
    assert first["reasoning_content"] == "hm"
    assert first["timestamp"] == "2026-01-02T03:04:05.000Z"
    assert [call["arguments"] for call in first["tool_calls"]] == [{"command": "ls"}, {"command": "cat x"}]
    assert first["metrics"]["prompt_tokens"] == 150, "tokens from a cache, and those written to one, are part of it"
    assert first["metrics"]["cached_tokens"] == 40
    assert first["metrics"]["completion_tokens"] == 20
    assert [r["source_call_id"] for r in first["observation"]["results"]] == ["c1", "c2"]
    picture = first["observation"]["results"][1]["content"][1]["source"]["path"]
    assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    own = document["steps"][4]
    assert own["llm_call_count"] == 0
    assert own["tool_calls"][0]["arguments"] == {"command": "git status"}
    assert document["steps"][6]["tool_calls"][0]["extra"] == {"malformed": "{not json"}
    assert document["steps"][8]["observation"]["results"][0]["extra"]["cut_off"] is True
    assert "cost_usd" not in document["steps"][8]["metrics"], "unknown is not 0"
    assert "total_cost_usd" not in document["final_metrics"]
    assert document["final_metrics"]["total_prompt_tokens"] == 180
    assert document["final_metrics"]["total_steps"] == len(document["steps"])
    assert document["extra"]["trellis"]["score"] == score
    assert lost == {PAYLOADS: 1, to_atif.MEDIA: 1, JUDGED: 1}


def test_branches_are_subagents(tree: Path, telling: Telling, tmp_path: Path) -> None:
    document, _ = written(telling(tree), tmp_path / "x.json")
    assert list(problems(document, tmp_path)) == []
    assert [each["trajectory_id"] for each in document["subagent_trajectories"]] == [
        "main/node-0", "main/node-1", "main/node-2",
    ]  # fmt: skip
    refs = [result["subagent_trajectory_ref"][0]["trajectory_id"] for step in document["steps"]
            for result in step["observation"]["results"] if "subagent_trajectory_ref" in result]  # fmt: skip
    assert refs == ["main/node-0", "main/node-1", "main/node-2"]
    node = document["subagent_trajectories"][1]
    assert [step["source"] for step in node["steps"]] == ["user", "agent", "agent", "user", "agent"]
    assert node["final_metrics"]["total_cost_usd"] == 0.5
    assert node["extra"]["trellis"]["origin"] == "main"
    notes = document["extra"]["trellis"]["notes"]
    assert [note["data"]["metric"] for note in notes if note["kind"] == "node"] == [None, 0.75, None]


def test_a_conversation_that_was_shortened(shortened: Path, telling: Telling, tmp_path: Path) -> None:
    document, lost = written(telling(shortened), tmp_path / "x.json")
    assert list(problems(document, tmp_path)) == []
    said = [step["message"] for step in document["steps"] if step["source"] == "user"]
    assert said == ["task", "go on", "go on", "go on", "(a summary)", "go on"]
    replies = [step["message"] for step in document["steps"] if step["source"] == "agent"]
    assert replies == ["step 0", "step 1", "step 2", "", "short now", "done"]
    assert document["steps"][8]["extra"]["overflow"] == "too long"
    assert lost == {REPEATED: 1, TIMES: 1}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(surprise=1), "surprise: unknown"),
        (lambda d: d.update(steps=[]), "steps: none"),
        (lambda d: d["steps"][1].update(step_id=7), "step_id"),
        (lambda d: d["steps"][1].update(metrics={}), "only an agent"),
        (lambda d: d["steps"][2].update(llm_call_count=0), "no call of a model"),
        (lambda d: d["steps"][2]["observation"]["results"][0].update(source_call_id="c9"), "no call of this step"),
        (lambda d: d["steps"][2].update(timestamp="yesterday"), "not ISO 8601"),
        (lambda d: d["steps"][2]["metrics"].update(prompt_tokens=1.5), "prompt_tokens: float"),
        (lambda d: d["steps"][1]["message"][1]["source"].update(path="gone.png"), "does not exist"),
    ],
)
def test_the_rules_find_what_breaks_them(
    react: Path, telling: Telling, tmp_path: Path, change: Callable[[Document], None], says: str
) -> None:
    document, _ = written(telling(react), tmp_path / "x.json")
    assert list(problems(document, tmp_path)) == []
    broken = copy.deepcopy(document)
    change(broken)
    assert any(says in problem for problem in problems(broken, tmp_path))
