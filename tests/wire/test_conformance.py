from __future__ import annotations

import pytest

from trellis.models import conformance

from .conftest import PROVIDERS, Connect

pytestmark = [pytest.mark.wire, pytest.mark.conformance]


@pytest.mark.parametrize("check", conformance.CHECKS)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_client_conforms(connect: Connect, provider: str, check: str) -> None:
    wire = await connect(provider)
    await conformance.CHECKS[check](wire.load())
    assert wire.loopback.requests


@pytest.mark.parametrize("check", conformance.CHECKS)
async def test_compatible_client_tolerates_a_sloppy_server(connect: Connect, check: str) -> None:
    wire = await connect("openai-compatible", sloppy=True)
    await conformance.CHECKS[check](wire.load())


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_refusal_is_a_reply(connect: Connect, provider: str) -> None:
    wire = await connect(provider)
    await conformance.refusal(wire.load(), "REFUSE THIS")
