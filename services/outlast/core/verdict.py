"""What one call of a provider came to, as a value."""

from collections.abc import Mapping
from dataclasses import dataclass

from outlast_schemas.attempt import VerdictWord
from outlast_schemas.result import Served

__all__ = ["Answered", "Clock", "Cut", "MaybeExecuted", "NotSent", "Outcome", "Verdict"]

Clock = str
"""Which clock ran out: ``connect``, ``first_token``, ``idle``, ``total``, ``deadline``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The provider answered in full.

    ``headers`` have lower-case names; ``payload`` is the parsed body, ``None`` if it is no JSON;
    ``first_ms`` passed from the request to the first byte that says something.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    payload: object | None
    first_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent:
    """The request never left: nothing was executed, nothing can be billed."""

    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MaybeExecuted:
    """The request left and no whole answer came: it may have been executed and billed."""

    note: str
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One of our clocks ended the call after the request had left."""

    clock: Clock
    note: str


Outcome = Answered | NotSent | MaybeExecuted | Cut
"""What the transport saw; :mod:`outlast.core.classify` makes a verdict of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the call means for the job and for the provider.

    ``retry_after`` is the provider's own wish in seconds; ``evidence`` tells whether the call
    speaks against the provider (it does not when the job's own deadline cut it); ``served`` is
    set exactly when ``word`` is ``succeeded``; ``is_oversized`` where the answer would fit into no
    record. ``note`` never holds a key or more than a line; ``first_ms`` is how long a success took
    until its first token. ``words`` is what a 400 says that nobody here knows, without what differs
    from job to job: two of one cause have the same.
    """

    word: VerdictWord
    status: int | None = None
    note: str | None = None
    request_id: str | None = None
    retry_after: float | None = None
    served: Served | None = None
    evidence: bool = False
    is_oversized: bool = False
    first_ms: int | None = None
    words: str | None = None
