"""What follows for impact from verdicts that were weighed, and from a refit."""

from datetime import timedelta
from uuid import UUID

from market.broker import job
from market.db import database, now
from market.sweeps import sweep

LATELY = timedelta(hours=25)
"""How long after its last verdict a project's set is looked at."""


@job(queue="default", line="bulk", max_retries=8)
def measure_impact(submission_id: str) -> None:
    """Write what a submission was worth, and what that says of its expert."""
    # Loads scipy, which a process that only queues this does not need.
    from market.impact.actions import credit_item

    with database.begin() as session:
        credit_item(session, UUID(submission_id), at=now())


@job(queue="default", line="slow", max_retries=8, time_limit_s=3600)
def count_lift(study_id: str) -> None:
    """Let what a lab measured of items enter what they were worth."""
    from market.impact.actions import credit_lift

    with database.begin() as session:
        credit_lift(session, UUID(study_id), at=now())


@job(queue="solver", max_retries=4, time_limit_s=3600)
def rank_experts(version_id: str) -> None:
    """After the refit of a night, say anew who is probably at the top, domain by domain."""
    del version_id
    from market.impact.actions import place_experts
    from market.impact.queries import domains_of_credit

    with database.begin() as session:
        domains = domains_of_credit(session)
    sweep(domains, lambda session, domain: place_experts(session, domain, at=now()))


@job(queue="solver", max_retries=2, time_limit_s=3600)
def watch_spreads(slot: str) -> None:
    """See, project by project, whether what was accepted is one item many times."""
    del slot
    from market.impact.actions import watch_spread
    from market.impact.queries import projects_credited

    with database.begin() as session:
        found = projects_credited(session, since=now() - LATELY)
    sweep(found, lambda session, one: watch_spread(session, one, at=now()))
