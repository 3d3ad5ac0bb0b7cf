"""How a job's body becomes a request of each family."""

from collections.abc import Mapping

import pytest

from outlast.edges.providers.families import FAMILIES, probe_body

ASK: dict[str, object] = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}


def request(family: str, model: str, **more: object) -> dict[str, object]:
    """The request of that family for a plain question and more."""
    return FAMILIES[family].request({**ASK, **more}, model)


@pytest.mark.parametrize(
    ("family", "model", "given", "sent"),
    [
        ("openai", "gpt-6-luna", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        ("openai", "gpt-5.4-mini", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        ("openai", "o3", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        ("openai", "ft:gpt-5-mini:us", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        # older models know the older name
        ("openai", "gpt-4o-mini", {"max_tokens": 5}, {"max_tokens": 5}),
        # the newer name was meant for such models, so it is the one that counts
        (
            "openai",
            "gpt-6-luna",
            {"max_tokens": 5, "max_completion_tokens": 7},
            {"max_completion_tokens": 7},
        ),
        ("deepseek", "deepseek-flash", {"max_completion_tokens": 5}, {"max_tokens": 5}),
        ("deepseek", "deepseek-flash", {"max_tokens": 5}, {"max_tokens": 5}),
        ("compatible", "m", {"max_completion_tokens": 5}, {"max_completion_tokens": 5}),
        ("compatible", "m", {"max_tokens": 5, "seed": 1}, {"max_tokens": 5, "seed": 1}),
    ],
)
def test_the_token_limit_has_the_name_that_the_target_knows(
    family: str, model: str, given: dict[str, object], sent: dict[str, object]
) -> None:
    assert request(family, model, **given) == {**ASK, "model": model, **sent}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_model_is_the_targets_and_nothing_is_streamed(family: str) -> None:
    sent = request(family, "theirs", stream=True, stream_options={"include_usage": True})

    assert sent["model"] == "theirs"
    assert not {"stream", "stream_options"} & sent.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_probe_asks_for_one_token(family: str) -> None:
    sent = FAMILIES[family].request(probe_body("m"), "m")

    assert sent["max_tokens"] == 1


def test_only_compatible_servers_have_no_default_address() -> None:
    assert {name: family.base_url for name, family in FAMILIES.items()} == {
        "compatible": None,
        "openai": "https://api.openai.com/v1",
        "deepseek": "https://api.deepseek.com",
        "anthropic": "https://api.anthropic.com",
    }


@pytest.mark.parametrize(
    ("family", "key", "headers"),
    [
        ("openai", "k", {"authorization": "Bearer k"}),
        ("compatible", None, {}),
        ("anthropic", "k", {"anthropic-version": "2023-06-01", "x-api-key": "k"}),
    ],
)
def test_each_family_takes_its_key_in_its_own_header(
    family: str, key: str | None, headers: Mapping[str, str]
) -> None:
    assert FAMILIES[family].headers(key) == headers
