"""Outlast: an inference queue on Kafka that outlives its providers.

The map of the stages; a job is a token that each of them moves on, and only then lets go of::

    stage    reads               writes
    route    jobs                work.<provider>, parked, dead-letters, results
    work     work.<provider>     results, retry.<tier>, parked, dead-letters, vitals
    retry    retry.<tier>        work.<provider>, retry.<tier>, parked, dead-letters, results
    park     parked              work.<provider>, parked, dead-letters, results
    health   vitals              health (the verdict on each provider, which every stage reads)

A backend needs :class:`AsyncClient`, or :class:`Client` where it has no event loop: they publish
to jobs and read results.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outlast.client import (
        AsyncClient,
        Client,
        Job,
        JobFailed,
        Kafka,
        NewJob,
        OutlastError,
        PublishRefused,
        PublishUnknown,
        Receipt,
        Result,
        Results,
        ResultStream,
    )

__all__ = [
    "AsyncClient",
    "Client",
    "Job",
    "JobFailed",
    "Kafka",
    "NewJob",
    "OutlastError",
    "PublishRefused",
    "PublishUnknown",
    "Receipt",
    "Result",
    "ResultStream",
    "Results",
]


if not TYPE_CHECKING:  # a type checker would believe in every name

    def __getattr__(name: str) -> object:
        """Load the client when it is first asked for: stages and core import this package too."""
        if name in __all__:
            from outlast import client

            return getattr(client, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
