"""A clean process of the host that starts worlds by forking, so that none pays for the start of an interpreter.

One holds nothing but the guest's code and becomes the guests. Others hold the modules that a benchmark preloads and
become the warm interpreters beside them (warm.py). What swaps the files of a world (swap.py) is forked here as well:
the host process has threads, and may not. They never run a command themselves, have a clean environment, and end with
the host process, whose socket they serve.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

from trellis.environments.guest import main as guest
from trellis.environments.guest import warm
from trellis.environments.guest.processes import PR_SET_CHILD_SUBREAPER, prctl
from trellis.environments.sandbox import jail
from trellis.environments.sandbox.swap import swap
from trellis.environments.sandbox.syscalls import JailError

REQUEST_BYTES = 1 << 20


def main() -> NoReturn:
    control = socket.socket(fileno=int(sys.argv[1]))
    for name in sys.argv[2:]:
        with suppress(Exception):  # a script that needs it will say what is wrong with it
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the worlds: the kernel buries their dead at once
    # A warm interpreter loses its parent as it enters its world. Adopted here it is buried at once, too; a world ends
    # only when its last process is, and the init of a machine may take seconds (that of a container for ever).
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, REQUEST_BYTES, 32)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                _become_what_was_asked(json.loads(message), descriptors)
            except BaseException:
                traceback.print_exc()  # into the log of the world
            os._exit(70)
        for descriptor in descriptors:
            os.close(descriptor)


def _become_what_was_asked(request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    status = socket.socket(fileno=descriptors.pop(0))
    os.dup2(descriptors[0], 2)
    os.close(descriptors.pop(0))
    view = jail.Jail(**request["jail"]) if request["jail"] else None
    try:
        for group in request["cgroups"]:
            with open(group, "w") as file:  # noqa: PTH123
                file.write("0")
        if request["become"] == "guest":
            _become_guest(status, view, descriptors)
        if request["become"] == "swap":
            assert view is not None
            status.send(json.dumps({"refused": swap(view, descriptors[0], request["own"])}).encode())
            os._exit(0)
        _become_warm(status, view, descriptors)
    except (JailError, OSError) as error:
        status.send(json.dumps({"error": str(error)}).encode())
    os._exit(1)


def _become_guest(status: socket.socket, view: jail.Jail | None, descriptors: list[int]) -> NoReturn:
    """The status socket stays open: its end tells the host that nothing of the world is left."""
    if view is not None:
        jail.enter(view, held=status.fileno())
    own = jail.namespaces() if view is not None else []
    socket.send_fds(status, [json.dumps({"pid": os.getpid()}).encode()], own)
    status.detach()
    for descriptor in own:
        os.close(descriptor)
    channel, *rest = descriptors
    guest.main(channel, channel, *rest)


def _become_warm(status: socket.socket, view: jail.Jail | None, descriptors: list[int]) -> NoReturn:
    """Its status socket, too, stays open until it ends."""
    requests = socket.socket(fileno=descriptors.pop(0))
    if view is not None:
        jail.join(view, descriptors)
    status.detach()
    warm.serve(requests, hide_trellis=view is not None)


if __name__ == "__main__":
    main()
