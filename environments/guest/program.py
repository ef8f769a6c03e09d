"""The guest as one text that any Python 3.8 or later can run, whatever is installed where it lands."""

from __future__ import annotations

import base64
import functools
import json
import zlib
from collections.abc import Sequence
from importlib import resources

PARTS = (
    "seccomp", "processes", "supervisor", "streams", "bytestreams", "portal", "launcher", "waiting", "terminal",
    "shell_command", "shell_state", "bash", "pause", "following", "main", "contained",
)  # fmt: skip

# Packed: one argument of a program may have 128 KiB at most.
_BOOT = """
import base64, json, sys, types, zlib
for name, source in json.loads(zlib.decompress(base64.b85decode({packed!r}))):
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, name, "exec"), module.__dict__)
sys.modules[{main!r}].main()
"""

LOADER = """
import os
def take(size):
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            raise SystemExit("the input ended before the guest had come")
        data += piece
    return data
exec(take(int.from_bytes(take(4), "big")))
"""
"""What to run as `python3 -I -S -c TEXT` where the guest comes as the first thing of the input, as `sent` writes it."""


@functools.cache
def guest_program() -> str:
    """What to run as `python3 -I -S -c TEXT`."""
    return pack([f"trellis.environments.guest.{part}" for part in PARTS])


def sent(program: str) -> bytes:
    """A program as `LOADER` reads it. Without reading further: what comes after it is the program's."""
    data = program.encode()
    return len(data).to_bytes(4, "big") + data


def pack(modules: Sequence[str]) -> str:
    """Modules as one text, each after those it imports; running it calls `main` of the last one."""
    sources = [(module, _source(module)) for module in modules]
    packed = base64.b85encode(zlib.compress(json.dumps(sources).encode(), 9)).decode()
    return _BOOT.format(packed=packed, main=modules[-1])


def _source(module: str) -> str:
    package, _, name = module.rpartition(".")
    return resources.files(package).joinpath(f"{name}.py").read_text("utf-8")
