"""What a decided case takes back and leaves alone; payouts taken out, and money brought back."""

from datetime import date
from uuid import UUID, uuid4

import pytest

from payouts import chart
from payouts.bank_models import Recovery
from payouts.calls import FactKind
from payouts.decisions import stop_payout
from payouts.errors import PayoutStateConflict
from payouts.holds import open_holds
from payouts.ledger import Line, post_entry
from payouts.models import ExternalCall, Payout
from payouts.outcomes import Result
from payouts.recoveries import DecidedCase, claw_back, write_off_old
from payouts.reversals import plan_reversal
from payouts.states import CallState, PayoutState
from payouts.transfers import clear_hold
from payouts.withdrawals import plan_recall, unsent_of_run, withdraw_payout
from tests.payouts.scene import AT_ONCE, Scene, batched, check_under_way

LATER = (date(2026, 11, 29), date(2026, 12, 6), date(2026, 12, 13))


def decided(scene: Scene, owner_id: UUID, pay_minor: int, fee_minor: int = 0) -> chart.AccountRef:
    """A case gives a project back what was paid wrongly."""
    project = chart.project_budget(uuid4(), scene.lab_id)
    with scene.begin() as session:
        fee = Line(chart.lab_funding(scene.lab_id), chart.platform_fee(), max(fee_minor, 1))
        post_entry(session, key=f"fee:{uuid4()}", kind="fee", lines=[fee], at=scene.now())
        case = DecidedCase(uuid4(), uuid4(), "The work was copied from a book.")
        for _ in range(2):
            claw_back(
                session,
                case=case,
                owner_id=owner_id,
                project=project,
                pay_minor=pay_minor,
                fee_minor=fee_minor,
                at=scene.now(),
            )
    return project


def recovery(scene: Scene) -> Recovery:
    with scene.begin() as session:
        return session.query(Recovery).one()


def test_a_case_gives_the_project_its_money_and_takes_half_of_each_later_payout(
    scene: Scene,
) -> None:
    owner_id = scene.payee().owner_id
    scene.fund(1_000_000)
    project = decided(scene, owner_id, 7_000, fee_minor=1_400)
    assert scene.posted(project) == 8_400
    paid = []
    for period_end in LATER:
        scene.earn(owner_id, 5_001)
        payout = scene.open(owner_id, period_end)
        assert payout.state == PayoutState.BATCHED
        paid.append((payout.amount_minor, payout.recovered_minor))
        scene.insist(payout.call_id)
    assert paid == [(2_501, 2_500), (2_501, 2_500), (3_001, 2_000)]
    assert scene.posted(chart.receivable_from(owner_id)) == 0
    assert recovery(scene).closed_at is not None
    assert recovery(scene).recovered_minor == 7_000


def test_what_is_still_at_stripe_is_reversed_and_counts_towards_its_case(scene: Scene) -> None:
    scene.stripe.ask("POST", "/_clock", paused=True)
    payout = batched(scene, 9_000)
    scene.insist(payout.call_id)
    decided(scene, payout.owner_id, 4_000)
    with scene.begin() as session:
        call = plan_reversal(
            session, payout_id=payout.id, amount_minor=4_000, decided_by=uuid4(), at=scene.now()
        )
    scene.insist(call.id)
    assert recovery(scene).recovered_minor == 4_000
    assert scene.posted(chart.receivable_from(payout.owner_id)) == 0
    scene.agrees(payout.owner_id)
    scene.stripe.ask("POST", "/_clock", paused=False)


def test_what_is_on_its_way_back_is_not_taken_again_from_pay_nor_given_up(scene: Scene) -> None:
    scene.stripe.ask("POST", "/_clock", paused=True)
    payout = batched(scene, 9_000)
    owner_id = payout.owner_id
    scene.insist(payout.call_id)
    decided(scene, owner_id, 4_000)
    with scene.begin() as session:
        call = plan_reversal(
            session, payout_id=payout.id, amount_minor=3_000, decided_by=uuid4(), at=scene.now()
        )
    scene.earn(owner_id, 5_000)
    later = scene.open(owner_id, LATER[0])
    assert (later.amount_minor, later.recovered_minor) == (4_000, 1_000)
    scene.pass_time(days=181)
    with scene.begin() as session:
        assert write_off_old(session, at=scene.now()) == []
    scene.insist(call.id)
    assert (recovery(scene).recovered_minor, recovery(scene).written_off_minor) == (4_000, 0)
    assert recovery(scene).closed_at is not None
    assert scene.posted(chart.receivable_from(owner_id)) == 0
    scene.stripe.ask("POST", "/_clock", paused=False)


def test_one_case_whose_money_is_on_its_way_keeps_no_other_from_being_given_up(
    scene: Scene,
) -> None:
    payout = batched(scene, 9_000)
    scene.insist(payout.call_id)
    decided(scene, payout.owner_id, 4_000)
    with scene.begin() as session:
        plan_reversal(
            session, payout_id=payout.id, amount_minor=3_000, decided_by=uuid4(), at=scene.now()
        )
    other = scene.payee().owner_id
    decided(scene, other, 2_000)
    scene.pass_time(days=181)
    for _ in range(2):
        with scene.begin() as session:
            write_off_old(session, at=scene.now())
    assert scene.posted(chart.receivable_from(payout.owner_id)) == 4_000
    assert scene.posted(chart.receivable_from(other)) == 0
    assert scene.posted(chart.dispute_loss()) == 2_000


