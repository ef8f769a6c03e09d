"""What is on a page as text, without a browser: quoting, budgets, what changed; and old snapshots taken out."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as some

from trellis.models.messages import Image, Message, Text, ToolResult, assistant, user
from trellis.tools.browser.collapse import collapse
from trellis.tools.browser.session import driver_program
from trellis.tools.browser.snapshot import changes, clean, lines, quoted, whole
from trellis.tools.catalog import make


def texts(*nodes: dict[str, Any]) -> list[str]:
    return [str(line) for line in lines(nodes)]


def test_a_line_says_what_an_element_is() -> None:
    field = {"role": "textbox", "name": "User", "ref": 3, "value": "ada", "states": ["required", "focused"], "off": "↓"}
    assert texts(field) == ['textbox "User" [e3] = "ada" (required, focused) ↓']
    inside = {"role": "listitem", "off": "", "ref": 4, "children": [{"text": "words", "off": ""}]}
    assert texts({"role": "list", "off": "", "children": [inside]}) == ["list", '  listitem [e4]: "words"']


@given(some.text())
def test_a_pages_words_stay_on_one_line_between_their_quotes(text: str) -> None:
    line = quoted(text)
    assert "\n" not in line
    assert line[0] == line[-1] == '"'
    body = line[1:-1].replace("\\\\", "").replace('\\"', "")
    assert '"' not in body
    assert clean(line) == line


def page(count: int, off: range) -> list[Any]:
    return list(lines([{"text": f"line {n} " + "x" * 50, "off": "↓" if n in off else ""} for n in range(count)]))


def test_a_long_page_shows_what_is_on_the_screen_then_what_follows() -> None:
    long = [*page(1000, range(1000))[:500], *page(20, range(0)), *page(1000, range(1000))[520:]]
    text = whole(long, limit_chars=4000)
    assert len(text) < 4300
    assert all(f"line {n} " in text for n in range(20))
    assert "lines left out here: scroll" in text
    assert whole([], left=3).startswith("[3 parts of the page")


def test_nothing_changed_little_changed_and_much_changed() -> None:
    before, now = page(50, range(0)), page(50, range(0))
    assert changes(before, now) == ""
    now[7] = next(lines([{"text": "other", "off": ""}]))
    told = changes(before, now)
    assert told is not None
    assert told.splitlines() == [f"- {before[7]}", '+ "other"']
    assert changes(before, page(50, range(0, 0))[:2] + [now[7]] * 40) is None


def shown(number: int, supersedes: int, text: str = "did it\nSnapshot: much", picture: bool = False) -> Message:
    facts = {
        "action": "click",
        "snapshot": {"number": number, "whole": supersedes > 0, "supersedes": supersedes, "at": 7},
    }
    parts: tuple[Text | Image, ...] = (Text(text),)
    if picture:
        facts.pop("snapshot")
        parts = (Text("a picture"), Image(b"x", "image/jpeg"))
    return ToolResult(f"c{number}", "browser", parts, data=facts).message


def test_old_snapshots_are_taken_out_and_the_rest_stays_the_same_object() -> None:
    other = ToolResult("s", "shell", (Text("Snapshot: not a browser's"),), data={"exit_code": 0}).message
    messages = [user("task"), shown(1, 0), other, shown(2, 0), assistant("hm"), shown(3, 2), shown(4, 0)]
    out = collapse(messages)
    assert [message.text for message in out[1:4]] == [
        "did it\n[snapshot 1 was here; a later one shows the page]", "Snapshot: not a browser's",
        "did it\n[snapshot 2 was here; a later one shows the page]",
    ]  # fmt: skip
    assert all(out[n] is messages[n] for n in (0, 2, 4, 5, 6))
    again = collapse(out)
    assert all(a is b for a, b in zip(out, again, strict=True))
    assert len(out) == len(messages)


def test_only_the_last_pictures_stay() -> None:
    messages = [shown(n, 0, picture=True) for n in range(4)]
    out = collapse(messages, keep_images=1)
    kept = [any(isinstance(p, Image) for p in m.parts[0].parts) for m in out]  # type: ignore[union-attr]
    assert kept == [False, False, False, True]
    assert out[0].text == "a picture\n[a screenshot was here]"
    assert out[3] is messages[3]


def test_the_driver_fits_into_one_argument_and_the_spec_is_small() -> None:
    assert len(driver_program()) < 100_000
    spec = make(["browser"])[0].spec
    assert all(member.get("description") for member in spec.parameters["properties"].values())
    assert len(spec.description) + len(str(spec.parameters)) < 8_000
