"""Python scripts in forks of an interpreter that has its modules loaded already.

`serve` runs beside the guest of a world. What the guest would start as `python3 script.py ...` it hands over here, and
the script runs as it would in an interpreter of its own: same arguments, streams, `__main__`, tracebacks, exit codes,
and the same clean-up at the end. Whatever is out of the ordinary is left to a real interpreter.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import site
import socket
import stat
import sys
import threading
import types
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, NoReturn

from trellis.environments.guest.processes import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    call_oneself,
    kill_descendants,
    prctl,
)
from trellis.environments.guest.supervisor import FIRST_PRIVATE_FD, fork, receive, start_supervised


def serve(requests: socket.socket, *, hide_trellis: bool) -> NoReturn:
    """Run one script per request until the guest hangs up."""
    prctl(PR_SET_DUMPABLE, 0)
    call_oneself(b"trellis")
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the supervisors
    if hide_trellis:
        _forget_trellis()
    gc.collect()
    gc.freeze()
    requests.send(b"%d" % os.getpid())  # it is ready
    while True:
        request, descriptors = receive(requests)
        if not request:
            kill_descendants(os.getpid())
            os._exit(0)
        _start(request, descriptors)


def _start(request: Mapping[str, Any], descriptors: list[int]) -> None:
    report, *sources = descriptors
    files = dict(zip(request["targets"], sources, strict=True))
    argv, env, cwd = request["argv"], request["env"], request["cwd"]
    start_supervised(report, files, lambda: fork(lambda: run_script(argv, env, cwd)))
    for descriptor in descriptors:
        os.close(descriptor)


def _forget_trellis() -> None:
    """An editable install announces the checkout to every interpreter; inside a world there is none."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in _module_of(finder)]
    sys.path_hooks[:] = [hook for hook in sys.path_hooks if "__editable__" not in _module_of(hook)]
    sys.path[:] = [entry for entry in sys.path if "__editable__" not in entry]
    for name in list(sys.modules):
        if name == "trellis" or name.startswith(("trellis.", "__editable__")):
            del sys.modules[name]


def _module_of(thing: object) -> str:
    owner = getattr(thing, "__self__", thing)
    return str(getattr(owner, "__module__", "")) + str(getattr(type(owner), "__module__", ""))


def run_script(argv: list[str], env: dict[str, str], cwd: str) -> NoReturn:
    """Be `python3 script.py arguments...`."""
    os.closerange(FIRST_PRIVATE_FD, 4096)
    path = os.path.join(cwd, argv[1])  # noqa: PTH118  (as the interpreter joins them)
    try:
        os.chdir(cwd)
        regular = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
        source = Path(path).read_bytes() if regular else b""
    except OSError:
        regular = False
    if not regular:
        os.execvpe(argv[0], argv, env)  # an interpreter says best what is wrong with it
    os.environ.clear()
    os.environ.update(env)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sys.argv, sys.orig_argv = argv[1:], argv
    sys.executable = str(Path(sys.executable).with_name(argv[0]))
    sys.path.insert(0, os.path.dirname(os.path.realpath(path)))  # noqa: PTH120
    if site.ENABLE_USER_SITE:
        site.USER_BASE = site.USER_SITE = None
        site.addusersitepackages(set(sys.path))
    _reseed()
    _leave(_run(path, source))


def _reseed() -> None:
    """Unseeded generators must differ from script to script (`random` sees to itself after a fork)."""
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        numpy_random.seed()


def _run(path: str, source: bytes) -> int:
    main = types.ModuleType("__main__")
    main.__file__ = path
    main.__loader__ = SourceFileLoader("__main__", path)
    main.__dict__.update(__builtins__=__builtins__, __cached__=None, __annotations__={})
    sys.modules["__main__"] = main
    try:
        exec(compile(source, path, "exec", dont_inherit=True), main.__dict__)
    except SystemExit as leaving:
        return _exit_status(leaving)
    except BaseException as error:
        if error.__traceback__ is not None:
            error.__traceback__ = error.__traceback__.tb_next  # this function is not part of the script
        sys.excepthook(type(error), error, error.__traceback__)
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _exit_status(leaving: SystemExit) -> int:
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code & 0xFF
    print(leaving.code, file=sys.stderr)
    return 1


def _leave(status: int) -> NoReturn:
    """End as an interpreter does: threads, exit functions, files left open. Only the modules are not taken apart."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.modules.pop("__main__").__dict__.clear()
    gc.collect()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            status = status or 120
        except (OSError, ValueError, AttributeError):
            pass  # the script closed or replaced it
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)
