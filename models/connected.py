"""A model at an endpoint of its own, which is to be closed after use."""

from __future__ import annotations

from trellis.models.batch import Batcher
from trellis.models.client import Endpoint
from trellis.models.listed import Listed


class Connected(Listed):
    _model: str
    """The provider's name for it."""
    _endpoint: Endpoint
    _batcher: Batcher | None = None
    """Takes the calls that can wait."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._model!r})"  # not the address: it may contain a password

    async def close(self) -> None:
        """Close the connections."""
        if self._batcher:
            await self._batcher.close()
        await self._endpoint.close()

    @property
    def waiting(self) -> str:
        """See `Batching`."""
        return self._batcher.waiting if self._batcher else ""
