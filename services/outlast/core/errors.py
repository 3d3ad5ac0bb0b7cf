"""The errors of Outlast, and what becomes of the job when one is raised.

::

    OutlastError
    ├── SettingsError        the configuration is wrong: the process does not start (exit 2)
    ├── TopicsError          topics or committed offsets are missing: does not start (exit 2)
    ├── KafkaUnreachable     no broker answers: nothing was lost, nothing was taken (exit 3)
    ├── WatchdogTripped      the client stands still: the process ends and is restarted (exit 4)
    ├── MalformedMessage     the bytes are not what the topic promises: dead-lettered
    ├── CallSpent            a bug after a paid call: dead-lettered, never called again
    ├── Released             the record was given up untouched: whoever owns it next begins anew
    ├── PublishUnknown       a publish may or may not have been accepted: repeat with the same id
    ├── PublishRefused       the broker or the client refused the job: it was not accepted
    └── JobFailed            a result says that the job did not succeed
"""

__all__ = [
    "CallSpent",
    "JobFailed",
    "KafkaUnreachable",
    "MalformedMessage",
    "OutlastError",
    "PublishRefused",
    "PublishUnknown",
    "Released",
    "SettingsError",
    "TopicsError",
    "WatchdogTripped",
]


class OutlastError(Exception):
    """The root of all errors raised on purpose."""

    exit_code = 1


class SettingsError(OutlastError):
    """The configuration is wrong; the message names every mistake."""

    exit_code = 2

    def __init__(self, mistakes: list[str]) -> None:
        """Keep the mistakes apart, so that each can be shown on its own line."""
        self.mistakes = mistakes
        super().__init__("\n".join(mistakes))


class TopicsError(OutlastError):
    """Kafka lacks what the feed needs; the message names the command that mends it."""

    exit_code = 2


class KafkaUnreachable(OutlastError):
    """No broker answers at the bootstrap address."""

    exit_code = 3


class WatchdogTripped(OutlastError):
    """A client library stands still; only a restart is known to help."""

    exit_code = 4


class MalformedMessage(OutlastError):
    """The bytes are not the message the topic promises."""


class Released(OutlastError):
    """The record stays where it is: its stage was asked to let go before it began."""


class CallSpent(OutlastError):
    """The provider was called, and what came of it could not be decided or written: a bug."""


class PublishUnknown(OutlastError):
    """The job may have been accepted; publishing it again with the same id is safe."""

    def __init__(self, message: str, job_id: str) -> None:
        """``job_id`` is what to repeat it with."""
        self.job_id = job_id
        super().__init__(message)


class PublishRefused(OutlastError):
    """The job was not accepted; the message says why."""

    exit_code = 2


class JobFailed(OutlastError):
    """The run of a job ended without success."""
