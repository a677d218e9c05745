"""What quality rules do by themselves."""

from market.broker import job
from market.db import database, now
from market.quality_rules import actions
from market.quality_rules.queries import rules_due, rules_over
from market.sweeps import sweep


@job(queue="default", max_retries=2)
def apply_quality_rules(slot: str) -> None:
    """End rules whose time is over, and let the others act."""
    del slot
    with database.begin() as session:
        over, due = rules_over(session, at=now()), rules_due(session, at=now())
    acts = [
        *((actions.expire_rule, one) for one in over),
        *((actions.apply_rule, one) for one in due),
    ]
    sweep(acts, lambda session, one: one[0](session, one[1], at=now()))
