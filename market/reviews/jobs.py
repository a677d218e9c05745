"""What follows from a submission, and what becomes of reviews by themselves."""

from uuid import UUID

from market.broker import job
from market.db import database, now
from market.reviews import actions
from market.reviews.queries import held_in_conflict, reviewers
from market.sweeps import sweep
from market.verdicts import actions as verdicts

SWEEP = 1_000
"""The most rows that one sweep takes up; the next one comes soon."""


@job(queue="default")
def open_reviews(submission_id: str) -> None:
    """Put a submission before its reviewers."""
    with database.begin() as session:
        actions.open_reviews(session, UUID(submission_id), at=now())


@job(queue="default")
def recuse_conflicted(person_id: str) -> None:
    """Somebody is tied to others: what lies between them is reviewed by someone else."""
    with database.begin() as session:
        found = held_in_conflict(session, UUID(person_id))
    sweep(found, lambda session, one: actions.recuse_conflicted(session, one, at=now()))


@job(queue="default")
def clear_claim(submission_id: str) -> None:
    """Work was given back before a verdict: nobody validates its claim."""
    with database.begin() as session:
        verdicts.clear_claim(session, UUID(submission_id), at=now())


@job(queue="default", max_retries=2)
def tell_reviewers(slot: str) -> None:
    """Tell everybody who reviews of work that waits for it, if there is any."""
    del slot
    with database.begin() as session:
        found = reviewers(session)
    sweep(found, lambda session, one: actions.tell_reviewer(session, one, at=now()))


@job(queue="default", max_retries=2)
def requeue_reviews(slot: str) -> None:
    """Put reviews that were claimed and not voted on back into the queue."""
    del slot
    with database.begin() as session:
        actions.requeue_reviews(session, at=now(), limit=SWEEP)
