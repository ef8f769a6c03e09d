"""A model at an endpoint of its own, which is to be closed after use."""

from __future__ import annotations

from trellis.models.batch import Batcher
from trellis.models.client import ClientOptions, Endpoint
from trellis.models.listed import Listed


class Connected(Listed):
    _batcher: Batcher | None = None
    """Takes the calls that can wait."""

    def __init__(self, name: str, model: str, options: ClientOptions, endpoint: Endpoint) -> None:
        """`model` is the provider's name for it."""
        self.name = name
        self._model = model
        self._options = options
        self._endpoint = endpoint

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
