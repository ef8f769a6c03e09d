"""Which files each tool call changed in the world of its branch, for the trajectory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from trellis.environments.environment import ChangedFile, Environment, TellsChanges
from trellis.trajectories.blobs import Blobs
from trellis.trajectories.redaction import Redaction


class FollowedFiles:
    """Follows the files of one branch's world. What a world was rebuilt with is no change of the call after it."""

    def __init__(self, blobs: Blobs, redact: Redaction) -> None:
        self._blobs = blobs
        self._redact = redact
        self._followed: Environment | None = None

    async def begin(self, environment: Environment) -> None:
        """From now on, unless this environment is followed already. Raises EnvironmentFault."""
        if self._followed is not environment and isinstance(environment, TellsChanges):
            await environment.changed_files()
            self._followed = environment

    async def taken(self, environment: Environment) -> Mapping[str, Any]:
        """What changed since the last time, as members of the answer that is recorded; none where it cannot be told.
        Texts are kept as blobs. Raises EnvironmentFault."""
        changed = await environment.changed_files() if isinstance(environment, TellsChanges) else None
        if changed is None:
            return {}
        more = {"more_changes": changed.more} if changed.more else {}
        return {"changes": [self._to_json(file) for file in changed.files], **more}

    def _to_json(self, file: ChangedFile) -> dict[str, Any]:
        """`text`: the content is the blob `sha256`. `before`: the blob with what was there when following began."""
        text, before = map(self._that_may_be_kept, (file.text, file.before))
        digest = file.sha256 if file.text is None else hashlib.sha256(file.text).hexdigest()
        told = {"path": file.path, "kind": file.kind, "mode": file.mode, "size": file.size, "sha256": digest,
                "text": text is not None}  # fmt: skip
        if text is not None:
            self._blobs.store(text)
        return {**told, "before": {"blob": self._blobs.store(before)}} if before is not None else told

    def _that_may_be_kept(self, data: bytes | None) -> bytes | None:
        """A text with a secret in it is told by its hash alone: the name of a blob is the hash of what it holds."""
        text = None if data is None else data.decode("utf-8", "replace")
        return data if text is not None and self._redact(text) == text else None
