"""The guest as one text that any Python 3.8 or later can run, whatever is installed where it lands."""

from __future__ import annotations

import base64
import functools
import json
import zlib
from pathlib import Path

PARTS = ("processes", "supervisor", "streams", "bytestreams", "portal", "launcher", "bash", "pause", "main")

# Packed: one argument of a program may have 128 KiB at most.
_BOOT = """
import base64, json, sys, types, zlib
for name, source in json.loads(zlib.decompress(base64.b85decode({packed!r}))):
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, name, "exec"), module.__dict__)
sys.modules["trellis.environments.guest.main"].main()
"""


@functools.cache
def guest_program() -> str:
    """What to run as `python3 -I -S -c TEXT`."""
    sources = [
        (f"trellis.environments.guest.{part}", Path(__file__).with_name(f"{part}.py").read_text("utf-8"))
        for part in PARTS
    ]
    return _BOOT.format(packed=base64.b85encode(zlib.compress(json.dumps(sources).encode(), 9)).decode())
