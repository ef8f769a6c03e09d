"""A trajectory as one page that stands alone."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from trellis.trajectories.viewer import page as pages
from trellis.trajectories.viewer.documents import encoded
from trellis.trajectories.viewer.page import MODULES, write_page
from trellis.trajectories.viewer.server import STATIC, NotThere, static

from .conftest import PNG, SVG, Written, shelf_of

HOSTILE = "</script><script>canary = 1</script><!--<script>&lt;\u2028\ud800"


def embedded(html: str) -> Any:
    found = re.findall(r'<script type="application/json" id="embedded">(.*?)</script>', html, re.DOTALL)
    assert len(found) == 1
    assert "<" not in found[0]
    return json.loads(found[0])


async def write(log: Written) -> Path:
    log.branch(f"main/{HOSTILE}")
    for number in range(3):
        call = ("shell", {"command": HOSTILE}, f"{HOSTILE} {number}")
        await log.step(HOSTILE, [call], branch=f"main/{HOSTILE}", images=[PNG, SVG])
    log.node(id=HOSTILE, parent=None, branch="main", plan=HOSTILE, metric=float("nan"))
    return log.close()


async def test_what_is_embedded_is_what_the_viewer_answers(written: Written, tmp_path: Path) -> None:
    shelf = shelf_of(await write(written), {"outcome": HOSTILE})
    target = tmp_path / "page.html"
    page = write_page(shelf, target)
    html = target.read_text("utf-8")
    assert (page.size, page.left_out) == (len(html.encode()), 0)
    data = embedded(html)
    answers = data["answers"]
    assert set(answers) >= {"first", "episode?e=e", "timeline?e=e", "judgements?e=e", "steps?count=100&e=e&from=1"}
    for address, answer in answers.items():
        if "canary" not in address:
            path, _, rest = address.partition("?")
            query = dict(pair.split("=") for pair in rest.split("&") if pair)
            assert json.loads(encoded(shelf.answer(path, query))) == answer
    assert answers["episode?e=e"]["nodes"][0]["metric"] == "NaN"
    assert list(data["images"].values()) == [f"data:image/png;base64,{base64.b64encode(PNG).decode()}"]
    shelf.close()


async def test_only_its_own_script_may_run_and_nothing_is_loaded(written: Written, tmp_path: Path) -> None:
    shelf = shelf_of(await write(written))
    write_page(shelf, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text("utf-8")
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', html)
    assert policy is not None
    assert html.index("<meta http-equiv") < html.index("<style>")
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}';" in policy[1]
    assert "connect-src" not in policy[1]
    assert not re.search(r"^(import|export) ", scripts[0], re.MULTILINE)
    assert not re.search(r'(src|href)="(?!#|data:image/svg)', html)
    assert "static/" not in re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    shelf.close()


async def test_a_page_has_a_bound_and_says_so(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(250):
        await written.step(f"{number} " + "x" * 1000)
    shelf = shelf_of(written.close())
    monkeypatch.setattr(pages, "MOST_BYTES", 400_000)
    page = write_page(shelf, tmp_path / "page.html")
    assert page.size < 500_000
    assert 1 <= page.left_out <= 2
    answers = embedded((tmp_path / "page.html").read_text())["answers"]
    assert sum(name.startswith("steps") for name in answers) == 3 - page.left_out
    shelf.close()


async def test_a_page_is_whole_or_not_there(written: Written, tmp_path: Path) -> None:
    await written.step()
    log = written.close()
    target = tmp_path / "page.html"
    target.write_text("before")
    shelf = shelf_of(log)
    log.write_bytes(b"damaged\n")
    with pytest.raises(NotThere):
        write_page(shelf, target)
    assert target.read_text() == "before"
    with pytest.raises(NotThere):
        write_page(shelf, tmp_path / "none" / "page.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["episode", "page.html"]
    shelf.close()


def test_modules_share_one_scope_without_taking_each_others_names() -> None:
    names: list[str] = []
    for module in MODULES:
        names += re.findall(
            r"^(?:export )?(?:async )?(?:function|const|class|let) ([A-Za-z_$][\w$]*)", static(module).decode(), re.M
        )
    assert sorted(names) == sorted(set(names))
    assert set(MODULES) == {name for name in STATIC if name.endswith(".js")}
