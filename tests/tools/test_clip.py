import re

from hypothesis import given, settings
from hypothesis import strategies as some

from trellis.tools.clip import clip, plain


def test_colours_titles_and_links_go_and_the_words_stay() -> None:
    raw = b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07plain \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ \x1b(Bend\x1b[2K"
    assert plain(raw) == "red plain link end"


def test_an_unended_control_string_does_not_reach_the_model() -> None:
    assert plain(b"before\x1b]0;never ended") == "before"


def test_a_progress_bar_becomes_its_last_state() -> None:
    assert plain(b"10%\r50%\r100%\ndone\r\nnext") == "100%\ndone\nnext"


def test_a_line_that_ends_in_a_carriage_return_is_kept() -> None:
    assert plain(b"working...\r") == "working..."


def test_overstrikes_and_other_control_characters_go() -> None:
    assert plain(b"N\x08NA\x08AM\x08ME\x08E\ttab\x00\x07") == "NAME\ttab"


def test_bytes_that_are_no_text_become_replacement_characters() -> None:
    assert plain(b"caf\xe9") == "caf\ufffd"


@settings(deadline=None)
@given(some.text(some.sampled_from("\x1b\x9b\x07\r\n\x08\t[]0;31m\\\\ab")))
def test_no_mixture_leaves_a_control_character(raw: str) -> None:
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", plain(raw))


def test_a_short_text_is_left_alone() -> None:
    assert clip("a" * 100, 100) == "a" * 100


def test_the_middle_is_cut_at_line_ends_and_counted() -> None:
    text = "".join(f"line {n:04}\n" for n in range(1000))
    cut = clip(text, 1000, whole_in="/tmp/whole.txt")
    found = re.fullmatch(
        r"(.*\n)\[\.\.\. ([\d,]+) characters cut here; the output is kept in /tmp/whole\.txt \.\.\.\]\n(line .*)",
        cut,
        re.DOTALL,
    )
    assert found is not None
    head, count, tail = found.groups()
    assert text.startswith(head)
    assert text.endswith(tail)
    assert 900 < len(head) + len(tail) <= 1000
    assert int(count.replace(",", "")) == len(text) - len(head) - len(tail)


def test_one_long_line_is_cut_inside() -> None:
    cut = clip("x" * 5000 + "y" * 5000, 1000)
    assert cut == "x" * 500 + "\n[... 9,000 characters cut here ...]\n" + "y" * 500
