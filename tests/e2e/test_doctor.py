"""``outlast doctor`` on real Kafka: what it finds, what it says to do, that it changes nothing."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from outlast.drill.simulator import Behaviour
from outlast.edges.kafka import examination, skew
from outlast.edges.kafka.connection import admin, groupless_consumer
from outlast.edges.kafka.topics import partitions
from tests.e2e.scene import KEYS, Scene, scene
from tests.kafka.cluster import CATALOGUE, place

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]


async def examined(world: Scene, *arguments: str) -> tuple[int, dict[str, Any], str]:
    code, out, err = await world.outlast("doctor", "--json", *arguments)
    assert "Traceback" not in err, err
    assert not any(key in out + err for key in KEYS.values())
    return code, json.loads(out), err


def bad(report: dict[str, Any], *checks: str) -> list[tuple[str, str]]:
    """What is not well, of some checks only: the host this runs on is not the test's affair."""
    return [
        (each["check"], each["severity"])
        for each in report["findings"]
        if each["severity"] != "ok" and each["check"] in checks
    ]


CLUSTER: Sequence[str] = (
    *("settings", "keys", "transport", "topics", "replicas", "offsets"),
    *("broker settings", "clock", "stages"),
)


async def test_a_fresh_installation_is_well_until_jobs_wait_for_nobody(
    tmp_path: Path, kafka: str
) -> None:
    async with scene(tmp_path, kafka) as world:
        code, report, _ = await examined(world)
        assert (code, report["problems"], report["unreachable"]) == (0, 0, None)
        assert bad(report, *CLUSTER) == []

        await world.publish("one", "two")
        code, report, _ = await examined(world)
        assert code == 0
        assert bad(report, *CLUSTER) == [("stages", "advice")]
        [waiting] = [each for each in report["findings"] if each["check"] == "stages"]
        assert waiting["what"].startswith("2 record(s) wait for")
        assert waiting["remedy"] == "start `outlast run route`"

        process = await (await world.start()).ready()
        await world.results(2)
        code, report, _ = await examined(world)
        assert (code, bad(report, *CLUSTER)) == (0, [])
        assert await process.stop() == 0
        levels = {json.loads(line)["level"] for line in process.log.read_text().splitlines()}
    # The record that the doctor left is heeded by no stage.
    assert levels == {"info"}


async def test_it_changes_nothing_but_for_one_record_that_tells_the_time(
    tmp_path: Path, kafka: str
) -> None:
    async with scene(tmp_path, kafka) as world:
        before = await everything(world)
        await examined(world)
        after = await everything(world)

    lent = (world.topics.lent, 0)
    assert after.pop(lent) == before.pop(lent) + 1
    assert before == after


async def everything(world: Scene) -> dict[tuple[str, int], int]:
    """Every partition under the test's prefix, and where it ends."""
    client = admin(world.kafka)
    await client.start()
    try:
        there = await partitions(None, client)
    finally:
        await client.close()
    tps = [
        TopicPartition(name, number)
        for name, count in there.items()
        if name.startswith(world.kafka.prefix)
        for number in range(count)
    ]
    reader = groupless_consumer(world.kafka, *{tp.topic for tp in tps})
    await reader.start()
    try:
        ends = await reader.end_offsets(tps)
    finally:
        await reader.stop()
    return {(tp.topic, tp.partition): int(end) for tp, end in ends.items()}


async def test_missing_topics_and_offsets_name_the_command(tmp_path: Path, kafka: str) -> None:
    async with scene(tmp_path, kafka) as world:
        path = world.config
        path.write_text(path.read_text().replace(world.kafka.prefix, f"{world.kafka.prefix}x"))
        code, report, _ = await examined(world)

    assert code == 1
    assert ("topics", "problem") in bad(report, "topics")
    [topics] = [each for each in report["findings"] if each["check"] == "topics"]
    assert "outlast topics apply" in topics["remedy"]


async def test_what_is_configured_wrong_is_found(tmp_path: Path, kafka: str) -> None:
    key = tmp_path / "openai.key"
    key.write_text("o-key-canary-7732")
    key.chmod(0o644)
    async with scene(tmp_path, kafka) as world:
        text = world.config.read_text()
        text = text.replace('api_key_env = "OPENAI_API_KEY"', f'api_key_file = "{key}"')
        text = text.replace('"DEEPSEEK_API_KEY"', '"NOT_SET_ANYWHERE"')
        text = text.replace("concurrency = 100", "concurrency = 3", 1)
        world.config.write_text(text)
        code, report, _ = await examined(world)

    assert code == 1
    assert bad(report, "keys", "topics") == [
        ("keys", "problem"),
        ("keys", "advice"),
        ("topics", "problem"),
    ]
    said = json.dumps(report)
    assert "NOT_SET_ANYWHERE is not set" in said
    assert f"chmod 600 {key}" in said
    assert "raise the concurrency" in said


