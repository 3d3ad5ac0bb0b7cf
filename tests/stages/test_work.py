"""Work: one call at most, nothing sent before the decision, no money spent in vain."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from outlast.core.errors import CallSpent, Released
from outlast.core.policy import Target
from outlast.core.verdict import Verdict
from outlast.work import goes_on, work
from outlast_schemas.attempt import VerdictWord
from outlast_schemas.job import Job
from outlast_schemas.result import Result, Served
from tests.core.given import CHAT, FLASH, HAIKU, HOUR, LUNA, NOW, a_job, an_attempt
from tests.stages.fakes import World, a_verdict, turns

V = VerdictWord
ALL = ("deepseek", "openai", "anthropic")


def queued(*headers: tuple[str, bytes | None], **state: object) -> Job:
    """A job that was sent to deepseek's pool."""
    job = a_job(*headers, target=str(FLASH), hop=1)
    return replace(job, state=replace(job.state, **state))  # type: ignore[arg-type]


def a_world(*script: Verdict | Exception) -> World:
    world = World()
    world.call.script = list(script)
    return world


async def test_a_served_job_ends_as_a_result_after_exactly_one_call() -> None:
    world = a_world(a_verdict(V.SUCCEEDED))

    await work(queued(), "deepseek", world.work_ports())

    assert world.log == [
        "permit taken",
        "called deepseek/flash",
        "permit returned",
        "sent results: succeeded",
    ]
    assert world.call.calls == [(FLASH, 3_600.0)]
    assert world.call.bodies == [{"messages": [{"role": "user", "content": "hello"}]}]
    assert world.pool.ends == [("job-1", V.SUCCEEDED)]
    [result] = world.outbox.sent
    assert isinstance(result, Result)
    assert result.served is not None
    assert result.served.body == b'{"choices":[]}'


@pytest.mark.parametrize(
    ("verdict", "headers", "expected"),
    [
        (a_verdict(V.PROVIDER_DOWN), (), ["retry.0s"]),
        (a_verdict(V.AMBIGUOUS), (), ["retry.0s"]),
        (a_verdict(V.AMBIGUOUS), (("outlast-on-ambiguous", b"retry"),), ["retry.5s"]),
        (
            a_verdict(V.AMBIGUOUS),
            (("outlast-on-ambiguous", b"hold"),),
            ["dead letter: ambiguous", "results: dead_lettered"],
        ),
        (a_verdict(V.RETRY_LATER, retry_after=7.0), (), ["retry.30s"]),
        (a_verdict(V.RETRY_LATER, retry_after=700.0), (), ["retry.0s"]),
        (a_verdict(V.ACCOUNT_BLOCKED), (), ["retry.0s"]),
        (a_verdict(V.ACCOUNT_BLOCKED), (("outlast-scope", b"deepseek"),), ["parked"]),
        (a_verdict(V.MISROUTED), (), ["retry.0s"]),
        (a_verdict(V.CONTEXT_TOO_LONG), (), ["retry.0s"]),
        (a_verdict(V.JOB_REJECTED), (), ["dead letter: job_rejected", "results: dead_lettered"]),
        (
            replace(a_verdict(V.JOB_REJECTED), is_oversized=True),
            (),
            ["dead letter: answer_too_large", "results: dead_lettered"],
        ),
        (
            a_verdict(V.CONTENT_POLICY),
            (("outlast-results", b"west"),),
            ["dead letter: content_policy", "results.west: dead_lettered"],
        ),
        (
            a_verdict(
                V.SUCCEEDED, served=Served(body=b"x" * 1_001, provider="deepseek", model="m")
            ),
            (),
            ["dead letter: answer_too_large", "results: dead_lettered"],
        ),
    ],
)
async def test_every_verdict_leads_to_its_records_in_their_order(
    verdict: Verdict, headers: tuple[tuple[str, bytes]], expected: list[str]
) -> None:
    world = a_world(verdict)

    await work(queued(*headers), "deepseek", world.work_ports())

    assert world.outbox.told == expected
    assert len(world.call.calls) == 1


