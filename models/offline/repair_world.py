"""What `offline/repair` runs inside the world: this file's text is sent through the `python` tool with an order.

It runs the visible tests in forks of one warm process, so that a candidate edit costs what its tests cost: first all
of them with a trace of the lines that each one executes, later once for each candidate. It prints one line of JSON.
Only the standard library, and pytest where the tests use it. Nothing here is imported by the policy.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

Json = dict[str, Any]
MARK = "repair-world: "
MOST_TRACE_LINES = 20
MOST_SPECTRUM_CHARS = 10_000
LEAN = ("--tb=no", "--assert=plain", "-p", "no:unraisableexception", "-p", "no:threadexception")
"""Options of pytest that leave out what only a reader would miss, for runs of candidates."""


def survey(order: Json) -> Json:
    """Run the tests once, each with the lines it executes and, where it fails, its traceback. Tests that show the bug
    by passing (`test_actual` of a reproduction) say nothing about lines."""
    seen = run_tests(order["tests"], order["timeout_s"], trace=True)
    covered = {test: files for test, files in seen.get("covered", {}).items() if "::test_actual[" not in test}
    lines = spectrum(covered, set(seen["failed"]))
    if (
        len(json.dumps(lines)) > MOST_SPECTRUM_CHARS
    ):  # long output is cut in the middle: lines of failing tests count most
        lines = {path: " ".join(r for r in runs.split() if ":0," not in r) for path, runs in lines.items()}
    return {"passed": seen["passed"], "failed": seen["failed"], "error": seen["error"], "lines": lines}


def attempt(order: Json) -> Json:
    """Run the tests once for each candidate, in order, until one passes them all or the time is up; the files are
    left as they were.

    A result is the list of tests that failed, as positions in `tests`, or None where they could not be run.
    """
    started, names, results = time.monotonic(), list[str](), list[list[int] | None]()
    for edits in order["candidates"]:
        if time.monotonic() - started > order["time_s"]:
            break
        with edited(edits):
            outcome = run_tests(order["tests"], order["timeout_s"], known=order["failing"])
        warm(outcome.get("imported", ()))
        names += sorted(set(outcome["failed"]) - set(names))
        results.append(None if outcome["error"] else sorted(map(names.index, outcome["failed"])))
        if results[-1] == []:
            break
    return {"tests": names, "results": results}


@contextlib.contextmanager
def edited(edits: list[Json]) -> Iterator[None]:
    """The files with edits in them, and afterwards as before, times included."""
    kept = list[tuple[Path, bytes, int, int]]()
    try:
        for edit in edits:
            path = Path(edit["path"])
            data, status = path.read_bytes(), path.stat()
            kept.append((path, data, status.st_atime_ns, status.st_mtime_ns))
            lines = data.decode("utf-8", "surrogateescape").split("\n")
            lines[edit["first"] - 1 : edit["last"]] = (
                edit["after"].removesuffix("\n").split("\n") if edit["after"] else []
            )
            path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
            # A compiled file is believed if time (in seconds) and size fit: no compiled file is of this day.
            os.utime(path, (0, 0))
        yield
    finally:
        for path, data, read_ns, written_ns in reversed(kept):
            path.write_bytes(data)
            os.utime(path, ns=(read_ns, written_ns))


@contextlib.contextmanager
def present(files: dict[str, str]) -> Iterator[None]:
    """New files, for as long as the tests run. Raises FileExistsError: one of them is not new."""
    made = list[Path]()
    try:
        for path, text in files.items():
            with Path(path).open("x", encoding="utf-8") as file:
                made.append(Path(path))
                file.write(text)
        yield
    finally:
        for new in made:
            new.unlink(missing_ok=True)


def spectrum(covered: dict[str, dict[str, list[int]]], failed: set[str]) -> dict[str, str]:
    """How many failing and passing tests execute each line, as runs of lines: {path: "3-7:1,4 9:0,2"}."""
    counts: dict[str, dict[int, list[int]]] = {}
    for test, files in covered.items():
        for path, numbers in files.items():
            for number in numbers:
                counts.setdefault(path, {}).setdefault(number, [0, 0])[test not in failed] += 1
    return {path: runs({line: f"{a},{b}" for line, (a, b) in lines.items()}) for path, lines in sorted(counts.items())}


def runs(lines: dict[int, str]) -> str:
    found = list[tuple[int, int, str]]()
    for line, value in sorted(lines.items()):
        if found and found[-1][1] == line - 1 and found[-1][2] == value:
            found[-1] = (found[-1][0], line, value)
        else:
            found.append((line, line, value))
    return " ".join(f"{a}-{b}:{value}" if a != b else f"{a}:{value}" for a, b, value in found)


# --- tests in a fork -------------------------------------------------------------------------------------------------


def run_tests(tests: Json, timeout_s: float, *, trace: bool = False, known: list[str] | None = None) -> Json:
    """Outcomes: {"passed": n, "failed": {test: {"message", "frames"}}, "error", "covered"}. With `known`, the tests
    that are known to fail, these run first, and the rest is spared where none of them passes or another one fails.
    """
    if tests.get("pytest") is None:
        return run_command(tests["command"], timeout_s)
    if known and all("::" in test for test in known):
        first = in_fork(lambda: run_pytest(["-q", *known], False, known), timeout_s)
        if first["error"] or len(first["failed"]) >= len(known):
            return first
    return in_fork(lambda: run_pytest(tests["pytest"], trace, known), timeout_s)


def run_command(command: str, timeout_s: float) -> Json:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        ["bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=environment,
    )
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    failed = process.returncode != 0
    told = {"message": output.decode("utf-8", "replace")[-2000:], "frames": []}
    return {"passed": int(not failed), "failed": {command: told} if failed else {}, "error": ""}


def in_fork(work: Callable[[], Json], timeout_s: float) -> Json:
    """What `work` returns in a child of its own process group, which is killed when the time is up."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(reading)
        try:
            silence()
            answer = json.dumps(work())
        except BaseException:
            answer = json.dumps({"passed": 0, "failed": {}, "error": traceback.format_exc()[-1000:]})
        with os.fdopen(writing, "w") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writing)
    data, deadline = b"", time.monotonic() + timeout_s
    while ready := select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
        chunk = os.read(ready[0], 1 << 16)
        if not chunk:
            break
        data += chunk
    os.close(reading)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        found: Json = json.loads(data)
    except ValueError:
        found = {"passed": 0, "failed": {}, "error": "the tests did not end in time"}
    return found


