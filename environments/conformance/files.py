"""Files in and out."""

from __future__ import annotations

import pytest

from trellis.environments.conformance.base import Base
from trellis.environments.environment import Environment


class FilesInAndOut(Base):
    async def test_files_go_in_and_out(self, world: Environment) -> None:
        data = bytes(range(256)) * 20_000
        await world.write_file("new/deep/data.bin", data)
        assert await world.read_file("new/deep/data.bin") == data
        assert await world.read_file(f"{world.workdir}/new/deep/data.bin") == data
        assert (await world.exec(["wc", "-c", "new/deep/data.bin"])).stdout.split()[0] == b"5120000"
        await world.exec("printf x > written; chmod +x new/deep/data.bin; ln -s new/deep/data.bin link")
        await world.write_file("link", b"through the link")
        assert await world.read_file("new/deep/data.bin") == b"through the link"
        assert (await world.exec(["test", "-x", "new/deep/data.bin"])).ok
        assert await world.read_file("written") == b"x"

    async def test_file_errors_are_those_of_open(self, world: Environment) -> None:
        await world.exec("mkdir -p folder; touch plain; mkfifo fifo")
        with pytest.raises(FileNotFoundError, match="no/such"):
            await world.read_file("no/such")
        with pytest.raises(IsADirectoryError):
            await world.read_file("folder")
        with pytest.raises(IsADirectoryError):
            await world.write_file("folder", b"")
        with pytest.raises(NotADirectoryError):
            await world.write_file("plain/below", b"")
        with pytest.raises(OSError, match="not a regular file"):
            await world.read_file("fifo")
        with pytest.raises(OSError, match="not a regular file"):
            await world.read_file("/dev/zero")