@pytest.mark.parametrize(
    ("job", "down", "expected"),
    [
        (queued(deadline=NOW), (), ["dead letter: deadline", "results: expired"]),
        # drained: handed on untouched; again within the moment, a tier longer
        (queued(), ("deepseek",), ["work.openai"]),
        (queued(), ("deepseek", "openai"), ["work.anthropic"]),
        (queued(), ALL, ["retry.0s"]),  # where it is found out that nobody is up
        (queued(avoid={"deepseek": NOW + 1}), ("deepseek",), ["retry.5s"]),
        (queued(target=str(LUNA)), (), ["work.openai"]),  # it came to the wrong pool
        (queued(target="deepseek/old"), (), ["work.openai"]),  # no target of the route any more
        (queued(("outlast-scope", b"openai")), (), ["work.openai"]),
        (queued(route="west"), (), ["work.openai"]),  # the route's own scope
        (queued(route="gone"), (), ["dead letter: unknown_route", "results: dead_lettered"]),
        (
            queued(("outlast-scope", b"nobody")),
            (),
            ["dead letter: scope", "results: dead_lettered"],
        ),
    ],
)
async def test_no_call_and_no_permit_where_something_speaks_against_it(
    job: Job, down: tuple[str, ...], expected: list[str]
) -> None:
    world = World(*down)

    await work(job, "deepseek", world.work_ports())

    assert world.outbox.told == expected
    assert (world.call.calls, world.pool.taken) == ([], 0)
    assert (world.outbox.job.state.charged, world.outbox.job.state.calls) == (0, 0)
    assert goes_on(job, "deepseek", World(*down).work_ports()) == world.outbox.hop


async def test_a_job_that_may_be_called_goes_nowhere_without_the_stage() -> None:
    assert goes_on(queued(), "deepseek", World().work_ports()) is None


async def test_a_job_drained_from_its_pool_stays_away_from_it_for_a_moment() -> None:
    world = World("deepseek")

    await work(queued(), "deepseek", world.work_ports())

    assert world.outbox.job.state.avoid == {"deepseek": NOW + 5_000}


def _the_deadline_passes(world: World) -> None:
    world.clock.advance(HOUR)


def _the_provider_goes_down(world: World) -> None:
    world.fleet.down = ("deepseek",)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_the_deadline_passes, ["dead letter: deadline", "results: expired"]),
        (_the_provider_goes_down, ["work.openai"]),
    ],
)
async def test_after_waiting_for_a_permit_it_is_looked_at_once_more(
    change: Callable[[World], None], expected: list[str]
) -> None:
    world = World()
    world.pool.has_room.clear()
    running = asyncio.create_task(work(queued(), "deepseek", world.work_ports()))
    await turns()
    assert world.pool.waiting == 1
    change(world)
    world.pool.has_room.set()
    await running

    assert world.outbox.told == expected
    assert world.call.calls == []
    assert (world.pool.taken, world.pool.held) == (1, 0)


async def test_time_spent_on_waiting_for_a_permit_is_not_left_for_the_call() -> None:
    world = a_world(a_verdict(V.SUCCEEDED))
    world.pool.has_room.clear()
    running = asyncio.create_task(work(queued(), "deepseek", world.work_ports()))
    await turns()
    world.clock.advance(600_000)
    world.pool.has_room.set()
    await running

    assert world.call.calls == [(FLASH, 3_000.0)]


async def test_a_cut_call_returns_its_permit_and_leaves_no_record() -> None:
    world = World()
    world.call.answers.clear()
    running = asyncio.create_task(work(queued(), "deepseek", world.work_ports()))
    await turns()
    assert world.pool.held == 1
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert world.pool.held == 0
    assert (world.outbox.told, world.pool.ends) == ([], [])


