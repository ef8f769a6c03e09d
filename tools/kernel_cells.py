"""The kernel: runs cells of code one after the other, in one namespace, and shows what comes of them.

Part of the kernel's program (see kernel_broker.py): Python 3.8, standard library only.
"""

from __future__ import annotations
import __future__

import ast
import builtins
import io
import linecache
import os
import re
import signal
import site
import socket
import sys
import sysconfig
import traceback
import types
from contextlib import suppress
from typing import Any, NoReturn

from trellis.tools.frames import Frames, pack

MAX_IMAGES = 8
MAX_IMAGE_BYTES = 3_750_000
MAX_IMAGE_PX = 1568
"""What models see of an image; a larger figure is drawn with fewer pixels. See images.py."""
TABLE_WIDTH, TABLE_COLUMNS = 160, 40
"""What pandas may use of a line; its own defaults are those of a small terminal."""

_COROUTINE = 0x80
_FUTURE = 0
for _feature in __future__.all_feature_names:
    _FUTURE |= getattr(__future__, _feature).compiler_flag
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,16}\b")


class Cells:
    """The namespace of one kernel, and what its cells show."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._flags = 0
        self._running = False
        self._asyncio_loop: Any = None
        self._images: list[bytes] = []
        self._main = types.ModuleType("__main__")
        self._main.__dict__.update(__builtins__=builtins, __annotations__={})
        sys.modules["__main__"] = self._main
        sys.argv, sys.path[0] = [""], ""
        builtins.input = _no_input
        builtins.display = self.display  # type: ignore[attr-defined]
        os.environ.setdefault("MPLBACKEND", "Agg")
        self._output = os.dup(1)
        self._buffer = io.BufferedWriter(io.FileIO(1, "w", closefd=False))
        self._streams = self._new_stream(), self._new_stream()
        os.register_at_fork(before=self.flush)
        self._library = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), *_site_packages()})

    def run(self, name: str, source: str) -> tuple[bool, list[bytes]]:
        """Run one cell: did it end well, and which images did it show? Its text goes to standard output."""
        self._mend_streams()
        signal.signal(signal.SIGINT, self._interrupted)
        self._images = []
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        ok = False
        try:
            self._running = True
            self._run(name, source)
            ok = True
        except BaseException as error:
            self._running = False
            self._show_error(error, source)
        finally:
            self._running = False
        if os.getpid() != self._pid:
            self.flush()
            os._exit(0 if ok else 1)  # a fork that the cell made and let go on
        with suppress(Exception):
            self._show_figures()
        self.flush()
        return ok, self._images

    def flush(self) -> None:
        for stream in (*self._streams, self._buffer):
            with suppress(OSError, ValueError):
                stream.flush()

    def display(self, *values: Any) -> None:
        """Show values in the middle of a cell as the last expression of one is shown."""
        for value in values:
            png = _png(value)
            if png is not None:
                self._show_image(png)
            else:
                print(_ADDRESS.sub("", _text(value)))

    def _mend_streams(self) -> None:
        """Whatever an earlier cell did to them: closed, replaced, redirected."""
        for fd in (1, 2):
            os.dup2(self._output, fd)
        if any(stream.closed for stream in self._streams):
            self._buffer = io.BufferedWriter(io.FileIO(1, "w", closefd=False))
            self._streams = self._new_stream(), self._new_stream()
        sys.stdout, sys.stderr = self._streams

    def _new_stream(self) -> io.TextIOWrapper:
        """Standard output and error share a buffer that is written at line ends: their order is kept."""
        return io.TextIOWrapper(
            self._buffer, "utf-8", errors="backslashreplace", line_buffering=True, write_through=True
        )

    def _interrupted(self, *_: Any) -> None:
        if self._running:
            raise KeyboardInterrupt

    # --- running ---

    def _run(self, name: str, source: str) -> None:
        flags = self._flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        tree = compile(source, name, "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr) and not source.rstrip().endswith(";"):
            last = tree.body.pop()
        if tree.body:
            self._evaluate(compile(tree, name, "exec", flags, dont_inherit=True))
        if last is not None:
            expression = ast.Expression(last.value)
            value = self._evaluate(compile(expression, name, "eval", flags | self._flags, dont_inherit=True))
            if value is not None:
                self._main.__dict__["_"] = value
                self.display(value)

    def _evaluate(self, code: types.CodeType) -> Any:
        self._flags |= code.co_flags & _FUTURE
        result = eval(code, self._main.__dict__)
        return self._wait_for(result) if code.co_flags & _COROUTINE else result

    def _wait_for(self, coroutine: Any) -> Any:
        import asyncio

        if self._asyncio_loop is None or self._asyncio_loop.is_closed():
            self._asyncio_loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._asyncio_loop)
        task = self._asyncio_loop.create_task(coroutine)
        try:
            return self._asyncio_loop.run_until_complete(task)
        except BaseException:
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    self._asyncio_loop.run_until_complete(task)
            raise

    # --- showing ---

    def _show_figures(self) -> None:
        """Whatever pyplot holds at the end of a cell."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is None:
            return
        try:
            for number in pyplot.get_fignums():
                png = io.BytesIO()
                figure = pyplot.figure(number)
                dpi = min(figure.dpi, MAX_IMAGE_PX / max(figure.get_size_inches()))
                figure.savefig(png, format="png", bbox_inches="tight", dpi=dpi)
                self._show_image(png.getvalue())
        finally:
            pyplot.close("all")

    def _show_image(self, png: bytes) -> None:
        if len(self._images) >= MAX_IMAGES:
            print(f"[an image is left out: a cell shows {MAX_IMAGES} at most]")
        elif len(png) > MAX_IMAGE_BYTES:
            print(f"[an image of {len(png):,} bytes is left out: {MAX_IMAGE_BYTES:,} at most are shown]")
        else:
            self._images.append(png)

    def _show_error(self, error: BaseException, source: str) -> None:
        if isinstance(error, SystemExit):
            if os.getpid() != self._pid:
                self.flush()
                os._exit(error.code if isinstance(error.code, int) else error.code is not None)
            print(f"SystemExit: {error.code}\n[this ended the cell; the kernel goes on]", file=sys.stderr)
            return
        shown = traceback.TracebackException(type(error), error, error.__traceback__)
        self._leave_out_libraries(shown, set())
        sys.stderr.write("".join(shown.format()))
        if isinstance(error, SyntaxError) and _is_magic(error, source):
            sys.stderr.write("[lines that begin with ! or % are for IPython; run commands with the shell tool]\n")

    def _leave_out_libraries(self, shown: Any, seen: set[int]) -> None:
        """Keep the frames of the cells and of the agent's own files, and the one where it was raised."""
        if shown is None or id(shown) in seen:
            return
        seen.add(id(shown))
        frames = [frame for frame in shown.stack if not frame.filename.startswith("trellis.tools.kernel_")]
        kept = [frame for frame in frames[:-1] if not frame.filename.startswith((*self._library, "<frozen "))]
        shown.stack = traceback.StackSummary.from_list([*kept, *frames[-1:]])
        for other in (shown.__cause__, shown.__context__, *(getattr(shown, "exceptions", None) or ())):
            self._leave_out_libraries(other, seen)