def silence() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


def run_pytest(arguments: list[str], trace: bool, known: list[str] | None) -> Json:
    import pytest

    watcher, before = Watcher(trace, known), set(sys.modules)
    lean = LEAN if known is not None else ()
    code = pytest.main(["-p", "no:cacheprovider", *lean, *arguments], plugins=[watcher])
    error = "" if int(code) in (0, 1, 5) or watcher.failed else f"pytest ended with {int(code)}"
    found: Json = {"passed": len(watcher.passed - set(watcher.failed)), "failed": watcher.failed, "error": error}
    if trace:
        found["covered"] = {test: {p: sorted(n) for p, n in files.items()} for test, files in watcher.covered.items()}
    found["imported"] = sorted(name for name in set(sys.modules) - before if is_library(sys.modules[name]))
    return found


def is_library(module: Any) -> bool:
    path = getattr(module, "__file__", None) or ""
    return "site-packages" in path or path.startswith(sys.base_prefix + "/lib")


class Watcher:
    """A pytest plugin that notes outcomes, tracebacks and executed lines below the current folder."""

    def __init__(self, trace: bool, known: list[str] | None) -> None:
        self.trace = trace
        self.known = known
        self.root = str(Path.cwd()) + "/"
        self.passed: set[str] = set()
        self.failed: dict[str, Json] = {}
        self.covered: dict[str, dict[str, set[int]]] = {}
        self.first: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        self.first = {item.nodeid for item in items} & set(self.known or ())
        items.sort(key=lambda item: item.nodeid not in self.first)

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        if call.excinfo is None:
            if call.when == "call":
                self.passed.add(item.nodeid)
        elif type(call.excinfo.value).__name__ not in ("Skipped", "XFailed"):
            self.note(item.nodeid, call.excinfo.exconly(), call.excinfo.traceback)

    def pytest_runtest_protocol(self, item: Any) -> bool | None:
        if self.known is None:
            return None
        broken = set(self.failed) - set(self.known)
        unchanged = bool(self.first) and self.first == set(self.known) and self.first <= set(self.failed)
        return True if broken or unchanged else None  # True: pytest believes that the test was run

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.failed[report.nodeid] = {"message": str(report.longrepr)[-2000:], "frames": []}

    def pytest_runtest_setup(self, item: Any) -> None:
        if self.trace:
            import threading

            tracer = self.tracer(self.covered.setdefault(item.nodeid, {}))
            threading.settrace(tracer)
            sys.settrace(tracer)

    def pytest_runtest_teardown(self, item: Any) -> None:
        if self.trace:
            sys.settrace(None)

    def note(self, test: str, message: str, frames: Any) -> None:
        inside = [(str(f.path), f.lineno + 1) for f in frames if str(f.path).startswith(self.root)]
        shown = [[path.removeprefix(self.root), line] for path, line in inside][-MOST_TRACE_LINES:]
        self.failed[test] = {"message": message[:1000], "frames": shown}

    def tracer(self, files: dict[str, set[int]]) -> Callable[[FrameType, str, Any], Any]:
        root = self.root

        def local(frame: FrameType, event: str, _: Any) -> Any:
            if event == "line":
                files.setdefault(frame.f_code.co_filename.removeprefix(root), set()).add(frame.f_lineno)
            return local

        def enter(frame: FrameType, event: str, _: Any) -> Any:
            name = frame.f_code.co_filename
            inside = name.startswith(root) and "/test" not in name and "/." not in name and "site-packages" not in name
            return local if inside else None

        return enter


def warm_up() -> bool:
    """Import pytest and its plugins once for all forks; False where there is no pytest."""
    try:
        import _pytest.config as config
    except ImportError:
        return False
    from importlib.metadata import entry_points

    for name in config.default_plugins:
        importlib.import_module(f"_pytest.{name}")
    if "PYTEST_DISABLE_PLUGIN_AUTOLOAD" not in os.environ:
        for plugin in entry_points(group="pytest11"):
            with contextlib.suppress(Exception):
                plugin.load()
    return True


def warm(modules: Iterable[str]) -> None:
    """Import the libraries that a fork had to import, so that the next ones have them."""
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def main(order: Json) -> None:
    sys.dont_write_bytecode = True
    sys.argv = ["pytest"]
    sys.path.insert(0, str(Path.cwd()))
    if order["tests"].get("pytest") is not None and not warm_up():
        order["tests"] = {"command": order["tests"]["command"]}
    act = {"survey": survey, "attempt": attempt}[order["do"]]
    with present(order["files"]):
        found = act(order)
    print(MARK + json.dumps(found, separators=(",", ":")))
