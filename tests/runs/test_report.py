"""The report: self-contained, and deaf to whatever hostile text stands in it."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from trellis.benchmarks.benchmark import Score
from trellis.models.model import Usage
from trellis.runs import text
from trellis.runs.experiment import Experiment
from trellis.runs.report import render
from trellis.runs.results import Key, Outcome, Result
from trellis.runs.summary import summarize

EVIL = (
    "<script>document.title='owned'</script>\"'><img src=x onerror=\"document.title='owned'\">"
    "{{ 7*7 }}\u202egnp.exe\x1b[31m"
)


def result(agent: str, epoch: int, outcome: Outcome = "completed", value: float = 0.5) -> Result:
    scored = outcome != "fault"
    return Result(
        Key("mle:sample", EVIL, agent, epoch),
        seed=1,
        outcome=outcome,
        path=f"episodes/x/{EVIL}/1",
        score=Score(value, value > 0.6, explanation=EVIL, flags=(EVIL,)) if scored else None,
        fault="" if scored else EVIL,
        usage=Usage(input=5),
        cost_usd=None,
    )


def page(results: list[Result], names: tuple[str, ...] = ("a", "b")) -> str:
    agents = [{"name": name, "scaffold": "noop"} for name in names]
    experiment = Experiment.model_validate({"name": EVIL, "benchmarks": ["mle:sample"], "agents": agents})
    return render("run-1", experiment, results, summarize(results, {}))


FULL = [result("a", 1), result("a", 2, value=0.9), result("b", 1, "limit", 0.2), result("b", 2, "fault")]


class Page(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_hostile_text_stays_text() -> None:
    source = page(FULL)
    found = Page(source)
    assert not any(tag == "img" or any(name.startswith("on") for name in attrs) for tag, attrs in found.tags)
    assert [tag for tag, _ in found.tags].count("script") == 1
    assert "<script>document.title='owned'</script>" in found.words
    assert "{{ 7*7 }}" in found.words
    assert "\u202e" not in source
    assert "\x1b" not in source
    assert r"\u202egnp.exe\x1b[31m" in found.words


def test_nothing_is_fetched_and_links_stay_in_the_run() -> None:
    found = Page(page(FULL))
    for _, attrs in found.tags:
        assert attrs.get("src") is None
        assert (attrs.get("href") or "./").startswith("./")
    assert not re.search(r"url\(|@import|https?://", page(FULL))


@pytest.mark.parametrize("results", [[], [result("a", 1, "fault")], [result("a", 1)]], ids=["none", "fault", "one"])
def test_a_run_that_has_hardly_begun(results: list[Result]) -> None:
    assert "Episodes" in page(results)


def test_steering_characters_are_shown() -> None:
    assert text.visible("a\u202eb\u200bc\x07d\x9be\ufeff") == r"a\u202eb\u200bc\x07d\x9be\ufeff"
    assert text.visible("naïve – 日本語 \N{SNAKE}\n\t") == "naïve – 日本語 \N{SNAKE}\n\t"
    assert text.line("a\n  b\r\x1b[2J" + "c" * 300, 20) == r"a b\x0d\x1b[2Jccccc…"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.seconds(0.04), "0.0 s"), (text.seconds(59.6), "1 m 0 s"), (text.seconds(7325), "2 h 2 m"),
        (text.seconds(None), "–"), (text.count(950), "950"), (text.count(12345), "12.3k"), (text.count(4.5e6), "4.5M"),
        (text.count(2.25), "2.2"), (text.usd(None), "unpriced"),
        (text.usd(0.00001), "<$0.0001"), (text.usd(0), "$0.00"), (text.usd(0.00123), "$0.0012"),
        (text.usd(12.3456), "$12.35"), (text.p_value(0.00001), "<0.001"),
    ],
)  # fmt: skip
def test_numbers_as_people_read_them(shown: str, expected: str) -> None:
    assert shown == expected


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
def test_a_real_browser_runs_our_script_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page(FULL), "utf-8")
    done = subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-quic",
            f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", file.as_uri(),
        ],
        capture_output=True, timeout=90, check=True,
    )  # fmt: skip
    dom = Page(done.stdout.decode())
    assert "<title>owned" not in done.stdout.decode()
    assert sum(attrs.get("data-outcome") is not None for tag, attrs in dom.tags if tag == "tr") == len(FULL)
