"""What the tests of a call start from: a provider, a job's body, patient clocks."""

from dataclasses import replace
from typing import Literal

import httpx

from outlast.core.policy import Clocks, Provider, Target
from outlast.edges.providers.call import ProviderCall

Family = Literal["compatible", "openai", "deepseek", "anthropic"]

KEY = "sk-test-0123456789"
NOW = 1_774_820_100.0
TARGET = Target("p", "gpt-6-luna")
BODY: dict[str, object] = {
    "model": "chat",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
    "max_tokens": 20,
}
PATIENT = Clocks(connect_seconds=9, first_token_seconds=90, idle_seconds=90, total_seconds=90)
FIRST_TOKEN = replace(PATIENT, first_token_seconds=0.1)


def a_call(
    transport: httpx.AsyncBaseTransport,
    family: Family = "openai",
    clocks: Clocks = PATIENT,
    base_url: str = "http://provider.test/v1/",
    api_key: str | None = KEY,
) -> ProviderCall:
    """The call of a provider ``p`` over this transport."""
    provider = Provider(name="p", family=family, base_url=base_url, clocks=clocks)
    return ProviderCall(provider, api_key, transport, lambda: NOW)
