"""What quality rules do by themselves."""

from market.broker import job
from market.db import database, now
from market.quality_rules import actions
from market.quality_rules.queries import rules_due, rules_over


@job(queue="default", max_retries=2)
def apply_quality_rules(slot: str) -> None:
    """End rules whose time is over, and let the others act."""
    del slot
    with database.begin() as session:
        over, due = rules_over(session, at=now()), rules_due(session, at=now())
    for rule_id in over:
        with database.begin() as session:
            actions.expire_rule(session, rule_id, at=now())
    # A transaction each, so that one that fails does not hold the others up.
    for rule_id in due:
        with database.begin() as session:
            actions.apply_rule(session, rule_id, at=now())
