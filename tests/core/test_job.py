"""A job and the state that travels with it."""

from dataclasses import replace

from tests.core.given import a_job


def test_a_job_with_another_state_is_the_same_in_all_else() -> None:
    job = a_job(("ce_id", b"job-1"), ("outlast-tenant", b"acme"), key=b"customer-7")
    other = replace(job.state, hop=3, deferrals=1)

    moved = job.with_state(other)

    assert moved == replace(job, state=other)
