"""What a verified replay costs for each call, beside what the call cost when it was recorded.

    python tests/performance/replay.py [KIND ...]

An episode of cheap commands is recorded, and then replayed: the start of its world, every call, and the look at which
files it changed; both without the start of Python.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from trellis.runs.cli import invoke
from trellis.runs.verification import Wanted, verify

PARTS = Path(__file__).parents[1] / "runs" / "parts"
CALLS = 200


def recorded(kind: str, folder: str) -> Path:
    said = StringIO()
    commands = json.dumps([f"echo {number} >> steps.txt; tail -1 steps.txt" for number in range(CALLS)])
    with redirect_stdout(said):
        status = invoke(
            ["run", f"{PARTS}/sums.py:Sums:world", "--scaffold", f"{PARTS}/commands.py:Commands", "--model",
             f"{PARTS}/sums.py:Adder", "-S", f"first={commands}", "--env", kind, "--limit", "1", "--max-steps", "0",
             "--runs-dir", folder, "--json"]
        )  # fmt: skip
    assert status == 0, said.getvalue()
    return next(Path(json.loads(said.getvalue())["run"]).glob("episodes/*/*/*/*/trajectory.jsonl"))


def main() -> None:
    for kind in sys.argv[1:] or ("local", "sandbox"):
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            path = recorded(kind, folder)
            ran_ms = (time.perf_counter() - began) * 1000
            began = time.perf_counter()
            (verified,) = asyncio.run(verify([path], Wanted(), jobs=1, on_call=lambda *_: None, on_end=lambda _: None))
            replayed_ms = (time.perf_counter() - began) * 1000
            assert verified.same, verified
            assert len(verified.calls) == CALLS + 1, len(verified.calls)
        print(f"{kind:8} {CALLS} calls: recorded {ran_ms / CALLS:6.2f} ms each, replayed {replayed_ms / CALLS:6.2f} ms")


if __name__ == "__main__":
    main()