async def test_a_bug_in_the_call_says_that_it_is_spent_and_leaves_neither_permit_nor_record() -> (
    None
):
    world = a_world(ZeroDivisionError())

    with pytest.raises(CallSpent) as raised:
        await work(queued(), "deepseek", world.work_ports())

    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    assert world.log == ["permit taken", "called deepseek/flash", "permit returned"]


async def test_a_bug_after_the_call_says_that_the_call_is_spent() -> None:
    world = a_world(a_verdict(V.SUCCEEDED))
    world.outbox.fails = ZeroDivisionError()

    with pytest.raises(CallSpent):
        await work(queued(), "deepseek", world.work_ports())

    assert len(world.call.calls) == 1


async def test_a_slow_acknowledgement_repeats_no_call_and_holds_no_permit() -> None:
    world = a_world(a_verdict(V.JOB_REJECTED))
    world.outbox.acknowledges.clear()
    running = asyncio.create_task(work(queued(), "deepseek", world.work_ports()))
    await turns()
    assert world.outbox.told == ["dead letter: job_rejected"]
    assert (world.pool.held, running.done()) == (0, False)
    world.outbox.acknowledges.set()
    await running

    assert world.outbox.told == ["dead letter: job_rejected", "results: dead_lettered"]
    assert len(world.call.calls) == 1


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (V.SUCCEEDED, ["results: succeeded"]),  # it came before the cut: it counts
        (V.PROVIDER_DOWN, ["dead letter: deadline", "results: expired"]),
    ],
)
async def test_the_deadline_decides_over_failures_and_not_over_answers(
    word: VerdictWord, expected: list[str]
) -> None:
    world = a_world(a_verdict(word))
    world.call.meanwhile = lambda: world.clock.advance(HOUR)

    await work(queued(), "deepseek", world.work_ports())

    assert world.outbox.told == expected


@pytest.mark.parametrize(
    ("well", "evidence", "down_meanwhile", "charged"),
    [
        (True, True, (), 4),
        (False, True, (), 3),  # others fail there too: not the job's fault
        (True, True, ("deepseek",), 3),  # the fleet has closed it meanwhile
        (True, False, (), 3),  # cut by the job's own deadline
    ],
)
async def test_a_failure_is_charged_only_where_the_provider_does_well_with_others(
    well: bool, evidence: bool, down_meanwhile: tuple[str, ...], charged: int
) -> None:
    world = a_world(a_verdict(V.PROVIDER_DOWN, evidence=evidence))
    world.pool.well = well
    world.call.meanwhile = lambda: setattr(world.fleet, "down", down_meanwhile)

    await work(queued(charged=3, calls=6), "deepseek", world.work_ports())

    assert (world.outbox.job.state.charged, world.outbox.job.state.calls) == (charged, 7)


@pytest.mark.parametrize(
    ("job", "provider", "counted"),
    [
        (queued(), "deepseek", []),
        (queued(target=str(LUNA)), "openai", ["deepseek"]),
        (queued(target=str(HAIKU)), "anthropic", ["deepseek"]),
        # each provider counts a job once, however often it comes
        (queued(target=str(LUNA), attempts=(an_attempt(FLASH),)), "openai", ["deepseek"]),
        (queued(target=str(LUNA), attempts=(an_attempt(LUNA),)), "openai", []),
        # who may not or cannot take the job is not the first
        (queued(("outlast-scope", b"openai,anthropic"), target=str(LUNA)), "openai", []),
        (
            queued(("outlast-scope", b"openai,anthropic"), target=str(HAIKU)),
            "anthropic",
            ["openai"],
        ),
        (queued(("outlast-operation", b"embeddings"), target=str(LUNA)), "openai", []),
        (queued(route="west", target=str(LUNA)), "openai", []),
        (queued(route=str(LUNA), target=str(LUNA)), "openai", []),
    ],
)
async def test_a_job_whose_first_provider_is_another_counts_at_its_first_call_here(
    job: Job, provider: str, counted: list[str]
) -> None:
    world = a_world(a_verdict(V.SUCCEEDED))

    await work(job, provider, world.work_ports())

    assert (len(world.call.calls), world.pool.failed_over) == (1, counted)


