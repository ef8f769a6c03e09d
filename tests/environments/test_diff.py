"""What `diff` lists, and that real git makes the one tree of the other with its patch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trellis.environments.capture import patch as patch_module
from trellis.environments.capture.changes import changes, different_files
from trellis.environments.capture.patch import Changed, File, patch
from trellis.environments.environment import Change, Environment, EnvironmentFault, EnvironmentSpec, Kind
from trellis.environments.sandbox import layers

LABEL = f"test-{os.getpid()}"

BEFORE = r"""
mkdir -p keep/sub gone 'a folder' dir-to-file
seq 1 400 > keep/long; seq 1 5 > keep/sub/same; echo script > run.sh; printf 'no newline' > open-end
printf 'bin\0ary' > blob; head -c 20000 /dev/zero > zeros; : > empty; : > empty-too
ln -s keep/long link; ln -s nowhere dangling; echo was > file-to-link; echo was > file-to-dir; ln -s keep link-to-dir
echo x > gone/deep; echo y > dir-to-file/inner; printf '\r\n\r' > dos; echo tab > $'tab\there'
echo secret > unreadable; chmod 000 unreadable
git init -q . 2>/dev/null
"""
AFTER = r"""
sed -i '7s/.*/seven/; 200d; 390a new' keep/long; chmod +x run.sh; printf 'no newline\nnow more' > open-end
printf 'bin\0ARY' > blob; printf 'ab' | dd of=zeros bs=1 seek=9999 conv=notrunc 2>/dev/null
echo full > empty; rm empty-too; ln -sf keep/sub link; rm dangling; rm file-to-link; ln -s run.sh file-to-link
rm file-to-dir; mkdir file-to-dir; echo in > file-to-dir/in; rm link-to-dir; mkdir link-to-dir; echo in > link-to-dir/in
rm -r gone dir-to-file; echo now > dir-to-file; printf 'x\r\ny\r\n' > dos
echo 'with "quotes"' > 'new "name"'; echo new > $'line\nbreak'; echo caf > $'caf\xe9'; echo uml > 'ä ö.txt'
echo more > $'tab\there'; head -c 300000 /dev/urandom > 'a folder/random'; ln -s $'odd\xfftarget' odd-link
: > new-empty; printf '#!/bin/sh\n' > new.sh; chmod 755 new.sh; mkfifo pipe
chmod 600 unreadable; echo other >> unreadable; chmod 000 unreadable; touch keep/sub/same; chmod 600 keep/sub/same
echo internal > .git/description
"""
EXPECTED = {
    "added": ["a folder/random", "caf\udce9", "dir-to-file", "file-to-dir/in", "line\nbreak", "link-to-dir/in",
              'new "name"', "new-empty", "new.sh", "odd-link", "pipe", "ä ö.txt"],
    "deleted": ["dangling", "dir-to-file/inner", "empty-too", "file-to-dir", "gone/deep", "link-to-dir"],
    "modified": ["blob", "dos", "empty", "file-to-link", "keep/long", "link", "open-end", "run.sh", "tab\there",
                 "unreadable", "zeros"],
}  # fmt: skip


async def apply(patch: bytes, world: Environment) -> None:
    await world.write_file("/tmp/change.patch", patch)
    applied = await world.exec("rm -rf .git; chmod 600 unreadable; git apply --whitespace=nowarn /tmp/change.patch")
    assert applied.ok, applied.text


async def test_a_patch_makes_one_workdir_of_the_other(kind: Kind) -> None:
    world = await EnvironmentSpec(kind=kind).start(label=f"{LABEL}/diff")
    if not (await world.exec(["git", "--version"])).ok:
        await world.close()
        pytest.skip(f"there is no git in a {kind} world here")
    await world.exec(BEFORE)
    before = await world.snapshot()
    assert await world.diff(before) == changes([])
    await world.exec(AFTER)
    found = await world.diff(before)
    assert list(found.changes) == sorted(
        (Change(path, what) for what, paths in EXPECTED.items() for path in paths),  # type: ignore[arg-type]
        key=lambda change: os.fsencode(change.path),
    )
    assert found.left_out == ("pipe: neither a file nor a symbolic link",)
    patched = await world.fork(before)
    await apply(found.patch, patched)
    different = await different_files(patched, world)
    assert [each.path for each in different] == [b"pipe"]  # what no patch can carry
    assert (await patched.diff(before)).patch == found.patch
    for each in (world, patched):
        await each.close()
    await before.release()


async def test_a_snapshot_of_an_ancestor(kind: Kind) -> None:
    world = await EnvironmentSpec(kind=kind).start(label=f"{LABEL}/ancestor")
    await world.exec("mkdir d; echo 1 > d/a; echo 1 > b")
    first = await world.snapshot()
    await world.exec("echo 2 > b")
    child = await world.fork()
    await world.exec("echo of the parent > c")
    await child.exec("rm -r d; mkdir d; echo 3 > d/c")
    grandchild = await child.fork()
    await grandchild.exec("echo 4 > d/c")
    assert [(change.kind, change.path) for change in (await grandchild.diff(first)).changes] == [
        ("modified", "b"), ("deleted", "d/a"), ("added", "d/c"),
    ]  # fmt: skip
    for each in (world, child, grandchild):
        await each.close()
    await first.release()


async def test_a_background_process_may_write_meanwhile(kind: Kind) -> None:
    world = await EnvironmentSpec(kind=kind).start(label=f"{LABEL}/meanwhile")
    await world.exec("echo one > a")
    before = await world.snapshot()
    await world.exec("(while :; do echo line >> log; done) & echo begun > b; until [ -s log ]; do sleep 0.01; done")
    for _ in range(3):
        assert {change.path for change in (await world.diff(before)).changes} == {"b", "log"}
    await world.close()
    await before.release()


async def test_files_may_come_and_go_meanwhile(kind: Kind) -> None:
    world = await EnvironmentSpec(kind=kind).start(label=f"{LABEL}/go")
    await world.exec("echo one > a")
    before = await world.snapshot()
    await world.exec("(while :; do mkdir d; touch d/{1..40} {1..40}; rm -r d {1..40}; done) & echo begun > b")
    for _ in range(5):
        assert "b" in {change.path for change in (await world.diff(before)).changes}
    await world.close()
    await before.release()


async def test_what_is_too_large_is_named(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_module, "FILE_BYTES", 1000)
    world = await EnvironmentSpec(kind=kind).start(label=f"{LABEL}/large")
    await world.exec("head -c 1001 /dev/zero | tee same large gone > shorter; echo 1 > small")
    before = await world.snapshot()
    await world.exec("printf x | dd of=large conv=notrunc; rm gone; echo 2 | tee shorter > small; touch same")
    await world.exec("head -c 1000 /dev/zero > fits")
    found = await world.diff(before)
    assert [(change.kind, change.path) for change in found.changes] == [
        ("added", "fits"), ("deleted", "gone"), ("modified", "large"), ("modified", "shorter"), ("modified", "small"),
    ]  # fmt: skip
    assert found.left_out == tuple(f"{name}: too large for a patch" for name in ("gone", "large", "shorter"))
    assert re.findall(rb"diff --git a/(.*) b", found.patch) == [b"fits", b"small"]
    await world.close()
    await before.release()


def test_all_in_a_patch_have_a_size_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_module, "PATCH_BYTES", 10)
    with tempfile.TemporaryDirectory() as folder:
        old, new = Path(folder, "old"), Path(folder, "new")
        write({"same": File(0o100644, b"12345678")}, old)
        write({name: File(0o100644, b"12345678") for name in ("a", "b", "same")} | {"c": File(0o100644, b"1")}, new)
        found = changes(layers.different_files([old], [new]))
    assert [change.path for change in found.changes] == ["a", "b", "c"]
    assert found.left_out == ("b: too large for a patch",)


async def test_a_released_snapshot_cannot_be_compared_with(kind: Kind) -> None:
    world = await EnvironmentSpec(kind=kind).start(label=f"{LABEL}/released")
    await world.exec("echo one > a")
    before = await world.snapshot()
    fork = await EnvironmentSpec(kind=kind).start(label=f"{LABEL}/released")
    await world.close()
    await before.release()
    with pytest.raises(EnvironmentFault):
        await fork.diff(before)
    await fork.close()


# --- any trees -------------------------------------------------------------------------------------------------------

NAMES = st.one_of(
    st.sampled_from(["a", "b", "c d", "ü", "-x", "tab\t", 'q"', "\\", "n\n", "e\x1b", "a.git"]),
    st.binary(min_size=1, max_size=5).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b"..")).map(
        os.fsdecode
    ),
)  # fmt: skip
LINES = st.lists(st.sampled_from([b"one\n", b"two\n", b"\n", b" \n", b"x\r\n", b"-- \n", b"end"]), max_size=12)
CONTENT = st.one_of(LINES.map(b"".join), st.binary(max_size=200), st.just(bytes(300)))
TARGETS = st.binary(min_size=1, max_size=20).filter(lambda target: 0 not in target)
FILES = st.one_of(
    st.builds(File, st.sampled_from([0o100644, 0o100755]), CONTENT), st.builds(File, st.just(0o120000), TARGETS)
)
TREES = st.recursive(FILES, lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=5), max_leaves=12)
"""Without empty folders: git knows none, and will not put a file where folders within folders are empty."""


def write(tree: object, path: Path) -> None:
    if isinstance(tree, dict):
        path.mkdir()
        for name, inner in tree.items():
            write(inner, path / name)
    elif isinstance(tree, File) and tree.mode == 0o120000:
        os.symlink(tree.data, path)  # noqa: PTH211  (a Path would tidy it up)
    elif isinstance(tree, File):
        path.write_bytes(tree.data)
        path.chmod(tree.mode & 0o777)


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(NAMES, TREES, max_size=5), st.dictionaries(NAMES, TREES, max_size=5))
def test_any_tree_is_made_of_any_other(before: dict[str, object], after: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        old, new = Path(folder, "old"), Path(folder, "new")
        write(before, old)
        write(after, new)
        found = layers.different_files([old], [new])
        text = changes(found).patch
        assert bool(found) == bool(text)
        if text:
            applied = subprocess.run(
                ["git", "apply", "--whitespace=nowarn", "-"], input=text, cwd=old, capture_output=True, check=False
            )
            assert applied.returncode == 0, (applied.stderr, text)
        assert layers.different_files([old], [new]) == []


def test_a_large_file_is_quick() -> None:
    old = b"".join(b"%d\n" % number for number in range(200_000))
    new = b"first\n" + b"".join(b"%d\n" % (number * 7) for number in range(200_000)) + b"last"
    text = patch([Changed(b"f", File(0o100644, old), File(0o100644, new))])
    assert text.count(b"\n-") == 200_000 + 1  # the line of the name, too
