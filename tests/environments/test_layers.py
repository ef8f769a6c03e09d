"""Stacks of layers: merging shows the same files, and forks of forks of forks are what they should be."""

from __future__ import annotations

import os
import random
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from trellis.environments import files, store
from trellis.environments.capture import references
from trellis.environments.environment import EnvironmentFault, EnvironmentSpec
from trellis.environments.sandbox import layers
from trellis.environments.sandbox.layers import MAX_LAYERS, look_up, merge, shallow

LABEL = f"test-{os.getpid()}"


@pytest.fixture
def folder() -> Iterator[Path]:
    """On a disk: memory file systems have no attributes for opaque folders."""
    with tempfile.TemporaryDirectory(prefix="trellis-test-", dir="/var/tmp") as name:
        yield Path(name)


def opaque(path: Path) -> None:
    os.setxattr(path, layers._opaque_attribute(), b"y")


def random_layer(root: Path, seed: random.Random, below: list[Path]) -> None:
    """What an overlay could have written over `below`."""

    def fill(path: Path, lower: list[Path], depth: int) -> None:
        path.mkdir()
        for name in seed.sample("abcdef", seed.randint(0, 4)):
            seen, _ = look_up(lower, name)
            is_folder = bool(seen) and seen[0].is_dir()
            what = seed.choice(["delete", "file", "folder", "anew"])
            if what == "delete":
                if seen:
                    os.mknod(path / name, stat.S_IFCHR, 0)
            elif what == "file" or depth == 3:
                (path / name).write_text(f"{seed.random()}")
            else:
                fill(path / name, seen if is_folder and what == "folder" else [], depth + 1)
                if seen and not (is_folder and what == "folder"):
                    opaque(path / name)

    fill(root, below, 0)


def shown(stack: list[Path], prefix: str = "") -> dict[str, str]:
    """The files and folders that an overlay of a stack shows."""
    found: dict[str, str] = {}
    for name in {name for each in stack for name in files.names_in(each)}:
        entries, _ = look_up(stack, name)
        if entries and entries[0].is_dir():
            found |= {f"{prefix}{name}/": "", **shown(entries, f"{prefix}{name}/")}
        elif entries:
            found[prefix + name] = entries[0].read_text()
    return found


def stray_deletions(stack: list[Path]) -> list[Path]:
    """Marks of deletions in folders that are merged with none: such a folder would list them as files."""
    strays = []
    for name in {name for each in stack for name in files.names_in(each)}:
        entries, _ = look_up(stack, name)
        if entries and entries[0].is_dir():
            strays += stray_deletions(entries)
            if len(entries) == 1:
                strays += [path for path in entries[0].iterdir() if layers.is_whiteout(path.lstat())]
    return strays


@pytest.mark.parametrize("number", range(25))
def test_merged_layers_show_the_same(folder: Path, number: int) -> None:
    seed = random.Random(number)
    stack: list[Path] = []
    for depth in range(6):
        layer = folder / f"layer-{depth}"
        random_layer(layer, seed, stack)
        stack.insert(0, layer)
    first = seed.randint(0, 3)
    last = seed.randint(first + 2, 6)
    merged = folder / "merged"
    merge(stack[first:last], stack[last:], merged)
    after = [*stack[:first], merged, *stack[last:]]
    assert shown(after) == shown(stack)
    assert stray_deletions(after) == []
    assert layers.different_files(stack, after) == []


