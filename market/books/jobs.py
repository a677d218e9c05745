"""Keeping the books, by the clock, and proving them against Stripe's."""

from datetime import timedelta
from uuid import UUID

import structlog

from market.books.actions import open_check, publish
from market.books.queries import EVERY_INVARIANT, broken_by, owners_touched
from market.books.rules import SUBJECTS_KEPT, BooksBroken, BreaksOverdue, ProofsBroken
from market.broker import job
from market.db import database, now
from market.operations import end_operation, is_cancelled, report_progress
from market.treasury.actions import gateway, has_stripe
from market.treasury.queries import at_stripe
from payouts.ledger import chain_entries, fold_hot_accounts, void_expired
from payouts.proofs import check_proofs
from payouts.reconciliation import Reconciled, reconcile

log = structlog.get_logger(__name__)

CHAIN = 1000
"""How many entries are linked into the hash chain in one transaction."""

WATCH_FOR = timedelta(days=45)
"""How long after a transfer an expert's balance at Stripe is still looked at line by line."""


@job(queue="money")
def keep_books(slot: str) -> None:
    """Fold what stands loose, lengthen the hash chain, let go what was promised for too long."""
    del slot
    with database.begin() as session:
        fold_hot_accounts(session)
    _lengthen_chain()
    with database.begin() as session:
        void_expired(session, at=now())


def _lengthen_chain() -> None:
    linked = CHAIN
    while linked == CHAIN:
        # A transaction each, since the chain is locked until its end.
        with database.begin() as session:
            linked = chain_entries(session, CHAIN)


@job(queue="money", max_retries=1, time_limit_s=3600)
def check_books(slot: str) -> None:
    """Look for anything in the books that must not be; what is found fails this job, so that ops
    have it among the jobs that died.
    """
    del slot
    with database.begin() as session:
        subject_id = open_check(session, by=None, at=now()).subject_id
    found = _look(subject_id)
    if found:
        raise BooksBroken(found)


@job(queue="money", max_retries=1, time_limit_s=3600)
def check_books_now(subject_id: str) -> None:
    """The same when ops ask for it, who read what was found where they asked."""
    _look(UUID(subject_id))


def _look(subject_id: UUID) -> list[str]:
    """Look at every invariant, one transaction each, and keep what each is not true of; until
    somebody stops it.
    """
    found: dict[str, list[str]] = {}
    told: list[str] = []
    for done, invariant in enumerate(EVERY_INVARIANT):
        with database.begin() as session:
            if is_cancelled(session, subject_id):
                break
            violations = broken_by(session, invariant)
            report_progress(
                session,
                subject_id,
                phase=invariant,
                done=done + 1,
                total=len(EVERY_INVARIANT),
                at=now(),
            )
        found[invariant] = [one.subject for one in violations[:SUBJECTS_KEPT]]
        told += [str(one) for one in violations]
    if told:
        log.error("books.broken", found=told[:SUBJECTS_KEPT], violations=len(told))
    with database.begin() as session:
        result = {"violations": len(told), "broken_by": found}
        end_operation(session, subject_id, at=now(), result=result)
    return told


@job(queue="money", time_limit_s=3600)
def prove_books(slot: str) -> None:
    """Match every line of Stripe's with the books and publish the proof of the day.

    A break that nobody has explained within a day, or books that are not what was published
    about them, fail this job after the proof is out, so that ops have it among the jobs that died.
    """
    del slot
    if not has_stripe():
        return
    found = _prove()
    with database.begin() as session:
        wrong = check_proofs(session)
    if wrong:
        raise ProofsBroken(wrong)
    if found.overdue_breaks:
        raise BreaksOverdue(found.overdue_breaks)


@job(queue="money", max_retries=2, time_limit_s=3600)
def reconcile_now(asked_id: str) -> None:
    """The same when somebody asks."""
    prove_books(asked_id)


def _prove() -> Reconciled:
    with database.begin() as session:
        owners = owners_touched(session, since=now() - WATCH_FOR)
    found = reconcile(database.begin, gateway(), now=now, owners=owners)
    _lengthen_chain()
    with database.begin() as session:
        proof = publish(session, found, at_stripe(session), at=now())
        log.info("books.proved", number=proof.number, digest=proof.digest, breaks=found.open_breaks)
    if found.unread:
        log.warning("books.accounts_unread", owners=[str(one) for one in found.unread])
    return found
