"""Keeping the books, by the clock."""

import structlog

from market.books.rules import BooksBroken
from market.broker import job
from market.db import database, now
from market.earnings.queries import unbacked_lines
from market.work.queries import unproven_time
from payouts.invariants import violations
from payouts.ledger import chain_entries, fold_hot_accounts, void_expired

log = structlog.get_logger(__name__)

CHAIN = 1000
"""How many entries are linked into the hash chain in one transaction."""


@job(queue="money")
def keep_books(slot: str) -> None:
    """Fold what stands loose, lengthen the hash chain, let go what was promised for too long."""
    del slot
    with database.begin() as session:
        fold_hot_accounts(session)
    linked = CHAIN
    while linked == CHAIN:
        # A transaction each, since the chain is locked until its end.
        with database.begin() as session:
            linked = chain_entries(session, CHAIN)
    with database.begin() as session:
        void_expired(session, at=now())


@job(queue="money", max_retries=1, time_limit_s=3600)
def check_books(slot: str) -> None:
    """Look for anything in the books that must not be; what is found fails this job, so that ops
    have it among the jobs that died.
    """
    del slot
    with database.begin() as session:
        found = [
            f"{one.invariant}: {one.sentence} Not true of {one.subject}."
            for one in violations(session)
        ]
        found += unbacked_lines(session) + unproven_time(session)
    if found:
        log.error("books.broken", found=found)
        raise BooksBroken(found)
