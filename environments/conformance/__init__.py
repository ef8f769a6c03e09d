"""What every environment must do, as tests that anybody can run over their own.

    class TestMine(EnvironmentConformance):
        spec = EnvironmentSpec(kind="local")      # or whatever starts yours

pytest and pytest-asyncio are needed. Tests that leave nothing behind share the world `world`; the others start theirs.
"""

from trellis.environments.conformance.base import Base
from trellis.environments.conformance.changes import FilesThatChange
from trellis.environments.conformance.commands import Commands
from trellis.environments.conformance.files import FilesInAndOut
from trellis.environments.conformance.interactive import Interactive
from trellis.environments.conformance.processes import Processes
from trellis.environments.conformance.shells import Shells
from trellis.environments.conformance.worlds import Worlds

__all__ = ["EnvironmentConformance"]


class EnvironmentConformance(Commands, Shells, Interactive, Processes, FilesInAndOut, FilesThatChange, Worlds, Base):
    """Inherit, set `spec`, run pytest."""
