"""When a 200 to an embeddings request is a success: a vector for each input."""

from functools import partial

import pytest

from outlast.core.classify import classify
from outlast.core.classify.embeddings import fault_in_embeddings, inputs_in
from outlast_schemas.attempt import VerdictWord as W
from tests.core.error_bodies import NOW, answered, completion, openai


def vectors(*each: object) -> dict[str, object]:
    """A list of embeddings."""
    data = [{"object": "embedding", "index": n, "embedding": one} for n, one in enumerate(each)]
    return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 2}}


@pytest.mark.parametrize(
    ("body", "inputs", "word"),
    [
        (vectors([0.1, -0.2]), 1, W.SUCCEEDED),
        (vectors([1, 0]), 1, W.SUCCEEDED),
        (vectors("zczMPc3MTL4="), 1, W.SUCCEEDED),
        (vectors([0.1], [0.2]), 2, W.SUCCEEDED),
        ({**vectors([0.1]), "error": None}, 1, W.SUCCEEDED),
        # fewer than were asked for
        (vectors([0.1]), 2, W.PROVIDER_DOWN),
        (vectors(), 1, W.PROVIDER_DOWN),
        ({"object": "list", "data": None}, 1, W.PROVIDER_DOWN),
        ({"object": "list", "data": {"embedding": [0.1]}}, 1, W.PROVIDER_DOWN),
        ({"object": "list", "data": [None]}, 1, W.PROVIDER_DOWN),
        ({"object": "list", "data": [[0.1]]}, 1, W.PROVIDER_DOWN),
        (vectors([]), 1, W.PROVIDER_DOWN),
        (vectors(""), 1, W.PROVIDER_DOWN),
        (vectors(None), 1, W.PROVIDER_DOWN),
        (vectors([0.1], []), 2, W.PROVIDER_DOWN),
        (vectors([None, 0.1]), 1, W.PROVIDER_DOWN),
        # a NaN in the middle, as JSON has it
        (vectors([0.1, None]), 1, W.PROVIDER_DOWN),
        (vectors([[0.1]]), 1, W.PROVIDER_DOWN),
        (vectors(["0.1"]), 1, W.PROVIDER_DOWN),
        ([], 1, W.PROVIDER_DOWN),
        # the answer to another question
        (completion("stop", content="Hi"), 1, W.PROVIDER_DOWN),
        ("", 1, W.AMBIGUOUS),
        ('{"data": [{"embed', 1, W.AMBIGUOUS),
        # an error inside a 200 means what it says
        (openai("Rate limit reached", None, "rate_limit_exceeded"), 1, W.RETRY_LATER),
        ({"error": {"message": "?"}}, 1, W.PROVIDER_DOWN),
    ],
)
def test_a_200_is_a_success_only_with_a_vector_for_each_input(
    body: object, inputs: int, word: W
) -> None:
    judge = partial(fault_in_embeddings, inputs=inputs)
    verdict = classify("openai", answered(200, body), NOW, judge)

    assert verdict.word is word
    assert verdict.evidence is (word in (W.PROVIDER_DOWN, W.AMBIGUOUS))


def test_how_many_are_missing_is_said() -> None:
    judge = partial(fault_in_embeddings, inputs=3)

    assert classify("openai", answered(200, vectors([0.1])), NOW, judge).note == (
        "HTTP 200: 1 embeddings for 3 inputs"
    )


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ("hello", 1),
        (["hello"], 1),
        (["hello", "world"], 2),
        # one text as its tokens, and two
        ([1, 2, 3], 1),
        ([[1, 2, 3], [4]], 2),
        ([], 0),
        (None, 1),
    ],
)
def test_the_inputs_of_a_request_are_counted(given: object, count: int) -> None:
    assert inputs_in({"input": given}) == count
