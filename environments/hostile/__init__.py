"""Attacks that every isolated environment must contain, as tests that anybody can run over their own.

    class TestMine(Hostile):
        spec = EnvironmentSpec(kind="mine")

Each test is one attack and its docstring says what is attacked; a test fails if the attack succeeds. After each, the
suite checks what every attack must leave alone: another world answers at once with its files as they were, the host's
settings are the same, and the attacked world either still works or is a fault at once. Targets are the tests' own:
files, processes, listeners on the loopback. pytest and pytest-asyncio are needed; see docs/isolation.md.
"""

from __future__ import annotations

from trellis.environments.hostile.channels import Channels
from trellis.environments.hostile.disk import Disk
from trellis.environments.hostile.exhaustion import Exhaustion
from trellis.environments.hostile.files import Files
from trellis.environments.hostile.kernel import Kernel
from trellis.environments.hostile.network import Network
from trellis.environments.hostile.persistence import Persistence
from trellis.environments.hostile.privileges import Privileges
from trellis.environments.hostile.secrets import Secrets
from trellis.environments.hostile.tampering import Tampering


class Hostile(Exhaustion, Disk, Persistence, Channels, Tampering, Files, Secrets, Privileges, Kernel, Network):
    """All attacks."""


__all__ = ["Hostile"]