async def test_a_job_that_is_not_called_has_not_failed_over() -> None:
    world = World("openai")

    await work(queued(target=str(LUNA)), "openai", world.work_ports())

    assert (world.call.calls, world.pool.failed_over) == ([], [])


async def test_a_job_that_a_suspect_rejects_is_shown_to_another_before_it_is_given_up() -> None:
    world = a_world(a_verdict(V.JOB_REJECTED, evidence=False))
    world.pool.suspect = True

    await work(queued(), "deepseek", world.work_ports())

    assert world.outbox.told == ["retry.0s"]
    state = world.outbox.job.state
    assert (state.avoid, state.charged, state.calls) == ({"deepseek": NOW + 600_000}, 0, 1)


def rejected_by(target: Target, ago: int = 0) -> Job:
    """A job that was rejected so long ago and sent to openai."""
    attempt = replace(an_attempt(target, V.JOB_REJECTED, at=NOW - ago), note="HTTP 400: no")
    return queued(target=str(LUNA), attempts=(attempt,), calls=1)


@pytest.mark.parametrize(
    ("verdict", "job", "expected"),
    [
        (V.SUCCEEDED, rejected_by(FLASH), ["deepseek/flash: HTTP 400: no"]),
        (V.JOB_REJECTED, rejected_by(FLASH), []),
        (V.SUCCEEDED, rejected_by(FLASH, HOUR), []),  # in the run before, say
        (V.SUCCEEDED, queued(target=str(LUNA)), []),
    ],
)
async def test_who_serves_a_job_speaks_against_who_has_just_rejected_it(
    verdict: V, job: Job, expected: list[str]
) -> None:
    world = a_world(a_verdict(verdict))

    await work(job, "openai", world.work_ports())

    assert world.pool.refutations == expected


async def test_the_attempt_is_remembered_as_it_was() -> None:
    world = a_world(a_verdict(V.PROVIDER_DOWN, status=503, note="busy", request_id="req-1"))
    world.call.meanwhile = lambda: world.clock.advance(1_204)

    await work(queued(calls=2), "deepseek", world.work_ports())

    [attempt] = world.outbox.job.state.attempts
    assert attempt.to_json() == {
        "n": 3,
        "provider": "deepseek",
        "model": "flash",
        "at": NOW,
        "ms": 1_204,
        "verdict": "provider_down",
        "status": 503,
        "note": "busy",
        "request_id": "req-1",
    }


async def test_charged_calls_above_the_most_end_the_job() -> None:
    world = a_world(a_verdict(V.PROVIDER_DOWN))

    await work(queued(charged=CHAT.max_attempts - 1), "deepseek", world.work_ports())

    assert world.outbox.told == ["dead letter: attempts_exhausted", "results: dead_lettered"]


HOLD = ("outlast-on-ambiguous", b"hold")


async def test_the_start_of_a_hold_job_is_committed_before_the_call_and_with_the_permit() -> None:
    world = a_world(a_verdict(V.SUCCEEDED))
    world.starts.commits.clear()
    running = asyncio.create_task(work(queued(HOLD), "deepseek", world.work_ports()))
    await turns()
    assert (world.log, world.call.calls) == (["permit taken"], [])
    world.starts.commits.set()
    await running

    assert world.log == [
        "permit taken",
        "start recorded",
        "called deepseek/flash",
        "permit returned",
        "sent results: succeeded",
    ]


@pytest.mark.parametrize("headers", [(), (("outlast-on-ambiguous", b"retry"),)])
@pytest.mark.parametrize("is_in_doubt", [False, True])
async def test_the_start_of_any_other_job_waits_for_no_commit_and_may_follow_an_unclean_one(
    headers: tuple[tuple[str, bytes], ...], is_in_doubt: bool
) -> None:
    world = a_world(a_verdict(V.SUCCEEDED))
    world.starts.commits.clear()
    world.starts.is_in_doubt = is_in_doubt

    await work(queued(*headers), "deepseek", world.work_ports())

    assert world.log[:2] == ["permit taken", "called deepseek/flash"]
    assert world.outbox.told == ["results: succeeded"]


