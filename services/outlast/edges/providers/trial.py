"""One real call of one token, to see whether a provider answers us at all."""

import time

from outlast.core.facts import Called
from outlast.core.policy import Provider
from outlast.edges.providers.call import ProviderCall
from outlast.edges.providers.probe import ProbedCall
from outlast.edges.providers.transport import Transport

__all__ = ["trial"]


async def trial(provider: Provider, model: str, api_key: str | None) -> Called:
    """Call as a probe does, and as bounded; it is billed like any call of a few tokens."""
    transport = Transport()
    started = time.monotonic()
    try:
        call = ProviderCall(provider, api_key, transport, time.time)
        verdict = await ProbedCall(provider, [model], call).probe()
    finally:
        await transport.aclose()
    return Called(
        provider=provider.name,
        model=model,
        base_url=provider.base_url,
        verdict=verdict,
        seconds=time.monotonic() - started,
    )
