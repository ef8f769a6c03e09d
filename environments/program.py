"""The guest as one text that any Python 3.8 or later can run, whatever is installed where it lands."""

from __future__ import annotations

import functools
from pathlib import Path

PARTS = ("supervisor", "streams", "launcher", "bash", "guest")

_BOOT = """
import sys, types
for name, source in {sources!r}:
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, name, "exec"), module.__dict__)
sys.modules["trellis.environments.guest"].main()
"""


@functools.cache
def guest_program() -> str:
    """What to run as `python3 -I -S -c TEXT`."""
    sources = [
        (f"trellis.environments.{part}", Path(__file__).with_name(f"{part}.py").read_text("utf-8")) for part in PARTS
    ]
    return _BOOT.format(sources=sources)
