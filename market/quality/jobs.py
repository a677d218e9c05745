"""What follows from verdicts for what is believed, and the refit of every night."""

from uuid import UUID

from market.broker import job
from market.db import database, now
from market.operations import is_cancelled, report_progress
from market.predictions.actions import (
    fail_refit,
    lock_present,
    request_refit,
    swap_version,
    take_refit,
)
from market.predictions.queries import in_force, last_seq, record, told_releases
from market.predictions.rules import attempts_of
from market.quality.actions import (
    catch_up,
    fitted,
    observe_offer,
    observe_verdict,
    tell_of_verdict,
    watch_cell,
)
from market.quality.queries import cell_of
from matching.responses import BadResponses

STAGES = 4


@job(queue="default", line="bulk", max_retries=8)
def learn_verdict(submission_id: str) -> None:
    """Let the stump model learn a verdict, and write what it now believes."""
    which = UUID(submission_id)
    with database.begin() as session:
        observe_verdict(session, which, at=now())
    # What is committed is learned; a state that is rolled back must not be.
    with database.begin() as session:
        tell_of_verdict(session, which, at=now())


@job(queue="default", line="bulk", max_retries=8)
def watch_frontier(submission_id: str) -> None:
    """See whether the level that a verdict belongs to has run dry."""
    with database.begin() as session:
        cell = cell_of(session, UUID(submission_id))
        if cell is not None:
            watch_cell(session, cell, at=now())


@job(queue="default", line="bulk", max_retries=8)
def learn_offer(offer_id: str) -> None:
    """Let the stump model learn of an offer that came to nothing."""
    with database.begin() as session:
        observe_offer(session, UUID(offer_id), at=now())


@job(queue="default", max_retries=2)
def refit_nightly(slot: str) -> None:
    """Ask for the refit of this night, unless one is under way."""
    del slot
    with database.begin() as session:
        request_refit(session, at=now())


@job(queue="solver", max_retries=8, time_limit_s=3600)
def refit_stump_model(fit_id: str) -> None:
    """Fit the record, then put the new version into force; until then the old one is."""
    which = UUID(fit_id)
    with database.begin() as session:
        if not take_refit(session, which, at=now()):
            return
    if not _report(which, "catching up", 0):
        return
    while True:
        with database.begin() as session:
            if not catch_up(session, at=now()):
                break
    if not _report(which, "reading", 1):
        return
    with database.begin() as session:
        # Whoever holds this row writes the log, so that no number before the last is still open.
        lock_present(session, at=now())
        through = last_seq(session)
        before = in_force(session)
        outcomes = record(session, through=through)
        releases = told_releases(session, through=through)
    if before is None:
        return
    rows = attempts_of(outcomes)
    if not _report(which, "fitting", 2):
        return
    try:
        model, seconds = fitted(before.content, before.rows, rows, releases)
    except BadResponses as refusal:
        with database.begin() as session:
            fail_refit(session, which, detail=str(refusal), at=now())
        return
    # One that was cancelled meanwhile is not swapped in.
    _report(which, "swapping", 3)
    with database.begin() as session:
        swap_version(
            session, which, model, rows=len(rows), through=through, seconds=seconds, at=now()
        )


def _report(fit_id: UUID, phase: str, done: int) -> bool:
    """Say how far a refit is; whether it is wanted still."""
    with database.begin() as session:
        report_progress(session, fit_id, phase=phase, done=done, total=STAGES, at=now())
        return not is_cancelled(session, fit_id)