@pytest.mark.parametrize("down", [(), ("deepseek",)])
async def test_a_hold_job_that_may_have_been_called_ends_as_ambiguous_without_a_call(
    down: tuple[str, ...],
) -> None:
    world = World(*down)
    world.starts.is_in_doubt = True

    await work(queued(HOLD), "deepseek", world.work_ports())

    assert world.log == ["sent dead letter: ambiguous", "sent results: dead_lettered"]
    assert (world.call.calls, world.pool.taken) == ([], 0)
    assert (world.outbox.job.state.charged, world.outbox.job.state.calls) == (0, 0)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_the_deadline_passes, ["dead letter: deadline", "results: expired"]),
        (_the_provider_goes_down, ["work.openai"]),
    ],
)
async def test_after_waiting_for_the_commit_a_hold_job_is_looked_at_once_more(
    change: Callable[[World], None], expected: list[str]
) -> None:
    world = World()
    world.starts.commits.clear()
    running = asyncio.create_task(work(queued(HOLD), "deepseek", world.work_ports()))
    await turns()
    change(world)
    world.starts.commits.set()
    await running

    assert world.outbox.told == expected
    assert (world.call.calls, world.pool.held) == ([], 0)


async def test_a_hold_job_whose_partition_moves_before_the_commit_stays_as_it_was() -> None:
    world = World()
    world.starts.commits.clear()
    running = asyncio.create_task(work(queued(HOLD), "deepseek", world.work_ports()))
    await turns()
    world.starts.move()
    world.starts.commits.set()

    with pytest.raises(Released):
        await running
    assert world.log == ["permit taken", "permit returned"]


async def test_a_job_that_is_not_to_wait_for_a_permit_stays_as_it_was() -> None:
    world = World()
    world.pool.has_room.clear()
    running = asyncio.create_task(work(queued(), "deepseek", world.work_ports()))
    await turns()
    world.pool.lets_go = True
    world.pool.has_room.set()

    with pytest.raises(Released):
        await running
    assert (world.log, world.pool.taken) == ([], 0)


async def test_a_job_given_up_while_its_outcome_is_sent_is_no_spent_call() -> None:
    world = a_world(a_verdict(V.SUCCEEDED))
    world.outbox.fails = Released()

    with pytest.raises(Released):
        await work(queued(), "deepseek", world.work_ports())


async def test_a_body_that_is_no_json_is_not_sent_to_anybody() -> None:
    world = World()

    await work(replace(queued(), body=b"{"), "deepseek", world.work_ports())

    assert world.outbox.told == ["dead letter: not_json", "results: dead_lettered"]
    assert (world.call.calls, world.pool.held) == ([], 0)


@pytest.mark.parametrize(
    ("headers", "operation"),
    [
        ((), "chat.completions"),
        ((("outlast-operation", None),), "chat.completions"),
        ((("outlast-operation", b"embeddings"),), "embeddings"),
    ],
)
async def test_the_call_is_told_what_the_job_asks_for(
    headers: tuple[tuple[str, bytes | None], ...], operation: str
) -> None:
    world = a_world(a_verdict(V.SUCCEEDED))

    await work(queued(*headers, target=str(LUNA)), "openai", world.work_ports())

    assert world.call.operations == [operation]


async def test_a_provider_without_embeddings_is_not_called_for_them() -> None:
    world = World()

    await work(queued(("outlast-operation", b"embeddings")), "deepseek", world.work_ports())

    assert (world.call.calls, world.outbox.told) == ([], ["work.openai"])


async def test_a_repeat_beyond_the_retry_budget_waits_half_a_minute_without_a_call() -> None:
    world = World()
    world.pool.in_budget = False
    await work(a_job(), "deepseek", world.work_ports())

    assert world.outbox.told == ["retry.30s"]
    assert "permit taken" not in world.log
