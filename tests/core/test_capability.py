"""Which family has which operation, told once for the core and once for the edges."""

from typing import get_args

import pytest

from outlast.core.capability import CHAT, EMBEDDINGS, OPERATIONS, Operation, can, families_with
from outlast.core.policy import Family
from outlast.edges.providers.families import FAMILIES

EVERY_FAMILY: tuple[Family, ...] = get_args(Family)


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_every_family_has_chat_and_says_whether_it_has_embeddings(family: Family) -> None:
    assert can(family, CHAT)
    assert can(family, EMBEDDINGS) is (FAMILIES[family].embeddings is not None)


def test_the_operations_are_those_of_the_type() -> None:
    assert get_args(Operation) == OPERATIONS


def test_families_are_named_in_order() -> None:
    assert families_with(EMBEDDINGS) == ("compatible", "openai")
    assert set(families_with(CHAT)) == set(EVERY_FAMILY)
