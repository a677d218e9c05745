"""What becomes of feeds by themselves."""

from datetime import timedelta

from market.broker import job
from market.db import database, now
from market.feeds import trim_feeds

KEPT = timedelta(days=30)
"""How far back a stream can be resumed; the events themselves are kept."""


@job(queue="default", max_retries=2)
def forget_old_places(slot: str) -> None:
    """Stop telling, in feeds, what is older than a month."""
    del slot
    with database.begin() as session:
        trim_feeds(session, before=now() - KEPT)
