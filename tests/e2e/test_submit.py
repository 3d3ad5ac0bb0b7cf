"""``outlast submit --wait``: a question in, its answer out, and nothing else."""

import json
from pathlib import Path

import pytest

from tests.e2e.scene import scene

pytestmark = [pytest.mark.kafka, pytest.mark.e2e]


async def test_the_answer_alone_is_printed_and_a_failure_is_an_exit_code(
    tmp_path: Path, kafka: str
) -> None:
    async with scene(tmp_path, kafka) as world:
        patient = await world.outlast("submit", "later", "--job-id", "a", "--wait", "--timeout=0.1")
        assert patient[:2] == (1, "")
        assert "job a has not ended within 0.1 s; it goes on" in patient[2]
        assert "outlast results --job a" in patient[2]

        await (await world.start()).ready()
        code, out, err = await world.outlast("submit", "Why?", "--wait")
        assert (code, out, err) == (0, "Simulated answer to: Why?\n", "")

        code, out, err = await world.outlast("submit", "Why?", "--wait", "--json", "--job-id", "b")
        assert (code, err) == (0, "")
        answer = json.loads(out)
        assert (answer["job_id"], answer["status"]) == ("b", "succeeded")

        code, out, err = await world.outlast(
            "submit", "-", "--wait", "--job-id", "c", stdin='{\n "model": "chat"\n}\n'
        )
        assert (code, out) == (1, "")
        assert err.startswith("job c dead_lettered: bad_request: ")

        code, out, err = await world.outlast("results", "--job", "a")
        assert code == 0
        assert "Simulated answer to: later" in out


async def test_an_embedding_is_asked_for_by_operation(tmp_path: Path, kafka: str) -> None:
    async with scene(tmp_path, kafka, ("openai",)) as world:
        await (await world.start()).ready()
        code, out, err = await world.outlast(
            *("submit", "some text", "--operation", "embeddings"),
            *("--model", "openai/text-embedding-3-small", "--wait"),
        )

    assert (code, out, err) == (0, "1 embedding(s)\n", "")
