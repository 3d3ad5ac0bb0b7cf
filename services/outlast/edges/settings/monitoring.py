"""Where a process can be looked at from outside."""

from dataclasses import dataclass

__all__ = ["Monitoring"]


@dataclass(frozen=True, slots=True)
class Monitoring:
    """``listen`` is ``host:port``, ``[host]:port`` for IPv6; nowhere where it is ``None``."""

    listen: str | None = None

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port; port 0 is any that is free."""
        if self.listen is None:
            return None
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)
