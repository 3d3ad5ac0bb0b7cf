"""What a backend imports: publish jobs, wait for one, read results."""

from outlast.client.async_client import AsyncClient
from outlast.client.client import Client, Results
from outlast.client.job import Job, NewJob, Receipt
from outlast.core.errors import JobFailed, OutlastError, PublishRefused, PublishUnknown
from outlast.edges.answers import Result
from outlast.edges.kafka.results import ResultStream
from outlast.edges.settings import Kafka

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
