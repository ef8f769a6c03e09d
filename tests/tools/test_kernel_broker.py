"""The kernel's program as it runs in a world, spoken to over its pipes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from trellis.tools.frames import Frames, pack
from trellis.tools.kernel import _program

DEADLINE_S = 60.0


def test_the_last_words_are_told_where_the_end_of_the_input_is_heard_first(tmp_path: Path) -> None:
    """A world ends the input of a program that has ended, so that the broker may hear of either first."""
    path, said = tmp_path / "kernel.py", tmp_path / "said"
    path.write_bytes(_program())
    kernel = subprocess.Popen([sys.executable, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path)
    assert kernel.stdin is not None
    assert kernel.stdout is not None
    try:
        code = f"print('last words')\nopen({str(said)!r}, 'w').close()\nimport time; time.sleep(600)"
        kernel.stdin.write(pack({"cell": "cell 1", "limit_s": DEADLINE_S}, code.encode()))
        kernel.stdin.flush()
        began = time.monotonic()
        while not said.exists() and time.monotonic() < began + DEADLINE_S:
            time.sleep(0.02)
        assert said.exists()
        kernel.stdin.close()
        frames = list(Frames().feed(kernel.stdout.read()))
    finally:
        kernel.kill()
        kernel.wait()
        kernel.stdout.close()
    (hello, _), (end, words) = frames
    assert "python" in hello
    assert (end["ended"], end["cell"], words) == (True, "cell 1", b"last words\n")