def _text(value: Any) -> str:
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(value, (pandas.DataFrame, pandas.Series)):
        return repr(value)
    wider = []
    if pandas.get_option("display.width") == 80:
        wider += ["display.width", TABLE_WIDTH]
    if pandas.get_option("display.max_columns") in (0, 20):
        wider += ["display.max_columns", TABLE_COLUMNS]
    if not wider:
        return repr(value)
    with pandas.option_context(*wider):
        return repr(value)


def _png(value: Any) -> bytes | None:
    """The value as an image, if it knows how to be one."""
    method = None if isinstance(value, type) else getattr(value, "_repr_png_", None)
    if not callable(method):
        return None
    try:
        png = method()
    except Exception:
        return None  # it says that it cannot
    png = png[0] if isinstance(png, tuple) and png else png
    return png if isinstance(png, bytes) else None


def _is_magic(error: SyntaxError, source: str) -> bool:
    lines = source.split("\n")
    at = (error.lineno or 1) - 1
    return 0 <= at < len(lines) and lines[at].lstrip().startswith(("!", "%"))


def _site_packages() -> list[str]:
    return [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]


def _no_input(prompt: object = "") -> NoReturn:
    raise EOFError(f"input({str(prompt)!r}): there is nobody to answer; write the value into the code")


def serve(connection: socket.socket) -> NoReturn:
    """Run the cells that come over a connection, until it closes."""
    os.register_at_fork(after_in_child=connection.close)
    cells, frames = Cells(), Frames()
    while True:
        data = connection.recv(1 << 16)
        if not data:
            os._exit(0)
        for header, code in frames.feed(data):
            try:
                ok, images = cells.run(header["cell"], code.decode())
            except KeyboardInterrupt:  # it came as the cell ended
                ok, images = False, []
            answer = {"cell": header["cell"], "ok": ok, "images": [len(image) for image in images]}
            connection.sendall(pack(answer, b"".join(images)))
