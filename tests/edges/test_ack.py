"""An answer that nobody waits for any more still comes."""

import asyncio

import pytest

from outlast.edges.kafka.ack import followed


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
