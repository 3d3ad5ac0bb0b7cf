"""Logs: JSON lines in production, readable in a terminal, and never a payload or a key."""

import logging
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

__all__ = ["Log", "RateLimit", "configure", "keep_short", "without_secrets"]

NEVER: Final = frozenset(
    {
        "api_key",
        "authorization",
        "body",
        "content",
        "cookie",
        "header_values",
        "headers",
        "key",
        "messages",
        "password",
        "payload",
        "prompt",
        "secret",
        "token",
        "value",
        "x-api-key",
    }
)
"""Fields that are dropped whatever they hold: payloads, header values, credentials."""
LIBRARIES: Final = ("aiokafka", "faststream", "aiohttp", "asyncio", "httpx")
MOST: Final = 5
WINDOW_SECONDS: Final = 10.0


class Log:
    """What the modules that a backend imports log with: structlog as it was configured.

    Where nobody has, structlog would print to the backend's standard output; its events then go
    to the standard library's logger ``outlast`` instead, as those of any library do.
    """

    def __init__(self, name: str) -> None:
        """``name`` is the module's."""
        self._name = name

    def __getattr__(self, level: str) -> Callable[..., Any]:
        """The method of that level, such as ``warning``."""
        if structlog.is_configured():
            return cast(Callable[..., Any], getattr(structlog.get_logger(self._name), level))
        return cast(Callable[..., Any], getattr(_plain, level))


def configure(
    environ: Mapping[str, str],
    stream: TextIO | None = None,
    *,
    level: int = logging.INFO,
    libraries: int = logging.WARNING,
) -> None:
    """Set up structlog and the standard library's logging, once per process.

    Args:
        environ: ``OUTLAST_LOG`` is ``json`` or ``console``; else a terminal gets the console form.
        stream: where to; the standard error stream unless given.
        level: from which on our own loggers speak.
        libraries: from which on those of the client libraries do.
    """
    out = sys.stderr if stream is None else stream
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_secrets,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *_rendered(_is_json(environ, out)),
        ],
    )
    _route_to(formatter, out, level, libraries)


def without_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Drop the fields of ``NEVER``, at any depth, whatever the case of their names."""
    return {name: _cleaned(value) for name, value in event.items() if name.lower() not in NEVER}


def _cleaned(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _cleaned(v) for k, v in value.items() if str(k).lower() not in NEVER}
    return f"<{len(value)} bytes>" if isinstance(value, bytes | bytearray) else value


_plain: Final = structlog.wrap_logger(
    logging.getLogger("outlast"),
    processors=[
        structlog.stdlib.filter_by_level,
        without_secrets,
        structlog.processors.KeyValueRenderer(key_order=["event"]),
    ],
    wrapper_class=structlog.stdlib.BoundLogger,
)


class RateLimit(logging.Filter):
    """Lets through a few of each message in a window; the first of the next tells how many not."""

    def __init__(
        self,
        most: int = MOST,
        window_seconds: float = WINDOW_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Count per logger and message template."""
        super().__init__()
        self._most = most
        self._window = window_seconds
        self._clock = clock
        self._counts: MutableMapping[tuple[str, object], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this one is let through."""
        which = (record.name, record.msg)
        now = self._clock()
        since, count = self._counts.get(which, (now, 0))
        if now - since >= self._window:
            if count > self._most:
                record.msg = f"{record.msg} ({count - self._most} more like this)"
            since, count = now, 0
        self._counts[which] = (since, count + 1)
        self._forget(now)
        return count < self._most

    def _forget(self, now: float) -> None:
        """Templates that are built on the fly shall not pile up."""
        if len(self._counts) > 1_000:
            for which, (since, _) in list(self._counts.items()):
                if now - since >= self._window:
                    del self._counts[which]


def keep_short(library: str = "aiokafka") -> None:
    """Let a few of each of its messages through, where the process is somebody else's.

    While a broker is away aiokafka says so ten times a second, and where nobody has configured
    logging that goes to the standard error stream. A logger's filter does not count for those
    below it, so each has one.
    """
    for name in list(logging.root.manager.loggerDict):
        if name == library or name.startswith(f"{library}."):
            logger = logging.getLogger(name)
            if not any(isinstance(each, RateLimit) for each in logger.filters):
                logger.addFilter(RateLimit())


def _is_json(environ: Mapping[str, str], out: TextIO) -> bool:
    wish = environ.get("OUTLAST_LOG", "").lower()
    return wish != "console" and (wish == "json" or not out.isatty())


def _rendered(as_json: bool) -> list[Processor]:
    if not as_json:
        # The plain form, since the pretty one shows local variables: prompts and keys among them.
        return [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]


def _route_to(formatter: logging.Formatter, out: TextIO, level: int, libraries: int) -> None:
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(old)  # ours, of an earlier call
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root.addHandler(handler)
    root.setLevel(level)
    for name in LIBRARIES:
        _quiet(logging.getLogger(name), formatter, out, libraries)


def _quiet(library: logging.Logger, formatter: logging.Formatter, out: TextIO, level: int) -> None:
    """A handler of its own: a filter of a logger does not see what its children say."""
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    handler.addFilter(RateLimit())
    library.handlers[:] = [handler]
    library.propagate = False
    library.setLevel(level)
