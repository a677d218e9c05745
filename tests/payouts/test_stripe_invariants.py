"""That the queries about the way to Stripe see what was broken by force."""

from sqlalchemy import text
from sqlalchemy.orm import Session

from market.db import database
from payouts.invariants import INVARIANTS, LEDGER_INVARIANTS, violations
from payouts.reconciliation import reconcile
from payouts.stripe_invariants import STRIPE_INVARIANTS
from tests.payouts.scene import Scene, batched

BREAKS = (
    ("I15", "update payouts.transfer set stripe_id = 'tr_other'"),
    (
        "I16",
        "update payouts.external_call set params = replace(params, '13316', '13317')"
        " where operation = 'transfer' and state = 'confirmed'",
    ),
    ("I16", "update payouts.external_call set first_sent_at = planned_at where state = 'planned'"),
    ("I16", "update payouts.external_call set tries = 0 where state = 'confirmed'"),
    ("I17", "update payouts.payout set reservation_key = null where state = 'batched'"),
    ("I18", "delete from payouts.payout_move where number = 2"),
    ("I19", "update payouts.stripe_event set applied_at = null"),
    ("I20", "update payouts.stripe_line set net_minor = net_minor + 1"),
)


def test_every_invariant_of_stripes_side_has_a_way_to_be_broken_here() -> None:
    assert {invariant for invariant, _ in BREAKS} == set(STRIPE_INVARIANTS)
    assert set(INVARIANTS) == set(STRIPE_INVARIANTS) | set(LEDGER_INVARIANTS)


def test_the_queries_see_what_was_broken_between_us_and_stripe(scene: Scene) -> None:
    sent = batched(scene)
    scene.insist(sent.call_id)
    scene.deliver()
    reconcile(scene.begin, scene.gateway, now=scene.now)
    waiting = batched(scene, 5_000)
    assert waiting.call_id is not None
    # Only the owner of the tables can do what follows, and has to take its guards off first.
    with Session(database.engine) as owner:
        for table in ("transfer", "external_call", "payout", "payout_move", "stripe_line"):
            owner.execute(text(f"alter table payouts.{table} disable trigger user"))
        for invariant, statement in BREAKS:
            breaking = owner.begin_nested()
            owner.execute(text(statement))
            found = violations(owner)
            assert invariant in {one.invariant for one in found}, invariant
            assert any(INVARIANTS[invariant][0] in str(one) for one in found)
            breaking.rollback()
        assert violations(owner) == []
        owner.rollback()
