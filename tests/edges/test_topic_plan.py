"""What must change in Kafka, as a table: no broker needed."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from outlast.core.errors import TopicsError
from outlast.core.policy import Catalogue, Limits, Provider
from outlast.edges.kafka.topic_plan import Found, Plan, compare, table
from outlast.edges.settings import Kafka

KAFKA = Kafka()


def catalogue(concurrency: int = 100) -> Catalogue:
    limits = Limits(concurrency=concurrency)
    pool = Provider(name="p", family="openai", base_url="https://h", limits=limits)
    return Catalogue(providers={"p": pool}, routes={})


def found(replicas: int = 1, partitions: int = 12) -> dict[str, Found]:
    """All topics as they shall be, with so many replicas."""
    made = {}
    for topic in table(KAFKA, catalogue()):
        in_sync = 2 if replicas >= 3 else 1
        settings = topic.settings(max_body_bytes=1_000_000, min_insync_replicas=in_sync)
        made[topic.name] = Found(
            partitions=partitions, replicas=replicas, settings=settings, own=settings
        )
    return made


def plan(
    there: Mapping[str, Found], *, replicas: int = 1, kafka: Kafka = KAFKA, concurrency: int = 100
) -> Plan:
    return compare(kafka, catalogue(concurrency), there, replicas=replicas)


def test_nothing_differs_when_all_is_as_it_shall_be() -> None:
    assert not plan(found()).differs
    assert not plan(found(replicas=3), replicas=3).differs
    assert not plan(found(partitions=24)).differs  # more partitions than asked for are kept


@pytest.mark.parametrize(("concurrency", "partitions"), [(1, 1), (5, 5), (12, 12), (500, 12)])
def test_a_new_pool_gets_no_more_partitions_than_permits(concurrency: int, partitions: int) -> None:
    counts = {each.topic: each.partitions for each in plan({}, concurrency=concurrency).creations}

    assert counts["outlast.work.p"] == partitions
    assert counts["outlast.jobs"] == 12


def test_three_brokers_give_three_replicas_of_which_two_must_have_a_record() -> None:
    creations = plan({}, replicas=3).creations

    assert {each.replicas for each in creations} == {3}
    assert {each.settings["min.insync.replicas"] for each in creations} == {"2"}


def test_a_topic_of_one_replica_is_never_asked_for_two_in_sync() -> None:
    made = plan(found(replicas=1), replicas=3)

    assert made.changes == ()  # it could not be written any more
    assert any("fewer than 3 replicas" in note for note in made.notes)


@pytest.mark.parametrize(
    ("kept", "changes"),
    [("31536000000", []), ("-1", []), ("1000", ["retention.ms"])],
)
def test_a_longer_retention_is_left_and_a_shorter_one_raised(kept: str, changes: list[str]) -> None:
    there = found()
    letters = there["outlast.dead-letters"]
    there["outlast.dead-letters"] = replace(
        letters, settings={**letters.settings, "retention.ms": kept}
    )

    assert [each.setting for each in plan(there).changes] == changes


def test_the_order_of_cleanup_policies_is_no_difference() -> None:
    there = found()
    control = there["outlast.control"]
    there["outlast.control"] = replace(
        control, settings={**control.settings, "cleanup.policy": "delete,compact"}
    )

    assert not plan(there).differs


def test_a_topic_grows_to_what_is_configured_and_never_shrinks() -> None:
    asked = replace(KAFKA, topic_partitions={"jobs": 24, "parked": 6})

    assert [str(each) for each in plan(found(), kafka=asked).growths] == [
        "grow outlast.jobs: 12 → 24 partitions"
    ]


@pytest.mark.parametrize(
    ("concurrency", "configured", "there", "says"),
    [
        (11, {}, 12, "outlast.work.p has 12 partitions"),
        (12, {}, 12, None),
        (12, {"work.p": 13}, 12, "outlast.work.p shall have 13 partitions"),
        (1, {}, 0, None),
        (1, {"work.p": 2}, 0, "outlast.work.p shall have 2 partitions"),
    ],
)
def test_fewer_permits_than_partitions_are_refused(
    concurrency: int, configured: dict[str, int], there: int, says: str | None
) -> None:
    asked = replace(KAFKA, topic_partitions=configured)
    topics = found(partitions=there) if there else {}
    if says is None:
        plan(topics, kafka=asked, concurrency=concurrency)
        return

    with pytest.raises(TopicsError, match=says):
        plan(topics, kafka=asked, concurrency=concurrency)