def test_what_a_merged_file_is(folder: Path) -> None:
    for name in ("low", "high"):
        (folder / name / "d").mkdir(parents=True)
    low, high = folder / "low", folder / "high"
    (low / "d/a").write_text("x")
    (low / "d/b").hardlink_to(low / "d/a")
    with (low / "d/sparse").open("wb") as file:
        file.write(b"begin")
        file.truncate(50_000_000)
    os.symlink("some//where/", low / "link")  # noqa: PTH211  (a Path would tidy it up)
    os.mkfifo(high / "pipe", 0o640)
    os.setxattr(low / "d/a", "user.mark", b"kept")
    (high / "d").chmod(0o711)
    os.utime(low / "d/a", ns=(1, 1_000_000_007))
    merge([high, low], [], folder / "merged")
    merged = folder / "merged"
    assert (merged / "d/a").stat().st_ino == (merged / "d/b").stat().st_ino
    assert (merged / "d/a").stat().st_nlink == 2
    assert (merged / "d/a").stat().st_mtime_ns == 1_000_000_007
    assert os.getxattr(merged / "d/b", "user.mark") == b"kept"
    assert (merged / "d/sparse").stat().st_blocks == (low / "d/sparse").stat().st_blocks < 100
    assert (merged / "d/sparse").stat().st_size == 50_000_000
    assert os.readlink(merged / "link") == "some//where/"  # noqa: PTH115
    assert stat.S_IMODE((merged / "pipe").lstat().st_mode) == 0o640
    assert stat.S_IMODE((merged / "d").stat().st_mode) == 0o711


def test_the_large_layer_is_left_alone() -> None:
    made = [references.new_shared_folder(f"{LABEL}/large") for _ in range(MAX_LAYERS)]
    for number, each in enumerate(made):
        (each / "files").mkdir()
        (each / "files" / f"f{number}").write_bytes(bytes(5_000_000 if number == MAX_LAYERS // 2 + 2 else 5))
    stack = [*(f"{each.name}/files" for each in made), layers.BASE_LAYER]
    flat = shallow(f"{LABEL}/large", stack)
    references.drop([each.name for each in made])
    assert len(flat) <= MAX_LAYERS
    assert stack[MAX_LAYERS // 2 + 2] in flat
    assert shown(layers._folders(flat[:-1])).keys() == {f"f{number}" for number in range(MAX_LAYERS)}
    left = {path.name for path in store.labelled(f"{LABEL}/large", dead_only=False)}
    assert left == set(layers.shared_folders(flat))  # what was merged is gone
    references.drop(layers.shared_folders(flat))
    assert list(store.labelled(f"{LABEL}/large", dead_only=False)) == []


def test_a_layer_is_held_by_name() -> None:
    made = references.new_shared_folder(f"{LABEL}/held")
    references.hold([made.name])
    references.keep([made.name], "one")
    references.drop([made.name])
    references.drop([made.name])
    assert made.is_dir()
    references.release([made.name], "another")
    assert made.is_dir()
    references.release([made.name], "one")
    assert not made.exists()
    references.release([made.name], "one")
    with pytest.raises(EnvironmentFault, match="it was released, or its label was reaped"):
        references.hold([made.name])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("sandbox")
async def test_two_hundred_forks_deep() -> None:
    """Each fork changes, adds, deletes and replaces something; a model in memory says what must be there."""
    label, seed = f"{LABEL}/deep", random.Random(1)
    world = await EnvironmentSpec(kind="sandbox").start(label=label)
    expected: dict[str, str] = {}
    for depth in range(200):
        name, other, folder = f"f{seed.randrange(40)}", f"f{seed.randrange(40)}", f"d{seed.randrange(5)}"
        commands = [f"echo {depth} > {name}; mkdir -p {folder}; echo {depth} > {folder}/{depth % 7}"]
        expected |= {name: str(depth), f"{folder}/{depth % 7}": str(depth)}
        if depth % 3 == 0:
            commands.append(f"rm -f {other}")
            expected.pop(other, None)
        if depth % 11 == 0:
            commands.append("rm -rf d0; mkdir d0; echo new > d0/new")
            expected = {path: text for path, text in expected.items() if not path.startswith("d0/")} | {"d0/new": "new"}
        assert (await world.exec("; ".join(commands))).ok
        fork = await world.fork()
        await world.close()
        world = fork
        if depth % 50 == 49:
            listed = (await world.exec("find . -type f -exec sh -c 'echo ${0#./} $(cat $0)' {} \\;")).stdout.decode()
            assert dict(line.split(" ", 1) for line in listed.splitlines()) == expected
            assert (await world.exec("find . ! -type f ! -type d")).stdout == b""
    assert len(list(store.labelled(label, dead_only=False))) <= MAX_LAYERS + 2
    await world.close()
    assert list(store.labelled(label, dead_only=False)) == []
