"""How an experiment says where an agent goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator


class ForkChoice(BaseModel):
    """Where an agent goes on from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trajectory: str
    """Path of a trajectory, or of an episode's folder."""
    at: str = "0"
    """The last step that is kept: its number, or BRANCH:TURN ("main/node-2:1"). "0" keeps none."""
    message: str = ""
    """Said to the model in the first call that is made anew; it stays in that conversation."""
    reply: dict[str, Any] | None = None
    """Instead of the step's recorded reply: a message as JSON (see `trellis show --json`)."""

    @field_validator("at", mode="before")
    @classmethod
    def _number(cls, at: Any) -> Any:
        return str(at) if isinstance(at, int) else at

    def anchored(self, folder: Path) -> ForkChoice:
        """The same with an absolute path."""
        path = (folder / Path(self.trajectory).expanduser()).resolve()
        return self.model_copy(update={"trajectory": str(path)})