def test_what_was_not_recovered_in_half_a_year_is_our_loss(scene: Scene) -> None:
    owner_id = scene.payee().owner_id
    scene.fund(100_000)
    decided(scene, owner_id, 3_000)
    with scene.begin() as session:
        assert write_off_old(session, at=scene.now()) == []
    scene.pass_time(days=181)
    for _ in range(2):
        with scene.begin() as session:
            write_off_old(session, at=scene.now())
    assert recovery(scene).written_off_minor == 3_000
    assert scene.posted(chart.dispute_loss()) == 3_000
    assert scene.posted(chart.receivable_from(owner_id)) == 0


def test_a_withdrawn_payout_is_free_to_be_paid_again_in_the_same_period(scene: Scene) -> None:
    payout = batched(scene, 6_000)
    by = uuid4()
    with scene.begin() as session:
        facts = withdraw_payout(session, payout.id, by=by, note="Run again.", at=scene.now())
    assert [fact.kind for fact in facts] == [FactKind.PAYOUT_WITHDRAWN]
    assert scene.payout(payout.id).state == PayoutState.CANCELLED
    assert scene.available(chart.owed_to(payout.owner_id)) == 6_000
    assert scene.run(payout.call_id).result is Result.REFUSED
    again = scene.open(payout.owner_id)
    assert (again.id == payout.id, again.amount_minor) == (False, 6_000)
    assert scene.insist(again.call_id).result is Result.CONFIRMED
    assert len(scene.stripe.every("transfer")) == 1
    with scene.begin() as session, pytest.raises(PayoutStateConflict):
        withdraw_payout(session, again.id, by=by, note="Too late.", at=scene.now())


def test_a_payout_that_may_have_been_sent_cannot_be_withdrawn(scene: Scene) -> None:
    payout = batched(scene)
    scene.stripe.fault("post /v1/transfers", "drop_after")
    scene.run(payout.call_id)
    with scene.begin() as session:
        assert session.get_one(ExternalCall, payout.call_id).state == CallState.SENT
    with scene.begin() as session, pytest.raises(PayoutStateConflict):
        withdraw_payout(session, payout.id, by=uuid4(), note="Stop.", at=scene.now())
    assert scene.insist(payout.call_id).result is Result.CONFIRMED


def test_who_withdraws_what_was_planned_anew_meanwhile_takes_nothing_from_under_its_transfer(
    scene: Scene,
) -> None:
    payout = batched(scene, 6_000)
    by = uuid4()
    with scene.begin() as stale:
        # Seen with the transfer that was planned first, and kept so by this session.
        seen = stale.get_one(Payout, payout.id)
        with scene.begin() as session:
            reason = check_under_way(scene)
            stop_payout(session, payout.id, reason=reason, by=by, at=scene.now())
        with scene.begin() as session:
            (hold,) = open_holds(session, payout.id)
            clear_hold(session, hold.id, by=by, note="clean", at=scene.now(), policy=AT_ONCE)
        with pytest.raises(PayoutStateConflict):
            withdraw_payout(stale, seen.id, by=by, note="Stop.", at=scene.now())
    again = scene.payout(payout.id)
    assert (again.state, again.call_id == payout.call_id) == (PayoutState.BATCHED, False)
    assert scene.insist(again.call_id).result is Result.CONFIRMED


def test_money_that_a_bank_sent_back_is_owed_again_and_paid_anew(scene: Scene) -> None:
    payout = batched(scene, 8_000)
    scene.insist(payout.call_id)
    scene.deliver()
    scene.deliver()
    (out,) = scene.stripe.every("payout")
    scene.stripe.ask("POST", f"/_payouts/{out['id']}/fail")
    scene.deliver()
    failed = scene.payout(payout.id)
    assert failed.state == PayoutState.RETURNED
    assert "closed" in (failed.failure_text or "")
    with scene.begin() as session:
        call = plan_recall(
            session, payout_id=payout.id, by=uuid4(), reason="Bank closed.", at=scene.now()
        )
    scene.stripe.fault("post /v1/transfers/{id}/reversals", "drop_after")
    assert scene.insist(call.id).result is Result.CONFIRMED
    assert scene.payout(payout.id).state == PayoutState.CANCELLED
    assert FactKind.PAYOUT_RECALLED in scene.kinds()
    assert scene.available(chart.owed_to(payout.owner_id)) == 8_000
    assert scene.posted(chart.receivable_from(payout.owner_id)) == 0
    scene.agrees(payout.owner_id)
    scene.stripe.ask("POST", f"/_accounts/{payout.destination}/bank")
    scene.deliver()
    again = scene.open(payout.owner_id)
    assert again.amount_minor == 8_000


def test_the_unsent_payouts_of_a_run_are_found(scene: Scene) -> None:
    payout = batched(scene)
    run_id = uuid4()
    with scene.begin() as session:
        session.get_one(Payout, payout.id).run_id = run_id
    with scene.begin() as session:
        assert unsent_of_run(session, run_id) == [payout.id]
    scene.insist(payout.call_id)
    with scene.begin() as session:
        assert unsent_of_run(session, run_id) == []
