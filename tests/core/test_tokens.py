"""How many tokens are set aside for a call, whatever its body holds: never a failure."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.core.capability import CHAT, EMBEDDINGS, OPERATIONS, Operation
from outlast.core.tokens import reserve, used
from outlast_schemas.result import Served

DEFAULT = 1_024


def a_chat(*contents: object, **fields: object) -> dict[str, object]:
    """A request with these contents, one message each."""
    messages = [{"role": "user", "content": content} for content in contents]
    return {"messages": messages, "max_tokens": 0, **fields}


def prompt(*contents: object, **fields: object) -> int:
    """What is set aside for the prompt alone."""
    return reserve(a_chat(*contents, **fields), CHAT) - DEFAULT


@pytest.mark.parametrize(
    ("fields", "output"),
    [
        ({"max_completion_tokens": 300, "max_tokens": 20}, 300),
        ({"max_tokens": 20}, 20),
        ({"max_tokens": 20.0}, 20),
        ({"max_completion_tokens": None, "max_tokens": 20}, 20),
        ({"max_tokens": 20, "n": 3}, 60),
        ({"n": 3}, 3 * DEFAULT),
        ({}, DEFAULT),
        # meaningless: the provider will say so
        ({"max_tokens": -5}, DEFAULT),
        ({"max_tokens": "20"}, DEFAULT),
        ({"max_tokens": True}, DEFAULT),
        ({"max_tokens": float("nan")}, DEFAULT),
        ({"max_tokens": 20, "n": "many"}, 20),
        # it must not keep all others waiting for hours
        ({"max_tokens": 10**12}, 1_000_000),
        ({"max_tokens": float("inf")}, 1_000_000),
        ({"max_tokens": 100_000, "n": 128}, 1_000_000),
    ],
)
def test_the_whole_output_that_is_asked_for_is_set_aside(
    fields: dict[str, object], output: int
) -> None:
    asked = {"messages": [{"role": "user", "content": "Hi"}], **fields}
    nothing = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}

    assert reserve(asked, CHAT) - reserve(nothing, CHAT) == output - 1


def test_four_bytes_are_a_token() -> None:
    assert prompt("x" * 4_000) - prompt("") == 1_000
    # three bytes each in UTF-8
    assert prompt("質" * 4_000) - prompt("") == 3_000


def test_text_counts_in_parts_tools_and_schemas_too() -> None:
    text = "x" * 4_000

    assert (
        prompt([{"type": "text", "text": text}]) - prompt([{"type": "text", "text": ""}]) == 1_000
    )
    for field in ("tools", "functions", "response_format"):
        assert prompt("Hi", **{field: [{"description": text}]}) - prompt("Hi") > 1_000


def test_a_picture_counts_the_same_however_many_bytes_it_has() -> None:
    def picture(size: int) -> object:
        return [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * size}}]

    assert prompt(picture(2_000_000)) == prompt(picture(10)) == prompt([]) + 1_000


def test_what_the_model_does_not_read_is_not_counted() -> None:
    assert prompt("Hi", metadata={"note": "x" * 4_000}) == prompt("Hi")


@pytest.mark.parametrize(
    ("given", "tokens"),
    [
        ("x" * 400, 100),
        (["x" * 400, "y" * 400], 200),
        ([1, 2, 3], 3),
        ([[1, 2, 3], [4, 5]], 5),
        ("", 1),
        (None, 1),
    ],
)
def test_of_embeddings_only_the_input_counts(given: object, tokens: int) -> None:
    assert reserve({"input": given, "max_tokens": 500}, EMBEDDINGS) == tokens


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.fixed_dictionaries({"type": inner, "content": inner})
    ),
)
FIELDS = st.sampled_from(
    ["messages", "tools", "input", "max_tokens", "max_completion_tokens", "n", "response_format"]
)


@settings(deadline=None)
@given(body=st.dictionaries(FIELDS, ANYTHING) | ANYTHING, operation=st.sampled_from(OPERATIONS))
def test_any_body_at_all_has_an_estimate(body: object, operation: Operation) -> None:
    assert reserve(body, operation) >= 1


def test_a_body_nested_as_deep_as_it_may_be_has_an_estimate() -> None:
    nested: object = "x" * 400
    for _ in range(100_000):
        nested = [nested]

    assert reserve({"messages": nested}, CHAT) == 100 + DEFAULT


@pytest.mark.parametrize(
    ("prompt_tokens", "completion_tokens", "tokens"),
    [(7, 5, 12), (7, None, 7), (None, 5, 5), (0, 0, 0), (None, None, None)],
)
def test_what_was_used_is_what_the_answer_says(
    prompt_tokens: int | None, completion_tokens: int | None, tokens: int | None
) -> None:
    served = Served(
        body=b"{}",
        provider="p",
        model="m",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
    )

    assert used(served) == tokens
