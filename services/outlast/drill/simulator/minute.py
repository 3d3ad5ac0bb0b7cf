"""A sliding minute: what was let through in it, and the most that any minute had."""

from collections import deque
from dataclasses import dataclass
from typing import Final

__all__ = ["Admitted", "Minute"]

SECONDS: Final = 60.0


@dataclass(slots=True, eq=False)
class Admitted:
    """A request that was let through ``at`` (seconds), and its tokens as far as is known.

    ``is_counted`` until its minute is over.
    """

    at: float
    tokens: int
    is_counted: bool = True


class Minute:
    """The requests of the last 60 seconds, and their tokens.

    Of all minutes those have the most that begin with a request; each is looked at once it is
    over, when its calls have mostly ended and their tokens are known.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._requests: deque[Admitted] = deque()
        self._tokens = 0
        self._most_requests = 0
        self._most_tokens = 0

    def admit(self, now: float, tokens: int) -> Admitted:
        """Let a request through that is expected to have so many tokens."""
        self._forget(now)
        request = Admitted(now, tokens)
        self._requests.append(request)
        self._tokens += tokens
        return request

    def settle(self, request: Admitted, tokens: int) -> None:
        """A request let through here has had so many tokens; what is over stays as it was."""
        if request.is_counted:
            self._tokens += tokens - request.tokens
        request.tokens = tokens

    def requests(self, now: float) -> int:
        """How many were let through in the last minute."""
        self._forget(now)
        return len(self._requests)

    def tokens(self, now: float) -> int:
        """How many tokens the requests of the last minute have."""
        self._forget(now)
        return self._tokens

    @property
    def most_requests(self) -> int:
        """The most requests of any minute."""
        return max(self._most_requests, len(self._requests))

    @property
    def most_tokens(self) -> int:
        """The most tokens that the requests of any minute had together."""
        return max(self._most_tokens, self._tokens)

    def _forget(self, now: float) -> None:
        while self._requests and self._requests[0].at <= now - SECONDS:
            # All that are there came before this minute was over: it can be counted now.
            self._most_requests, self._most_tokens = self.most_requests, self.most_tokens
            over = self._requests.popleft()
            over.is_counted = False
            self._tokens -= over.tokens
