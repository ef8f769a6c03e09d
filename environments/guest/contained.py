"""The guest as the main process of a container.

Part of the guest (see main.py): Python 3.8, standard library only.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NoReturn

from trellis.environments.guest.main import main as serve
from trellis.environments.guest.seccomp import install


def main() -> NoReturn:
    with suppress(OSError):  # the engine has a filter of its own, or the doctor tells that it has none
        install()
    serve()
