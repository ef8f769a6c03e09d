from __future__ import annotations

import pytest

from trellis.models import conformance

from .conftest import PROVIDERS, Connect

pytestmark = [pytest.mark.wire, pytest.mark.conformance]


@pytest.mark.parametrize("check", conformance.CHECKS)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "in one piece"])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_client_conforms(connect: Connect, provider: str, stream: bool, check: str) -> None:
    """What only some can do is in the table of docs/models.md, which has its own tests."""
    wire = await connect(provider)
    await conformance.CHECKS[check](wire.load(stream=stream))
    assert all(request.body.get("stream", False) is stream for request in wire.loopback.requests)


@pytest.mark.parametrize("check", [*conformance.CHECKS, "structured_output", "image_input", "image_result"])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "in one piece"])
async def test_compatible_client_tolerates_a_sloppy_server(connect: Connect, stream: bool, check: str) -> None:
    wire = await connect("openai-compatible", sloppy=True)
    await {**conformance.CHECKS, **conformance.ABILITIES}[check](wire.load(stream=stream))


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "in one piece"])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_refusal_is_a_reply(connect: Connect, provider: str, stream: bool) -> None:
    wire = await connect(provider)
    await conformance.refusal(wire.load(stream=stream), "REFUSE THIS")
