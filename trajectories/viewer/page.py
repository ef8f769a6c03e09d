"""A run or an episode as one self-contained page: the viewer's own, with the answers it would ask for embedded."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trellis.trajectories.disk import replacing
from trellis.trajectories.viewer.documents import encoded
from trellis.trajectories.viewer.server import NotThere, image_type, static
from trellis.trajectories.viewer.shelf import WINDOW, LibraryShelf


def _in_order(name: str, known: dict[str, None]) -> dict[str, None]:
    """The modules that one needs, each behind those that it needs itself."""
    for needed in re.findall(r'^import [^;]*"\./([\w.]+)";$', static(name).decode(), re.MULTILINE):
        if needed not in known:
            _in_order(needed, known)
    known[name] = None
    return known


MODULES = tuple(_in_order("main.js", {}))


MOST_BYTES = 96 << 20
"""Of what is embedded: a browser still opens it. What does not fit is left out."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a page."""

    size: int
    """In bytes."""
    left_out: int
    """Answers and images that did not fit."""


def write_page(shelf: LibraryShelf, target: Path) -> Written:
    """Write what `shelf` opens first to `target`, whole or not at all.

    Raises:
        NotThere: what it opens first cannot be read.
        OSError: the page cannot be written.
    """
    first = shelf.answer("first", {})
    left, left_out = MOST_BYTES, 0
    answers: list[str] = []
    images: dict[str, str] = {}
    for address, answer in _answers(shelf, first):
        text = f"{encoded(address)}:{encoded(answer)}"
        if len(text) > left:
            left_out += 1
            continue
        left -= len(text)
        answers.append(text)
        for name, image in _images(shelf, first, answer, images):
            if len(image) > left:
                left_out += 1
            else:
                left -= len(image)
                images[name] = image
    page = _page(f'{{"answers":{{{",".join(answers)}}},"images":{encoded(images)}}}')
    with replacing(target) as file:
        file.write(page.encode())
    return Written(target.stat().st_size, left_out)


def _answers(shelf: LibraryShelf, first: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What the page will ask for, by the address it will ask at."""
    yield "first", first
    match first["view"]:
        case "runs":
            yield "runs", shelf.answer("runs", {})
        case "run":
            yield _address("run", run=first["run"]), shelf.answer("run", {"run": first["run"]})
        case "episode":
            e = first["episode"]
            overview = shelf.answer("episode", {"e": e})
            yield _address("episode", e=e), overview
            questions: list[tuple[str, dict[str, str]]] = [("timeline", {}), ("judgements", {})]
            questions += [("opening", {"branch": branch["name"]}) for branch in overview["branches"]]
            starts = range(1, overview["steps"] + 1, WINDOW)
            questions += [("steps", {"count": str(WINDOW), "from": str(start)}) for start in starts]
            questions += [("node", {"id": str(node["id"])}) for node in overview["nodes"]]
            for path, query in questions:
                with suppress(NotThere):  # the page says so where it is wanted
                    yield _address(path, e=e, **query), shelf.answer(path, {"e": e, **query})


def _address(path: str, **query: str) -> str:
    """As the page writes it: members sorted, nothing encoded."""
    return f"{path}?{'&'.join(f'{name}={value}' for name, value in sorted(query.items()))}"


def _images(
    shelf: LibraryShelf, first: Mapping[str, Any], answer: Any, known: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    for name in sorted(set(_blobs(answer)) - known.keys()):
        try:
            data = shelf.blob(first.get("episode", ""), name)
        except NotThere:
            continue
        if kind := image_type(data):
            yield name, f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _blobs(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if value.get("kind") == "image" and isinstance(value.get("blob"), str):
            yield value["blob"]
        for inner in value.values():
            yield from _blobs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _blobs(inner)


def _page(data: str) -> str:
    """The modules become one script, allowed by its hash; the data is no script, and cannot end its element."""
    modules = "\n".join(_plain(static(name).decode()) for name in MODULES)
    script = f'"use strict";\n(() => {{\n{modules}\n}})();\n'
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = static("viewer.css").decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    embedded = data.replace("<", "\\u003c").replace("&", "\\u0026")
    html = re.sub(r'<link rel="modulepreload" .*\n', "", static("index.html").decode())
    icon = base64.b64encode(static("icon.svg")).decode()
    html = html.replace("static/icon.svg", f"data:image/svg+xml;base64,{icon}")
    html = html.replace('<link rel="stylesheet" href="static/viewer.css">', f"<style>{style}</style>")
    html = html.replace(
        '<script type="module" src="static/main.js"></script>',
        f'<script type="application/json" id="embedded">{embedded}</script>\n<script>{script}</script>',
    )
    return html.replace("<head>", f'<head>\n<meta http-equiv="Content-Security-Policy" content="{policy}">', 1)


def _plain(module: str) -> str:
    """A module as part of one script: its names are everybody's, so that it imports and exports nothing."""
    module = re.sub(r"^import [^;]*;\n", "", module, flags=re.MULTILINE)
    return re.sub(r"^export ", "", module, flags=re.MULTILINE)
