"""Card disputes: what a lab's bank takes back, who bears it meanwhile, and who in the end."""

from uuid import uuid4

import pytest

from payouts import chart
from payouts.bank_models import CardDispute
from payouts.calls import FactKind
from payouts.disputes import plan_evidence
from payouts.errors import DisputeStateConflict, FloorBreached
from payouts.ledger import Line, post_entry, reserve
from payouts.models import ExternalCall
from payouts.states import CallState, CardDisputeState
from tests.payouts.scene import Scene

FEE = 1_500


def give(scene: Scene, amount_minor: int) -> chart.AccountRef:
    """The lab gives a project money."""
    budget = chart.project_budget(uuid4(), scene.lab_id)
    with scene.begin() as session:
        lines = [Line(chart.lab_funding(scene.lab_id), budget, amount_minor)]
        post_entry(session, key=f"give:{uuid4()}", kind="give", lines=lines, at=scene.now())
    return budget


def spend(scene: Scene, budget: chart.AccountRef, amount_minor: int) -> None:
    """Work on a project becomes owed to an expert."""
    with scene.begin() as session:
        lines = [Line(budget, chart.owed_to(uuid4()), amount_minor)]
        post_entry(session, key=f"spend:{uuid4()}", kind="earning", lines=lines, at=scene.now())


def disputed(scene: Scene, **how: object) -> str:
    """The lab's bank disputes its only charge, and the webhooks of it are taken in."""
    (charge,) = scene.stripe.every("charge")
    made = scene.stripe.ask("POST", f"/_charges/{charge['id']}/dispute", **how)
    scene.deliver()
    return str(made["id"])


def close(scene: Scene, stripe_id: str, *, won: bool) -> None:
    scene.stripe.ask("POST", f"/_disputes/{stripe_id}/close", won=won)
    scene.deliver()


def kept(scene: Scene) -> CardDispute:
    with scene.begin() as session:
        return session.query(CardDispute).one()


def worked(scene: Scene) -> chart.AccountRef:
    """The design's example: 500.00 by card, 300.00 given to a project, 120.00 of it spent."""
    scene.fund(50_000)
    scene.deliver()
    budget = give(scene, 30_000)
    spend(scene, budget, 12_000)
    return budget


def test_an_open_dispute_withholds_free_money_and_then_unspent_budget(scene: Scene) -> None:
    budget = worked(scene)
    disputed(scene)
    found = kept(scene)
    assert (found.state, found.taken_minor, found.withheld_minor) == (
        CardDisputeState.OPEN,
        50_000,
        38_000,
    )
    assert scene.available(chart.lab_funding(scene.lab_id)) == 0
    assert scene.available(budget) == 0
    assert scene.posted(chart.dispute_clearing(scene.lab_id)) == 50_000
    # No new work can be promised from the project meanwhile.
    line = Line(budget, chart.owed_to(uuid4()), 1)
    with scene.begin() as session, pytest.raises(FloorBreached):
        reserve(session, key="more", kind="work", lines=[line], at=scene.now())
    assert scene.kinds().count(FactKind.DISPUTE_OPENED) == 1
    scene.agrees()


def test_a_lost_dispute_ends_as_the_design_books_it(scene: Scene) -> None:
    budget = worked(scene)
    stripe_id = disputed(scene)
    close(scene, stripe_id, won=False)
    assert kept(scene).state == CardDisputeState.LOST
    assert scene.posted(chart.lab_funding(scene.lab_id)) == 0
    assert scene.posted(budget) == 0
    assert scene.posted(chart.dispute_clearing(scene.lab_id)) == 0
    assert scene.posted(chart.dispute_loss()) == 12_000
    scene.agrees()


def test_a_won_dispute_gives_everything_back_but_its_fee(scene: Scene) -> None:
    budget = worked(scene)
    before = scene.posted(chart.stripe_fees())
    stripe_id = disputed(scene)
    close(scene, stripe_id, won=True)
    assert kept(scene).state == CardDisputeState.WON
    assert scene.available(chart.lab_funding(scene.lab_id)) == 20_000
    assert scene.available(budget) == 18_000
    assert scene.posted(chart.dispute_clearing(scene.lab_id)) == 0
    assert scene.posted(chart.stripe_fees()) == before + FEE
    scene.agrees()


