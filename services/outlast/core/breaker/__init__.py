"""When a provider counts as down for the whole fleet, and how it is trusted again.

closed → open on evidence → half-open, with one probe of the whole fleet at a time → ramp, with
1, 2, 4 … calls under way → closed. What workers saw comes in as windows (``vitals``); what comes
out is the verdict (``health``), which names the evidence and the prober.
"""

from outlast.core.breaker.evidence import Evidence
from outlast.core.breaker.policy import ANSWERED, REACHED, BreakerPolicy
from outlast.core.breaker.provider import ProviderBreaker, together
from outlast.core.breaker.state import Breaker

__all__ = [
    "ANSWERED",
    "REACHED",
    "Breaker",
    "BreakerPolicy",
    "Evidence",
    "ProviderBreaker",
    "together",
]
