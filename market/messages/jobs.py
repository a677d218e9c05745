"""Writing the copies of a message, a lot at a time."""

from itertools import islice
from uuid import UUID

from market.broker import job
from market.db import database, now
from market.messages.actions import finish_message, people_to_tell, write_copies
from market.settings import in_force

LOT = 200
"""How many people are told in one transaction."""


@job(queue="default", line="slow", max_retries=8, time_limit_s=3600)
def tell_cohort(message_id: str) -> None:
    """Tell everybody for whom the message's expression holds; who was told is not told again."""
    wanted = UUID(message_id)
    with database.begin() as session:
        waiting = iter(people_to_tell(session, wanted, at=now()))
    while lot := list(islice(waiting, LOT)):
        with database.begin() as session:
            write_copies(session, wanted, lot, has_mail=bool(in_force.settings.smtp_host), at=now())
    with database.begin() as session:
        finish_message(session, wanted, at=now())