async def test_providers_are_called_at_once_and_each_verdict_has_a_remedy(
    tmp_path: Path, kafka: str
) -> None:
    providers = ("deepseek", "openai", "anthropic")
    async with scene(tmp_path, kafka, providers) as world:
        await world.simulators["openai"].behave(Behaviour(mode="bad_key"))
        await world.simulators["anthropic"].behave(Behaviour(mode="refuse"))
        code, report, _ = await examined(world, "--providers")

    called = {
        each["what"].split("/")[0]: each
        for each in report["findings"]
        if each["check"] == "providers"
    }
    assert code == 1
    assert [called[name]["severity"] for name in providers] == ["ok", "problem", "problem"]
    assert " succeeded (200) in " in called["deepseek"]["what"]
    assert " account_blocked (401) in " in called["openai"]["what"]
    assert "the key is the right one" in called["openai"]["remedy"]
    assert " provider_down in " in called["anthropic"]["what"]
    assert "127.0.0.1" in called["anthropic"]["remedy"]


async def test_for_a_person_each_line_begins_with_its_mark(tmp_path: Path, kafka: str) -> None:
    async with scene(tmp_path, kafka) as world:
        code, out, err = await world.outlast("doctor")

    *lines, count = out.splitlines()
    assert (code, err) == (0, "")
    assert count.startswith("0 problem(s), ")
    # What is copied and pasted, a path, is never broken.
    assert [line for line in lines if len(line) > 80 and len(line.split()) > 1] == []
    assert {line.split()[0] for line in lines if not line.startswith(" ")} <= {"ok", "advice"}


async def test_without_a_broker_it_says_what_it_can_and_exits_with_3(
    tmp_path: Path, kafka: str
) -> None:
    async with scene(tmp_path, kafka) as world:
        world.config.write_text(world.config.read_text().replace(kafka, "127.0.0.1:1"))
        code, report, err = await examined(world)
        human = await world.outlast("doctor")

    assert code == human[0] == 3
    assert "no Kafka broker answers at 127.0.0.1:1" in err
    assert report["unreachable"] in err
    assert report["findings"][0]["check"] == "settings"
    assert "keys: 2 named, all there" in human[1]
    assert "problem(s), 0 advice, as far as can be seen without Kafka" in human[1]


async def test_wrong_settings_are_all_named_and_exit_with_2(tmp_path: Path, kafka: str) -> None:
    async with scene(tmp_path, kafka) as world:
        world.config.write_text("[kafka]\nprefx = 'a'\npartitions = 0\n")
        code, out, err = await world.outlast("doctor", "--json")

    assert (code, out) == (2, "")
    assert "kafka.prefx" in err
    assert "kafka.partitions" in err


async def test_a_clock_that_is_wrong_is_measured(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This host's clock is moved, as far as the doctor sees it; the broker's stays."""

    class Moved:
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        def time(self) -> float:
            return time.time() + self.seconds

    async with place(kafka) as where:
        await where.apply()
        for seconds in (-60.0, 60.0):
            monkeypatch.setattr(skew, "time", Moved(seconds))
            facts = await examination.look(where.kafka, CATALOGUE, where.cluster, where.admin)
            assert facts.clock_ms is not None
            # As close to 0 as the round trip allows, and never beyond the truth.
            assert 0 <= 60_000 - abs(facts.clock_ms) < 30_000
            assert (facts.clock_ms > 0) == (seconds < 0)
        monkeypatch.undo()
        facts = await examination.look(where.kafka, CATALOGUE, where.cluster, where.admin)
        assert facts.clock_ms == 0


async def test_members_are_counted_group_by_group(tmp_path: Path, kafka: str) -> None:
    async with scene(tmp_path, kafka) as world:
        await (await world.start("route")).ready()
        async with asyncio.timeout(30):
            while True:
                _, report, _ = await examined(world)
                [stages] = [each for each in report["findings"] if each["check"] == "stages"]
                if stages["what"].startswith("1 of 6 groups at work"):
                    break
