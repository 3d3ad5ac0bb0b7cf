"""One line about a call for the job's state: short, without keys, without a page's markup."""

import re
from typing import Final

from outlast.core.classify.error_body import ErrorBody

__all__ = ["note_of", "one_line", "words_of"]

LONGEST: Final = 200
REMOVED: Final = "[removed]"
SCANNED: Final = 4_000
"""Characters that are looked at before the line is cut; more would only cost time."""

SECRETS: Final = re.compile(
    r"""(?ix)
      \bbearer\s+\S+                        # an Authorization header quoted back
    | \b(?:sk|gsk|xai)[-_][\w*.-]{6,}  # keys by their prefix, masked ones too
    | \bAIza[\w-]{10,}                      # Google
    | (?<![\w-])(?=[\w-]*\d)(?=[\w-]*[a-z])[\w-]{32,}  # long tokens of letters and digits
    """
)
DIFFERENT: Final = re.compile(
    r"""(?x)
      (?<!\w)(["'`]).*?(?:\1(?!\w)|$)  # what is quoted, to the end where the line was cut
    | \S*\d\S*                          # numbers, and names with a number in them
    """
)
"""What differs between two jobs that are rejected for one cause."""
TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
TAGS: Final = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


def one_line(text: str) -> str:
    """The text as one line of at most 200 printable characters, with anything like a key removed.

    Secrets go before the cut, so that none is cut in two and slips through.
    """
    flat = " ".join(text[:SCANNED].split())
    safe = SECRETS.sub(REMOVED, "".join(c for c in flat if c.isprintable()))
    return safe if len(safe) <= LONGEST else safe[: LONGEST - 1] + "…"


def note_of(status: int, error: ErrorBody, body: bytes) -> str:
    """``HTTP <status> <code>: <text>``.

    Args:
        status: of the answer.
        error: what was read of its JSON.
        body: the raw body where it is not JSON, else empty; a web page shrinks to its title.
    """
    head = f"HTTP {status}" if error.label is None else f"HTTP {status} {error.label}"
    page = _plain(body[:SCANNED].decode(errors="replace")).strip()
    return one_line(": ".join(part for part in (head, error.text, page) if part))


def words_of(note: str) -> str:
    """A note without what differs from job to job."""
    return " ".join(DIFFERENT.sub("#", note).lower().split())


def _plain(text: str) -> str:
    if "<" not in text:
        return text
    title = TITLE.search(text)
    # Cloudflare's pages print our own address further down: the title is all that is kept.
    return title[1].strip() if title else TAGS.sub(" ", text).strip()
