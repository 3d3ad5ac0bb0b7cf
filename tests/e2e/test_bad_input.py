"""Bad input: each a clear outcome, and never a partition that stands still."""

import json
from pathlib import Path

import pytest

from outlast_schemas.result import Status
from tests.e2e.scene import chat, scene

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]

GOOD = chat("fine")
LIMIT = 1_000_000
EMBED = b'{"model": "deepseek/deepseek-flash", "input": "x"}'

# name → (body, headers, the reason it is set aside for)
BAD: dict[str, tuple[bytes | None, dict[str, str | None], str]] = {
    "empty": (b"", {}, "not_json"),
    "null": (None, {}, "not_json"),
    "not-json": (b"{'a': 1}", {}, "not_json"),
    "not-utf8": (b'{"messages": "\xff\xfe"}', {}, "not_json"),
    "not-an-object": (b"[1, 2]", {}, "bad_request"),
    "no-messages": (b'{"model": "chat"}', {}, "bad_request"),
    "messages-a-string": (b'{"model": "chat", "messages": "hi"}', {}, "bad_request"),
    "message-without-role": (b'{"messages": [{"content": "hi"}]}', {}, "bad_request"),
    "unknown-model": (chat("x", "gpt-nobody"), {}, "unknown_route"),
    "unknown-route": (GOOD, {"outlast-route": "nowhere"}, "unknown_route"),
    "scope-of-nobody": (GOOD, {"outlast-scope": "jurisdiction:eu"}, "scope"),
    "scope-unknown": (GOOD, {"outlast-scope": "mistral"}, "scope"),
    "bad-deadline": (GOOD, {"outlast-deadline": "tomorrow"}, "bad_header"),
    "huge-ttl-text": (GOOD, {"outlast-ttl-seconds": "a lot"}, "bad_header"),
    "empty-header": (GOOD, {"outlast-tenant": ""}, "bad_header"),
    "bad-ambiguous": (GOOD, {"outlast-on-ambiguous": "maybe"}, "bad_header"),
    "too-large": (chat("x" * (LIMIT + 1)), {}, "too_large"),
    "embeddings": (EMBED, {"outlast-operation": "embeddings"}, "no_capable_target"),
}
# name → (body, headers): odd, and served all the same
ODD: dict[str, tuple[bytes, dict[str, str | None]]] = {
    "at-the-limit": (chat("x" * (LIMIT - len(chat("")))), {}),
    "foreign-state": (GOOD, {"outlast-state": '{"v":1,"hop":9,"deadline":1}'}),
    "null-headers": (GOOD, {"outlast-route": None, "outlast-deadline": None, "x-null": None}),
    "hundreds-of-headers": (GOOD, {f"x-{number}": "value" for number in range(500)}),
    "no-model": (chat("x", None), {}),
    "exact-target": (chat("x", "openai/gpt-6-luna"), {}),
    "years-of-ttl": (GOOD, {"outlast-ttl-seconds": "1e300"}),
}


async def test_each_bad_record_has_its_outcome_and_none_stops_the_others(
    tmp_path: Path, kafka: str
) -> None:
    async with scene(tmp_path, kafka) as world:
        await (await world.start()).ready()
        for name, (body, headers, _) in BAD.items():
            await world.publish(body=body, headers={"ce_id": name, **headers})
        for name, (body, headers) in ODD.items():
            await world.publish(body=body, headers={"ce_id": name, **headers})
        ended = {each.result.job_id: each for each in await world.results(len(BAD) + len(ODD))}
        report = await world.audited()
        depths = await world.depths()
        _, letters, _ = await world.outlast("dead-letters", "--json")

    said = {name: ended[name].result.body["error"]["type"] for name in BAD}
    assert said == {name: reason for name, (_, _, reason) in BAD.items()}
    assert {name: ended[name].result.status for name in ODD} == dict.fromkeys(ODD, Status.SUCCEEDED)
    assert len(letters.splitlines()) == len(BAD)
    assert all(json.loads(line)["detail"] for line in letters.splitlines())
    assert report["lost"] == 0
    assert set(depths.values()) == {0}


async def test_the_same_id_twice_is_one_job_and_another_body_a_conflict(
    tmp_path: Path, kafka: str
) -> None:
    async with scene(tmp_path, kafka) as world:
        await (await world.start()).ready()
        for text in ("one", "one", "another"):
            await world.publish(text, headers={"ce_id": "twice"})
        await world.publish("last", headers={"ce_id": "last"})
        ended = {each.result.job_id: each for each in await world.results(2)}
        await world.until_depth(world.topics.jobs, 0)
        _, letters, _ = await world.outlast("dead-letters", "--json")

    assert ended["twice"].result.text is not None
    assert "one" in ended["twice"].result.text
    assert [json.loads(line)["reason"] for line in letters.splitlines()] == ["conflict"]
    assert world.repeats == 0


async def test_a_malformed_id_is_replaced_and_named(tmp_path: Path, kafka: str) -> None:
    async with scene(tmp_path, kafka) as world:
        await (await world.start()).ready()
        await world.publish("hi", headers={"ce_id": "ünïcode"})
        [ended] = await world.results(1)

    assert ended.result.body["error"]["type"] == "bad_header"
    assert "ce_id" in ended.result.body["error"]["message"]
    assert ended.result.job_id.isascii()


async def test_bodies_nested_deeper_than_can_be_written_stop_nobody(
    tmp_path: Path, kafka: str
) -> None:
    deep = b'{"messages":[{"role":"user","content":"hi"}],"metadata":' + b"[" * 300 + b"]" * 300
    async with scene(tmp_path, kafka) as world:
        run = await (await world.start()).ready()
        for number in range(6):
            await world.publish(body=deep + b"}", headers={"ce_id": f"deep-{number}"})
        await world.publish("fine", headers={"ce_id": "fine"})
        ended = {each.result.job_id: each for each in await world.results(7)}
        code = await run.stop()

    reasons = {ended[f"deep-{number}"].result.body["error"]["type"] for number in range(6)}
    assert reasons == {"not_json"}
    assert ended["fine"].result.status is Status.SUCCEEDED
    assert code == 0
