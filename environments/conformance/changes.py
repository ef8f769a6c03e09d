"""Which files change, of environments that tell it."""

from __future__ import annotations

import hashlib

import pytest

from trellis.environments.conformance.base import LABEL, Base, Start
from trellis.environments.environment import ChangedFiles, Environment, EnvironmentFault, TellsChanges
from trellis.environments.guest.following import DEPTH, LISTED


async def changed(world: Environment) -> ChangedFiles:
    assert isinstance(world, TellsChanges)
    found = await world.changed_files()
    assert found is not None
    return found


async def told(world: Environment) -> list[tuple[str, str]]:
    return [(file.path, file.kind) for file in (await changed(world)).files]


class FilesThatChange(Base):
    async def following(self, start: Start, before: str = "") -> Environment:
        world = await start()
        if not isinstance(world, TellsChanges):
            await world.close()
            pytest.skip("this environment does not tell which files change")
        if before:
            assert (await world.exec(before)).ok
        assert await changed(world) == ChangedFiles()
        return world

    async def test_files_that_change_are_told(self, start: Start) -> None:
        world = await self.following(start, "mkdir -p sub; printf one > a; printf two > sub/b; printf three > gone")
        assert await changed(world) == ChangedFiles()
        await world.exec(
            "printf 1 > a; chmod 700 sub/b; rm gone; mkdir -p new/deep; printf x > new/deep/c; ln -s a link"
        )
        files = {file.path: file for file in (await changed(world)).files}
        assert {path: (file.kind, file.text, file.before) for path, file in files.items()} == {
            "a": ("modified", b"1", b"one"),
            "gone": ("deleted", None, b"three"),
            "link": ("added", None, None),
            "new/deep/c": ("added", b"x", None),
            "sub/b": ("modified", b"two", None),
        }
        assert list(files) == sorted(files)
        assert files["a"].sha256 == hashlib.sha256(b"1").hexdigest()
        assert files["link"].sha256 == hashlib.sha256(b"a").hexdigest()
        assert files["sub/b"].mode & 0o777 == 0o700
        assert (files["a"].size, files["gone"].size, files["gone"].sha256) == (1, 5, "")
        assert await changed(world) == ChangedFiles()
        await world.close()

    async def test_a_file_that_changes_at_once_again_is_told_again(self, start: Start) -> None:
        world = await self.following(start)
        for text in (b"aaa", b"bbb", b"ccc"):
            await world.write_file("f", text)
            assert [file.text for file in (await changed(world)).files] == [text]
        await world.write_file("f", b"ccc")  # the same
        assert await told(world) == []
        await world.close()

    async def test_snapshots_and_tools_of_tools_change_nothing(self, start: Start) -> None:
        world = await self.following(start, "printf one > a; mkdir -p .git node_modules/x")
        await world.exec("printf 1 > a")
        await changed(world)
        await world.snapshot()
        await world.exec("printf x > .git/index; printf y > node_modules/x/y; mkdir empty")
        assert await told(world) == []
        fork = await world.fork()
        assert await changed(fork) == ChangedFiles()
        await fork.exec("printf 2 > a")
        assert [(file.text, file.before) for file in (await changed(fork)).files] == [(b"2", b"1")]
        await fork.close()
        await world.close()

    async def test_names_and_contents_of_any_kind(self, start: Start) -> None:
        world = await self.following(start)
        await world.exec(
            "printf x > $'a\\nb'; printf y > $'\\xff\\xfe'; mkfifo pipe; truncate -s 1G giant; printf '\\0' > zero; "
            "printf '\\xff' > bytes; head -c 300000 /dev/zero | tr '\\0' a > long; ln -s /etc out; ln -s loop loop"
        )
        files = {file.path: file for file in (await changed(world)).files}
        assert {path: file.text for path, file in files.items()} == {
            "a\nb": b"x", "\udcff\udcfe": b"y", "pipe": None, "giant": None, "zero": None,
            "bytes": None, "long": None, "out": None, "loop": None,
        }  # fmt: skip
        assert files["giant"].sha256 == files["pipe"].sha256 == ""
        assert files["giant"].size == 1 << 30
        assert files["long"].sha256 == hashlib.sha256(b"a" * 300_000).hexdigest()
        await world.close()

    async def test_a_folder_that_becomes_a_link_is_not_followed(self, start: Start) -> None:
        world = await self.following(start, "mkdir sub; printf x > sub/a")
        await world.exec("rm -rf sub; ln -s /etc sub")
        assert await told(world) == [("sub", "added"), ("sub/a", "deleted")]
        await world.close()

    async def test_more_than_can_be_followed_is_said_once(self, start: Start) -> None:
        world = await self.following(start)
        happened: list[str] = []
        await world.adopt(LABEL, lambda kind, _: happened.append(kind))
        assert isinstance(world, TellsChanges)
        await world.exec(f"seq {LISTED + 50} | xargs touch")
        many = await changed(world)
        assert (len(many.files), many.more) == (LISTED, 50)
        await world.exec(["mkdir", "-p", "d/" * (DEPTH + 1)])
        assert await world.changed_files() is None
        await world.exec("rm -rf d")
        assert await world.changed_files() is None
        assert happened == ["changes.not_followed"]
        await world.close()

    async def test_what_changes_while_it_is_looked_at(self, start: Start) -> None:
        world = await self.following(start)
        shell = await world.open_shell()
        await shell.run(
            "(while :; do mkdir -p d/e; echo x > d/e/f; rm -rf d; ln -s /etc d; rm d; mkfifo d; rm d; done) "
            "2>/dev/null &"
        )
        for _ in range(30):
            await world.exec("true")
            assert all(file.path in ("d", "d/e/f") for file in (await changed(world)).files)
        await world.close()
        with pytest.raises(EnvironmentFault):
            await changed(world)
