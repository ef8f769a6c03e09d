"""What is written as a log of Inspect opens in Inspect's own reader, and says there what happened here."""

import json
import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from trellis.trajectories.converters import inspect_parts, inspect_sample, to_inspect
from trellis.trajectories.converters.converter import Imported, Losses
from trellis.trajectories.converters.telling import Outcome, Told

Telling = Callable[..., Told]
Many = Callable[..., list[Imported]]
PYTHON = Path(os.environ.get("TRELLIS_INSPECT_PYTHON", Path(__file__).parents[4] / ".venv/inspect/bin/python"))
"""An interpreter with inspect-ai, which does not fit into our own environment."""
BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SCORE = {"value": 0.5, "success": False, "valid": True, "explanation": "half", "evidence": {"n": 1}, "flags": []}

own_reader = pytest.mark.skipif(not PYTHON.is_file(), reason="needs inspect-ai beside us: make .venv/.inspect")


def read(*paths: Path) -> list[dict[str, Any]]:
    """What Inspect's reader sees."""
    command = [str(PYTHON), str(Path(__file__).with_name("read_with_inspect.py")), *map(str, paths)]
    clean = {"PATH": os.environ["PATH"], "HOME": str(paths[0].parent), "INSPECT_LOG_LEVEL": "warning"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=clean, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    return [seen[str(path)] for path in paths]


def write(episodes: list[Told], path: Path, metrics: dict[str, float] | None = None) -> dict[str, int]:
    losses = Losses()
    to_inspect.write(iter(episodes), path, losses, metrics)
    return {loss.what: loss.count for loss in losses}


@own_reader
async def test_inspect_reads_it(
    react: Path, tree: Path, shortened: Path, looped: Any, telling: Telling, tmp_path: Path
) -> None:
    one, two, three, four = (tmp_path / f"{name}.eval" for name in ("react", "tree", "cut", "run"))
    lost = write([telling(react, Outcome("run-1", "completed", score=SCORE, started_at=BEGAN, time_s=7.5))], one)
    write([telling(tree)], two)
    write([telling(shortened)], three)
    again = await looped(tmp_path / "again", epoch=2)
    broken = Outcome("run-1", "fault", fault="the world broke", started_at=BEGAN)
    stopped = Outcome("run-1", "limit", limit="steps", score={**SCORE, "value": 1.0}, started_at=BEGAN)
    write([telling(react, stopped), telling(again, broken)], four, {"solved": 0.25})
    loop, search, cut, run = read(one, two, three, four)
    _loop(loop, lost)
    _search(search)
    _cut(cut)
    assert (run["samples"], run["completed"], run["epochs"]) == (2, 1, 2)
    assert run["metrics"] == {"swe": {"solved": 0.25}}
    assert [(each["id"], each["epoch"], each["limit"], each["error"]) for each in run["each"]] == [
        ("fix", 1, "turn", None), ("fix", 2, None, "the world broke"),
    ]  # fmt: skip
    assert run["usage"]["openai/judge"]["total_tokens"] == 30


def _loop(seen: dict[str, Any], lost: dict[str, int]) -> None:
    assert (seen["version"], seen["status"], seen["task"], seen["model"]) == (
        2, "success", "swe:sample", "anthropic/claude",
    )  # fmt: skip
    assert seen["roles"] == ["judge"]
    assert seen["commit"] == "abc"
    assert seen["created"].startswith("2026-01-02T03:04:05")
    assert seen["metrics"] == {"swe": {"mean": 0.5}}
    usage = {"input_tokens": 130, "output_tokens": 35, "input_tokens_cache_read": 40, "input_tokens_cache_write": 10,
             "reasoning_tokens": 8, "total_tokens": 215}  # fmt: skip
    assert seen["usage"]["anthropic/claude"] == usage, "without a total cost: one is unknown"
    (each,) = seen["each"]
    assert each["usage"]["anthropic/claude"] == usage
    assert each["usage"]["openai/judge"]["total_cost"] == 0.25
    assert each["scores"] == {"swe": 0.5}
    assert each["input"] == ["Fix it.\n[audio/ogg]"]
    messages = each["messages"]
    assert [message["role"] for message in messages] == [
        "system", "user", "assistant", "tool", "tool", "assistant", "tool", "user", "assistant", "tool", "user",
        "assistant",
    ]  # fmt: skip
    assert messages[1]["content"][1]["image"].startswith("data:image/png;base64,")
    reasoning = messages[2]["content"][0]
    assert (reasoning["reasoning"], reasoning["signature"]) == ("hm", "s")
    assert [call["arguments"] for call in messages[2]["tool_calls"]] == [{"command": "ls"}, {"command": "cat x"}]
    assert messages[8]["tool_calls"][0]["parse_error"] == "{not json"
    assert messages[9]["error"]["message"] == "arguments are no JSON"
    assert each["completion"] == "Waiting."
    assert [len(asked) for asked in each["asked"]] == [2, 5, 8, 11, 1]
    assert each["tools"] == [["shell"]] * 4 + [[]]
    assert each["descriptions"] == ["Run a command. " * 10], "long texts come back whole"
    acts = [(function, arguments.get("command")) for function, arguments, _ in each["acts"]]
    assert acts == [("shell", "ls"), ("shell", "cat x"), ("shell", "false"), ("shell", "git status"), ("shell", None),
                    ("shell", "sleep 100")]  # fmt: skip
    assert {"sample_init", "model", "tool", "info", "score", "span_begin", "span_end"} <= set(each["events"])
    assert lost == {inspect_parts.MEDIA: 1, inspect_parts.SCHEMAS: 1}


def _search(seen: dict[str, Any]) -> None:
    (each,) = seen["each"]
    assert each["input"] == "Write script 0."
    spans = [node for node in each["tree"] if isinstance(node, list)]
    assert [name for name, _ in spans] == ["solvers"]
    ((main, inside),) = [node for node in spans[0][1] if isinstance(node, list)]
    assert main == "tree"
    nodes = [node for node in inside if isinstance(node, list)]
    assert [name for name, _ in nodes] == ["node-0", "node-1", "node-2"]
    assert nodes[0][1] == ["branch", "model", "tool", "model"]
    assert nodes[1][1] == ["branch", "model", "tool", "model", "info"], "what was handed in"
    assert each["anchors"] == each["from"] == ["main/node-0@1", "main/node-1@1", "main/node-2@1"]
    assert each["asked"] == [
        ["Write script 0."], ["Review 0."], ["Write script 1."], ["Review 1."], ["Write script 2."], ["Review 2."],
    ]  # fmt: skip


def _cut(seen: dict[str, Any]) -> None:
    (each,) = seen["each"]
    assert each["asked"][4] == ["s", "task", "(a summary)", "step 2", "2", "go on"]
    assert each["asked"][5] == ["s", "task", "(a summary)", "step 2", "2", "go on", "short now", "go on"]
    assert each["asked"][3][-1] == "go on"


def test_what_a_call_sent_is_few_ranges_of_the_pool() -> None:
    sent = inspect_sample.joined([(0, 1), (1, 3), (3, 4), (6, 7), (7, 9)])
    assert sent == [(0, 4), (6, 9)]
