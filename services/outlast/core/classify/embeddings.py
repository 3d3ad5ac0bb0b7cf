"""Whether an OpenAI list of embeddings holds a vector for each input: a 200 is no success yet."""

from collections.abc import Mapping

from outlast.core.classify.answer import FaultInAnswer, down

__all__ = ["fault_in_embeddings", "inputs_in"]


def inputs_in(body: Mapping[str, object]) -> int:
    """How many vectors a request asks for.

    ``input`` is a text, a list of texts, one text as a list of token numbers, or a list of those.
    """
    given = body.get("input")
    if not isinstance(given, list) or (given and isinstance(given[0], int)):
        return 1
    return len(given)


def fault_in_embeddings(payload: object, inputs: int) -> FaultInAnswer | None:
    """Check that there are as many vectors as ``inputs`` at least, and that each has numbers."""
    if not isinstance(payload, Mapping) or payload.get("error"):
        return down("an error in a 200")
    data = payload.get("data")
    if not isinstance(data, list) or not data:
        return down("no embeddings")
    if len(data) < inputs:
        return down(f"{len(data)} embeddings for {inputs} inputs")
    if not all(isinstance(each, Mapping) and _is_vector(each.get("embedding")) for each in data):
        return down("an embedding without numbers")
    return None


def _is_vector(value: object) -> bool:
    """Numbers, or their bytes as base64; the null that a NaN becomes in JSON is no number."""
    if isinstance(value, str):
        return bool(value)
    if not isinstance(value, list) or not value:
        return False
    try:
        sum(value)  # the quickest look at each: a batch has millions
    except TypeError:
        return False
    return True
