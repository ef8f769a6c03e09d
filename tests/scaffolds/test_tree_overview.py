"""What the tree search shows of the data."""

import json
from pathlib import Path

from trellis.scaffolds.tree.overview import MAX_CHARS, overview


def data(tmp_path: Path) -> Path:
    root = tmp_path / "input"
    root.mkdir()
    return root


def test_tables_are_described_by_column(tmp_path: Path) -> None:
    root = data(tmp_path)
    rows = [f"{i},{i / 3},{'' if i % 4 else 'red'},{'a b' if i % 2 else 'c'}" for i in range(1, 21)]
    (root / "train.csv").write_text("\n".join(["id,size,colour,kind", *rows]) + "\n")
    text = overview(root)
    assert "train.csv has 20 rows and 4 columns." in text
    assert "\nid (integer, from 1 to 20, 20 different values)\n" in text
    assert "\nsize (float, from 0.333333 to 6.66667, 20 different values)\n" in text
    assert '\ncolour (text, values ["red"], 15 missing)\n' in text
    assert '\nkind (text, values ["a b", "c"])' in text


def test_wide_tables_are_named_by_their_first_and_last_columns(tmp_path: Path) -> None:
    root = data(tmp_path)
    names = [f"pixel_{i}_of_the_image" for i in range(200)]
    for name in ("train.csv", "test.csv"):
        (root / name).write_text(f"id,{','.join(names)},digit\n{','.join('7' * 202)}\n")
    text = overview(root)
    assert len(text) <= MAX_CHARS
    assert "The columns are: id, pixel_0_of_the_image, " in text
    assert "... 187 more ..., pixel_198_of_the_image, pixel_199_of_the_image, digit" in text


def test_what_is_too_much_is_cut(tmp_path: Path) -> None:
    root = data(tmp_path)
    for i in range(8):
        (root / f"{i}.csv").write_text(",".join(f"column_{j}_{'x' * 90}" for j in range(15)) + "\n")
    text = overview(root)
    assert text.endswith("\n... (cut)")
    assert len(text) < MAX_CHARS + 20


def test_folders_json_and_notes(tmp_path: Path) -> None:
    root = data(tmp_path)
    (root / "images").mkdir()
    for i in range(40):
        (root / "images" / f"{i:02}.png").write_bytes(b"x")
    (root / "meta.json").write_text(json.dumps({"classes": ["a", "b"], "size": 8}))
    (root / "broken.json").write_text("{")
    (root / "notes.txt").write_text("Mind the gap.")
    (root / "long.txt").write_text("line\n" * 50)
    (root / "description.md").write_text("It is in the task already.")
    (root / "empty.csv").write_text("")
    text = overview(root)
    assert "03.png (1 bytes)" in text
    assert "... and 36 other files" in text
    assert "{classes: [str, ...] (2 items), size: int}" in text
    assert "broken.json holds:\nsomething that is not JSON" in text
    assert "Mind the gap." in text
    assert "line\nline" not in text
    assert "in the task already" not in text
    assert "empty.csv has 0 rows and 0 columns." in text
