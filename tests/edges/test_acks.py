"""An answer that nobody waits for any more still comes; of many each is told as it comes."""

import asyncio
from typing import Any

import pytest

from outlast.edges.kafka.acks import Acks, followed
from tests.stages.fakes import turns


def an_ack() -> "asyncio.Future[str]":
    return asyncio.get_running_loop().create_future()


async def test_it_ends_as_the_answer_does() -> None:
    ack = an_ack()
    follower = followed(ack)
    ack.set_result("written")

    assert await follower == "written"


async def test_a_refusal_is_raised() -> None:
    ack = an_ack()
    follower = followed(ack)
    ack.set_exception(ValueError("refused"))

    with pytest.raises(ValueError, match="refused"):
        await follower


async def test_an_answer_that_is_given_up_gives_up_who_waits() -> None:
    ack = an_ack()
    follower = followed(ack)
    ack.cancel()

    with pytest.raises(asyncio.CancelledError):
        await follower


@pytest.mark.parametrize("answer", ["written", ValueError("refused")], ids=["written", "refused"])
async def test_who_is_cancelled_cancels_no_answer(answer: str | ValueError) -> None:
    ack = an_ack()
    waiting = asyncio.ensure_future(followed(ack))
    waiting.cancel()
    await asyncio.wait({waiting})
    if isinstance(answer, str):
        ack.set_result(answer)
    else:
        ack.set_exception(answer)
    await asyncio.sleep(0)

    assert waiting.cancelled()
    assert (ack.exception() or ack.result()) == answer


async def test_of_many_each_is_told_as_it_comes_and_the_last_ends_the_wait() -> None:
    told: list[int] = []
    acks, first, second = Acks(lambda n, _: told.append(n)), an_ack(), an_ack()
    acks.expect(0, first)
    acks.expect(1, second)
    waiting = asyncio.create_task(acks.all())
    second.set_exception(ValueError("refused"))
    await turns()
    assert (told, acks.open, waiting.done()) == ([1], {0}, False)
    first.set_result("written")
    await waiting

    assert (told, acks.open) == ([1, 0], set())
    assert second.exception() is not None


async def test_where_all_have_come_there_is_no_wait() -> None:
    told: list[int] = []
    acks, ack = Acks(lambda n, _: told.append(n)), an_ack()
    ack.set_result("written")
    acks.expect(0, ack)
    await turns()
    await acks.all()

    assert told == [0]


async def test_who_waits_no_more_may_have_another_told_of_what_comes_late() -> None:
    told, late = list[int](), list[int]()
    acks, ack = Acks(lambda n, _: told.append(n)), an_ack()
    acks.expect(0, ack)
    waiting = asyncio.create_task(acks.all())
    await turns()
    waiting.cancel()
    await asyncio.wait({waiting})
    acks.told = lambda n, _: late.append(n)
    ack.set_result("written")
    await turns()

    assert (told, late) == ([], [0])


async def test_a_bug_in_who_is_told_keeps_nobody_waiting() -> None:
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    moves: dict[int, str] = {}
    acks, ack = Acks(lambda n, _: moves.__delitem__(n)), an_ack()
    acks.expect(0, ack)
    waiting = asyncio.create_task(acks.all())
    await turns()
    ack.set_result("written")
    await waiting
    asyncio.get_running_loop().set_exception_handler(None)

    assert [type(each["exception"]) for each in heard] == [KeyError]
