"""The names of the consumer groups, and which topics each of them works through."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from outlast_schemas.topics import Topics

__all__ = ["Groups"]


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of all stages under one prefix, the same as the topics'."""

    prefix: str = "outlast"

    @property
    def route(self) -> str:
        """Reads the jobs."""
        return f"{self.prefix}.route"

    @property
    def retry(self) -> str:
        """Reads all tiers."""
        return f"{self.prefix}.retry"

    @property
    def park(self) -> str:
        """Reads what is parked."""
        return f"{self.prefix}.park"

    @property
    def health(self) -> str:
        """Reads the vitals."""
        return f"{self.prefix}.health"

    def work(self, provider: str) -> str:
        """The pool of one provider."""
        return f"{self.prefix}.work.{provider}"

    def reads(self, topics: Topics, providers: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
        """Group → its topics."""
        return {
            self.route: (topics.jobs,),
            **{self.work(provider): (topics.work(provider),) for provider in providers},
            self.retry: topics.retries,
            self.park: (topics.parked,),
            self.health: (topics.vitals,),
        }

    def moving(self, topics: Topics, providers: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
        """The groups whose topics hold jobs: all but health."""
        reads = self.reads(topics, providers)
        return {group: names for group, names in reads.items() if group != self.health}
