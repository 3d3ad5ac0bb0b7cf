"""How wary to be of a record whose process died while it ran: less company each time it does.

Nobody knows which of the records in flight killed a process, if any did. So none is condemned for
having been there: after each further unclean start fewer run beside it, at last none, and only
one that was alone when its process died once more is poison.
"""

import sys
from typing import Final

__all__ = ["POISON", "SUSPECT", "company"]

SUSPECT: Final = 2
"""So many unclean starts of one record are no chance any more."""
POISON: Final = 5
"""So many unclean starts has only a record that was alone at the last of them."""
_COMPANY: Final = {2: 64, 3: 8, 4: 1}


def company(unclean: int) -> int:
    """How many records may be worked on in the process together with one of that history.

    Two starts that ended badly can also be two machines that were switched off: a full worker's
    worth of calls would then wait in line for one another. So the circle narrows in steps.
    """
    return sys.maxsize if unclean < SUSPECT else _COMPANY.get(unclean, 1)
