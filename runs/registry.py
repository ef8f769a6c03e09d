"""Names become things: a registered name, an entry point of an installed package, `package.module:Name` or
`path/to/file.py:Name`. One dict per kind; what it names is imported when it is first asked for."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, Literal

from trellis.runs.errors import UsageError, known

Kind = Literal["scaffold", "tool", "model", "benchmark"]

SCAFFOLDS = {
    "react": "trellis.scaffolds.react:ReAct",
    "tree": "trellis.scaffolds.tree.search:Tree",
    "repo_tree": "trellis.scaffolds.tree.repository:RepositoryTree",
    "best_of_n": "trellis.scaffolds.best_of_n:BestOfN",
    "oracle": "trellis.scaffolds.baselines:Oracle",
    "noop": "trellis.scaffolds.baselines:Noop",
}
BENCHMARKS = {
    "mle": "trellis.benchmarks.mle:Mle",
    "swelancer": "trellis.benchmarks.swelancer:SweLancer",
    "hle": "trellis.benchmarks.hle:Hle",
    "browser": "trellis.benchmarks.browser:Browser",
}
EXAMPLES: dict[Kind, str] = {
    "scaffold": "./my_agent.py:MyAgent",
    "tool": "./my_tool.py:my_tool",
    "model": "package.module:MyModel",
    "benchmark": "./my_benchmark.py:MyBenchmark",
}


def registered(kind: Kind) -> dict[str, str]:
    """Every name of a kind and where it points: the shipped ones, and the entry points of installed packages."""
    from importlib.metadata import entry_points

    return {p.name: p.value for p in entry_points(group=f"trellis.{kind}s")} | _shipped(kind)


def resolve(kind: Kind, name: str) -> Any:
    """What `name` stands for: a class or factory.

    Raises:
        UsageError: there is no such thing; the line says what there is.
    """
    place = _shipped(kind).get(name)
    if place is None and is_reference(name):
        place = name
    if place is None:
        there = registered(kind)
        if name not in there:
            raise UsageError(f"unknown {kind} {name!r}{known(name, there)} or e.g. {EXAMPLES[kind]}")
        place = there[name]
    module, _, attribute = place.partition(":")
    found: Any = _load_file(module) if module.endswith(".py") else _import(kind, name, module)
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [n for n in vars(found) if not n.startswith("_")]
            raise UsageError(f"{kind} {name!r}: {module} has no {part!r}{known(part, public)}")
        found = getattr(found, part)
    return found


def is_reference(name: str) -> bool:
    """Is it written as `package.module:Name` or `path/to/file.py:Name`?"""
    module, colon, attribute = name.partition(":")
    return bool(colon and attribute) and (module.endswith(".py") or all(p.isidentifier() for p in module.split(".")))


def anchored(name: str, folder: Path) -> str:
    """The same reference with its file path made absolute, so that a stored experiment works from anywhere."""
    module, colon, rest = name.partition(":")
    if not module.endswith(".py"):
        return name
    return f"{(folder / Path(module).expanduser()).resolve()}{colon}{rest}"


def split_benchmark(text: str) -> tuple[str, str]:
    """`mle:sample` as ("mle", "sample"); in a reference the split comes last: `./mine.py:Mine:hard`."""
    first, _, rest = text.partition(":")
    if first.endswith(".py") or "." in first:
        attribute, _, split = rest.partition(":")
        return (f"{first}:{attribute}" if attribute else first), split
    return first, rest


def _shipped(kind: Kind) -> dict[str, str]:
    match kind:
        case "scaffold":
            return SCAFFOLDS
        case "benchmark":
            return BENCHMARKS
        case "tool":
            from trellis.tools.catalog import TOOLS

            return TOOLS
        case "model":  # the catalogue of models loads its own, for "provider/*" stands for many
            return {}


def _import(kind: Kind, name: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if module == missing or module.startswith(f"{missing}."):
            raise UsageError(f"{kind} {name!r}: there is no module {missing!r}") from None
        raise UsageError(f"{kind} {name!r} needs the package {missing!r}, which is not installed") from None


def _load_file(text: str) -> Any:
    import hashlib
    from importlib.util import module_from_spec, spec_from_file_location

    path = Path(text).expanduser().resolve()
    if not path.is_file():
        raise UsageError(f"{text}: no such file")
    name = f"trellis_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look their module up while it is being executed
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        del sys.modules[name]
        raise UsageError(f"{text}, line {error.lineno}: {error.msg}") from None
    except Exception as error:
        del sys.modules[name]
        raise UsageError(f"{text}{_line_in(error, path)}: {type(error).__name__}: {error}") from None
    return module


def _line_in(error: BaseException, path: Path) -> str:
    """Where in the file at `path` an exception came from."""
    line, traceback = 0, error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(path):
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return f", line {line}" if line else ""
