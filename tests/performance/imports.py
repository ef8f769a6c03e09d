"""What importing costs, against only reading the JSON: processor seconds and megabytes at N steps and at 2N, which
tells whether it is linear.

    python tests/performance/imports.py [--steps N]
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from trellis.trajectories.converters.importing import Import


def mini(steps: int) -> Any:
    messages: list[Any] = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    for number in range(steps):
        messages += (
            {"role": "assistant", "content": f"step {number} {'x' * 200}", "tool_calls": [_openai_call(number)],
             "extra": {"timestamp": 1.7e9 + number, "cost": 0.01}},
            {"role": "tool", "tool_call_id": f"c{number}", "content": f"{number} {'y' * 500}",
             "extra": {"returncode": 0}},
        )  # fmt: skip
    return {"messages": messages, "trajectory_format": "mini-swe-agent-1.1", "info": {}}


def inspect(steps: int) -> Any:
    pool: list[Any] = [{"role": "user", "content": "u"}]
    events: list[Any] = []
    at = {"timestamp": "2026-01-01T00:00:00+00:00"}
    for number in range(steps):
        call = {"id": f"c{number}", "function": "bash", "arguments": {"cmd": f"echo {number}"}}
        said = {"role": "assistant", "content": f"step {number} {'x' * 200}", "tool_calls": [call]}
        output = {"choices": [{"message": said, "stop_reason": "tool_calls"}], "usage": {"input_tokens": 9}}
        result = f"{number} {'y' * 500}"
        events += (
            {"event": "model", "model": "m", "input": [], "input_refs": [[0, len(pool)]], "output": output, **at},
            {"event": "tool", **call, "result": result, **at},
        )
        pool += (said, {"role": "tool", "tool_call_id": f"c{number}", "function": "bash", "content": result})
    sample = {"id": 1, "epoch": 1, "messages": pool, "events": events, "events_data": {"messages": pool}}
    return {"version": 2, "eval": {"task": "t", "model": "m"}, "samples": [sample]}


def _openai_call(number: int) -> Any:
    arguments = json.dumps({"command": f"echo {number}"})
    return {"id": f"c{number}", "type": "function", "function": {"name": "bash", "arguments": arguments}}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps
    print(f"{'format':16} {'steps':>7} {'read s':>8} {'import s':>9} {'file MB':>8} {'log MB':>7} {'peak MB':>8}")
    for name, make in (("mini-swe-agent", mini), ("inspect", inspect)):
        for count in (steps, 2 * steps):
            with tempfile.TemporaryDirectory() as folder:
                path, to = Path(folder, "x.json"), Path(folder, "to")
                path.write_text(json.dumps(make(count)))
                began = time.process_time()
                json.loads(path.read_bytes())
                read_s = time.process_time() - began
                began = time.process_time()
                with Import(path) as opened:
                    (made,) = opened.write(lambda identity, to=to: to)  # type: ignore[misc]
                import_s = time.process_time() - began
                assert made.steps == count
                size, log = path.stat().st_size / 1e6, (to / "trajectory.jsonl").stat().st_size / 1e6
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{name:16} {count:7,} {read_s:8.2f} {import_s:9.2f} {size:8.1f} {log:7.1f} {peak:8.0f}")


if __name__ == "__main__":
    main()
