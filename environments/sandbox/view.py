"""Which of the host's folders a sandbox shows, and what in them it hides."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOM = Path(__file__).resolve().parent.parent
WORKDIRS = ("/work", "/workspace", "/workdir")


@dataclass(frozen=True, slots=True)
class View:
    """What of the host appears in a world, at the same paths; see jail.Jail."""

    visible: tuple[str, ...]
    masked: tuple[str, ...]
    masked_packages: tuple[str, ...]
    workdir: str


def view(hidden: Iterable[str]) -> View:
    """The interpreter's prefixes without Trellis (it holds answers and hidden tests) and without `hidden`."""
    visible = tuple(_prefixes())
    shown = [Path("/usr"), *map(Path, visible)]
    sites = [site for site in _site_folders() if _within(site, shown)]
    masked = [site / path for site in sites for path in hidden]
    for site in sites:
        masked += site.glob("__editable__*trellis*")
        masked += site.glob("trellis_agents-*.dist-info/direct_url.json")
    packages = [site / "trellis" for site in sites if (site / "trellis" / ROOM.name).is_dir()]
    if _within(ROOM, shown) and ROOM.parent not in packages:
        masked += [entry for entry in ROOM.parent.iterdir() if not any(_within(path, [entry]) for path in shown)]
    return View(
        visible,
        tuple(sorted({str(path.resolve()) for path in masked if path.exists()})),
        tuple(sorted({str(path.resolve()) for path in packages})),
        workdir=next(name for name in WORKDIRS if not _within_any(visible, Path(name))),
    )


def _prefixes() -> Iterator[str]:
    """Every folder that the interpreter needs, the outermost only."""
    needed = {Path(sys.prefix), Path(sys.exec_prefix), Path(sys.base_prefix), Path(sys.base_exec_prefix)}
    hop = Path(sys.executable)
    while hop.is_symlink():  # a virtual environment points to its base, perhaps through other links
        hop = hop.parent / hop.readlink()
        needed.add(hop.parent.parent)
    needed |= {path.resolve() for path in needed}
    for path in sorted(needed):
        others = needed - {path} | {Path("/usr"), Path("/bin"), Path("/lib")}
        if path != Path("/") and not _within(path, others):
            yield str(path)


def _site_folders() -> set[Path]:
    paths = sysconfig.get_paths()
    found = {Path(entry) for entry in (*sys.path, paths["purelib"], paths["platlib"]) if entry.endswith("-packages")}
    return {path for path in found if path.is_dir()}


def _within(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _within_any(paths: Iterable[str], folder: Path) -> bool:
    return any(Path(path).is_relative_to(folder) for path in paths)
