"""Keeping the audit log's chain."""

from market.audit.actions import chain_audit
from market.broker import job
from market.db import database

CHAIN = 1000
"""How many entries are linked in one transaction."""


@job(queue="default", max_retries=2)
def link_audit(slot: str) -> None:
    """Lengthen the chain by what was written since."""
    del slot
    linked = CHAIN
    while linked == CHAIN:
        # A transaction each, since the chain is locked until its end.
        with database.begin() as session:
            linked = chain_audit(session, CHAIN)
