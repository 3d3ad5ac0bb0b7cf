"""What an answer says of itself: its tokens, and its cost as named or by the list price."""

import pytest

from outlast.core.capability import CHAT, EMBEDDINGS, Operation
from outlast.core.policy import Price, Target
from outlast.edges.providers.served import served

TARGET = Target("p", "m")
PRICE = Price(input=0.5, output=2.0)
TOKENS = {"prompt_tokens": 1_000, "completion_tokens": 10}


def cost(usage: object, price: Price | None = PRICE, operation: Operation = CHAT) -> float | None:
    """The cost of an answer with this usage."""
    return served(TARGET, operation, {"usage": usage}, b"", price).cost


@pytest.mark.parametrize("named", [0.00014, 0, 0.0, 3])
def test_what_the_provider_names_itself_goes_before_the_configured_price(named: float) -> None:
    assert cost({**TOKENS, "cost": named}) == named
    assert cost({**TOKENS, "cost": named}, price=None) == named


@pytest.mark.parametrize("named", [None, "0.1", True, -0.1, [0.1], 1_000_000, 1e300])
def test_what_is_no_amount_counts_as_not_named(named: object) -> None:
    assert cost({**TOKENS, "cost": named}) == pytest.approx(0.00052)
    assert cost({**TOKENS, "cost": named}, price=None) is None


@pytest.mark.parametrize(
    ("usage", "operation", "amount"),
    [
        (TOKENS, CHAT, 0.00052),
        ({"prompt_tokens": 1_000}, EMBEDDINGS, 0.0005),
        # nobody would know what the answer took
        ({"prompt_tokens": 1_000}, CHAT, None),
        ({"completion_tokens": 10}, CHAT, None),
        ({**TOKENS, "prompt_tokens": -1}, CHAT, None),
        ({**TOKENS, "prompt_tokens": "1000"}, CHAT, None),
        ({}, EMBEDDINGS, None),
        (None, CHAT, None),
        ("many", CHAT, None),
    ],
)
def test_the_price_counts_where_the_tokens_are_known(
    usage: object, operation: Operation, amount: float | None
) -> None:
    found = cost(usage, operation=operation)

    assert found == (None if amount is None else pytest.approx(amount))


def test_without_a_price_there_is_no_cost() -> None:
    assert cost(TOKENS, price=None) is None


@pytest.mark.parametrize("payload", [None, [], "text", {}])
def test_an_answer_that_says_nothing_of_itself_has_only_its_target(payload: object) -> None:
    found = served(TARGET, CHAT, payload, b"bytes", PRICE)

    assert (found.body, found.provider, found.model) == (b"bytes", "p", "m")
    assert (found.prompt_tokens, found.completion_tokens, found.cost) == (None, None, None)