def test_every_webhook_of_a_dispute_twice_and_backwards_changes_nothing(scene: Scene) -> None:
    worked(scene)
    (charge,) = scene.stripe.every("charge")
    made = scene.stripe.ask("POST", f"/_charges/{charge['id']}/dispute")
    scene.stripe.ask("POST", f"/_disputes/{made['id']}/close", won=False)
    scene.stripe.settle()
    letters = scene.mailbox.take()
    for event_id in scene.store(list(reversed(letters))):
        scene.apply(event_id)
    assert scene.store(letters) == []
    assert kept(scene).state == CardDisputeState.LOST
    assert scene.posted(chart.dispute_loss()) == 12_000
    assert scene.kinds().count(FactKind.DISPUTE_LOST) == 1
    scene.agrees()


@pytest.mark.parametrize("won", [True, False])
def test_a_payment_disputed_before_it_settled_is_withheld_where_it_is(
    scene: Scene, won: bool
) -> None:
    scene.stripe.ask("POST", "/_clock", paused=True)
    scene.fund(50_000, "pm_card_visa")
    (charge,) = scene.stripe.every("charge")
    made = scene.stripe.ask("POST", f"/_charges/{charge['id']}/dispute")
    scene.store(scene.mailbox.take())
    unsettled = chart.lab_funding_unsettled(scene.lab_id)
    assert scene.posted(unsettled) == 50_000
    scene.stripe.ask("POST", "/_clock", paused=False)
    scene.deliver()
    close(scene, made["id"], won=won)
    assert scene.posted(unsettled) == 0
    assert scene.posted(chart.lab_funding(scene.lab_id)) == (50_000 if won else 0)
    assert scene.posted(chart.dispute_loss()) == 0
    scene.agrees()


def test_an_inquiry_takes_nothing_until_it_becomes_a_dispute(scene: Scene) -> None:
    worked(scene)
    stripe_id = disputed(scene, inquiry=True)
    assert (kept(scene).state, kept(scene).withheld_minor) == (CardDisputeState.INQUIRY, 0)
    assert scene.available(chart.lab_funding(scene.lab_id)) == 20_000
    scene.stripe.ask("POST", f"/_disputes/{stripe_id}/escalate")
    scene.deliver()
    assert (kept(scene).state, kept(scene).withheld_minor) == (CardDisputeState.OPEN, 38_000)
    scene.agrees()


def test_an_inquiry_that_ends_leaves_nothing_behind(scene: Scene) -> None:
    worked(scene)
    stripe_id = disputed(scene, inquiry=True)
    close(scene, stripe_id, won=True)
    assert kept(scene).state == CardDisputeState.CLOSED
    assert scene.available(chart.lab_funding(scene.lab_id)) == 20_000


def test_evidence_is_kept_as_it_was_sent_and_sent_once(scene: Scene) -> None:
    worked(scene)
    disputed(scene)
    by = uuid4()
    with scene.begin() as session:
        call = plan_evidence(
            session,
            kept(scene).id,
            evidence={"uncategorized_text": "Work was done and accepted."},
            by=by,
            at=scene.now(),
        )
    scene.stripe.fault("post /v1/disputes/{dispute}", "drop_after")
    scene.insist(call.id)
    with scene.begin() as session:
        done = session.get_one(ExternalCall, call.id)
        assert (done.state, done.approved_by) == (CallState.CONFIRMED, by)
        assert "Work was done and accepted." in done.params
    (at_stripe,) = scene.stripe.every("dispute")
    assert at_stripe["evidence_details"]["submission_count"] == 1
    assert at_stripe["status"] == "under_review"
    with scene.begin() as session, pytest.raises(DisputeStateConflict):
        plan_evidence(session, kept(scene).id, evidence={}, by=by, at=scene.now())


def test_refused_evidence_can_be_sent_again(scene: Scene) -> None:
    worked(scene)
    disputed(scene)
    scene.stripe.fault("post /v1/disputes/{dispute}", "refuse", status=400, code="invalid")
    for _ in range(2):
        with scene.begin() as session:
            call = plan_evidence(
                session,
                kept(scene).id,
                evidence={"uncategorized_text": "Again."},
                by=uuid4(),
                at=scene.now(),
            )
        scene.insist(call.id)
    with scene.begin() as session:
        assert session.get_one(ExternalCall, call.id).state == CallState.CONFIRMED


def test_a_dispute_that_finds_nothing_left_is_our_loss_and_no_experts(scene: Scene) -> None:
    scene.fund(50_000)
    scene.deliver()
    budget = give(scene, 50_000)
    spend(scene, budget, 50_000)
    close(scene, disputed(scene), won=False)
    assert scene.posted(chart.dispute_loss()) == 50_000
    scene.agrees()
