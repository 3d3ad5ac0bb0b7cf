"""What comes after: dead letters and their replay, deadlines, kills and restarts."""

from pathlib import Path

import pytest

from outlast.drill.simulator import Behaviour
from outlast_schemas.result import Status
from tests.e2e.scene import scene

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]


async def test_a_dead_letter_is_replayed_and_succeeds(tmp_path: Path, kafka: str) -> None:
    async with scene(tmp_path, kafka) as world:
        deepseek = world.simulators["deepseek"]
        await deepseek.set_mode("reject")
        await (await world.start()).ready()
        await world.publish("wanted", headers={"ce_id": "job-1"})
        [first] = await world.results(1)
        _, listed, _ = await world.outlast("dead-letters", "--json")
        await deepseek.set_mode("ok")
        code, said, errors = await world.outlast("replay", "job-1", "--yes")
        ended = {each.result.replays: each for each in await world.results(2)}
        report = await world.audited()

    assert first.result.status is Status.DEAD_LETTERED
    assert first.result.body["error"]["type"] == "job_rejected"
    assert '"job-1"' in listed
    assert code == 0, said + errors
    assert ended[1].result.status is Status.SUCCEEDED
    assert ended[1].result.job_id == "job-1"
    assert [each.verdict for each in ended[1].state.attempts] == ["job_rejected", "succeeded"]
    assert (report["accepted"], report["succeeded"], report["lost"]) == (1, 1, 0)


async def test_an_expired_job_is_replayed_with_a_fresh_ttl_and_counts_once(
    tmp_path: Path, kafka: str
) -> None:
    async with scene(tmp_path, kafka) as world:
        for simulator in world.simulators.values():
            await simulator.set_mode("refuse")
        await (await world.start()).ready()
        await world.publish("late", headers={"ce_id": "late", "outlast-ttl-seconds": "3"})
        [expired] = await world.results(1)
        for simulator in world.simulators.values():
            await simulator.set_mode("ok")
        unanswered = await world.outlast("replay", "--all")
        refused = await world.outlast("replay", "--all", stdin="n\n")
        code, said, errors = await world.outlast("replay", "--all", "--ttl", "600", "--yes")
        ended = {each.result.replays: each for each in await world.results(2)}
        report = await world.audited()

    assert expired.result.status is Status.EXPIRED
    assert expired.result.body["error"]["type"] == "deadline"
    assert (unanswered[0], refused[0]) == (2, 1)
    assert "nobody can answer here; say it with --yes" in unanswered[2]
    assert code == 0, said + errors
    assert ended[1].result.status is Status.SUCCEEDED
    assert (report["accepted"], report["succeeded"], report["expired"]) == (1, 1, 0)
    assert report["lost"] == 0


async def test_a_deadline_in_the_past_costs_no_call(tmp_path: Path, kafka: str) -> None:
    async with scene(tmp_path, kafka) as world:
        await (await world.start()).ready()
        await world.publish("old", headers={"outlast-deadline": "2020-01-01T00:00:00Z"})
        [ended] = await world.results(1)
        calls = world.simulators["deepseek"].counters.started

    assert ended.result.status is Status.EXPIRED
    assert calls == 0


async def test_a_call_is_cut_at_the_deadline(tmp_path: Path, kafka: str) -> None:
    hanging = Behaviour(mode="hang")
    clocks = "first_token_seconds = 60"
    async with scene(tmp_path, kafka, behaviour=hanging, clocks=clocks) as world:
        await (await world.start()).ready()
        await world.publish("urgent", headers={"outlast-ttl-seconds": "3"})
        [ended] = await world.results(1)

    assert ended.result.status is Status.EXPIRED
    assert [each.verdict for each in ended.state.attempts] == ["ambiguous"]
    assert ended.state.charged == 0


async def test_a_killed_process_loses_nothing_and_repeats_only_what_was_in_flight(
    tmp_path: Path, kafka: str
) -> None:
    """kill -9 in mid-run, twice; the next process takes exactly what was not done."""
    jobs, concurrency = 400, 50
    slow = Behaviour(latency_seconds=0.2, latency_spread_seconds=0.6)
    async with scene(tmp_path, kafka, behaviour=slow, concurrency=concurrency) as world:
        await world.publish(*(f"job {number}" for number in range(jobs)))
        in_flight = 0
        for ended in (80, 200):
            run = await (await world.start()).ready()
            await world.results(ended)
            await run.kill()
            in_flight += sum(each.counters.in_flight for each in world.simulators.values())
        await (await world.start()).ready()
        ended_runs = await world.results(jobs)
        report = await world.audited()
        calls = sum(each.counters.started for each in world.simulators.values())

    assert {each.result.status for each in ended_runs} == {Status.SUCCEEDED}
    assert len({each.result.job_id for each in ended_runs}) == jobs
    assert (report["succeeded"], report["open"], report["lost"]) == (jobs, 0, 0)
    # In flight at a kill is at most the limit; what ended since the last commit (50 ms, at the
    # pace of the limit) comes on top, and is as much again only if commits stand still.
    assert jobs <= calls <= jobs + 2 * 2 * concurrency


async def test_a_stop_lets_calls_end_and_repeats_none(tmp_path: Path, kafka: str) -> None:
    jobs = 200
    slow = Behaviour(latency_seconds=0.5, latency_spread_seconds=0.5)
    async with scene(tmp_path, kafka, behaviour=slow, concurrency=40) as world:
        await world.publish(*(f"job {number}" for number in range(jobs)))
        run = await (await world.start()).ready()
        await world.results(60)
        code = await run.stop()
        await (await world.start()).ready()
        await world.results(jobs)
        calls = sum(each.counters.started for each in world.simulators.values())

    assert code == 0
    assert calls == jobs
    assert world.repeats == 0
