"""`trellis new`: something that works, to start from."""

from __future__ import annotations

import keyword
from pathlib import Path
from string import Template

import click

from trellis.runs.errors import UsageError

TEMPLATES = Path(__file__).with_name("templates")
NEXT = {
    "scaffold": "trellis run mle:sample --scaffold ./{file}:{name} --model offline/tabular --limit 1",
    "tool": "trellis run mle:sample --scaffold react --model offline/tabular --tools shell,submit,./{file}:{name}",
    "benchmark": "trellis run ./{file}:{name} --scaffold oracle",
}


@click.command()
@click.argument("kind", type=click.Choice(list(NEXT)))
@click.argument("name")
def new(kind: str, name: str) -> None:
    """Write NAME.py with a working scaffold, tool or benchmark, and test_NAME.py beside it."""
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise UsageError(f"{name!r}: expected a name for a Python file in lower case, for example my_{kind}")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    values = {"name": name, "class_name": class_name, "file": f"{name}.py"}
    made = {
        Path(f"{prefix}{name}.py"): Template((TEMPLATES / f"{prefix}{kind}.py.txt").read_text("utf-8")).substitute(
            values
        )
        for prefix in ("", "test_")
    }
    for path in made:
        if path.exists():
            raise UsageError(f"{path} exists already; nothing was written")
    for path, text in made.items():
        try:
            path.write_text(text, "utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path} in {Path.cwd()}: {error.strerror}") from None
    thing = name if kind == "tool" else class_name
    click.echo(f"wrote {' and '.join(map(str, made))}; try:\n  {NEXT[kind].format(file=f'{name}.py', name=thing)}\n"
               f"  pytest test_{name}.py")  # fmt: skip
