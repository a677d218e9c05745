"""An expert whose account keeps another currency than the project pays in."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from payouts import chart
from payouts.bank_models import Conversion
from payouts.conversions import rate_of, record_arrivals
from payouts.invariants import violations
from payouts.ledger import Line, post_entry, trial_balance
from payouts.models import Payout
from payouts.proof_models import Break, StripeLine
from payouts.reconciliation import Reconciled, reconcile
from payouts.reversals import plan_reversal
from payouts.seen import TransactionSeen
from payouts.states import PayoutState
from payouts.withdrawals import plan_recall
from tests.payouts.scene import Scene, batched


@pytest.fixture
def abroad(scene: Scene) -> Iterator[Payout]:
    """A payout in dollars, planned to an account that keeps euros; no bank is paid meanwhile."""
    scene.stripe.ask("POST", "/_clock", paused=True)
    payout = batched(scene, 10_000)
    scene.stripe.ask("POST", f"/_accounts/{payout.destination}/currency", currency="eur")
    _rate(scene, "usd", "eur", "0.9215")
    yield payout
    scene.stripe.ask("POST", "/_clock", paused=False)


def _rate(scene: Scene, source: str, target: str, rate: str) -> None:
    scene.stripe.ask("POST", "/_rates", **{"from": source, "to": target, "rate": rate})


def _lines(scene: Scene, payout: Payout) -> list[TransactionSeen]:
    """The lines of the expert's balance at Stripe."""
    since = datetime(2020, 1, 1, tzinfo=UTC)
    return list(scene.gateway.transactions(since=since, account_id=payout.destination))


def _compare(scene: Scene, owner_id: UUID) -> Reconciled:
    return reconcile(scene.begin, scene.gateway, now=scene.now, owners=[owner_id])


def _sound(scene: Scene) -> None:
    with scene.begin() as session:
        assert [str(one) for one in violations(session)] == []
        assert session.query(Break).filter(Break.resolved_at.is_(None)).all() == []
    scene.stripe.assert_clean()


def _positions(scene: Scene) -> list[int]:
    return [scene.posted(chart.fx_position(currency)) for currency in ("USD", "EUR")]


def test_what_stripe_changes_is_booked_at_its_rate_and_leaves_no_position(
    scene: Scene, abroad: Payout
) -> None:
    scene.insist(abroad.call_id)
    owner_id = abroad.owner_id
    assert _compare(scene, owner_id).conversions_booked == 1
    assert _positions(scene) == [10_000, -9_215]
    assert scene.posted(chart.connected_balance(owner_id)) == 0
    assert scene.posted(chart.connected_balance(owner_id, "EUR")) == 9_215
    with scene.begin() as session:
        found = session.query(Conversion).one()
    assert Fraction(found.rate_numerator, found.rate_denominator) == Fraction("0.9215")
    assert (found.from_minor, found.to_minor, found.to_currency) == (10_000, 9_215, "EUR")
    _sound(scene)
    scene.stripe.ask("POST", "/_clock", paused=False)
    scene.deliver()
    scene.deliver()
    assert scene.payout(abroad.id).state == PayoutState.PAID
    assert scene.stripe.held(f"{abroad.destination}/bank", "eur") == 9_215
    assert _positions(scene) == [0, 0]
    assert scene.posted(chart.connected_balance(owner_id, "EUR")) == 0
    # Nothing is booked twice, and nobody has gained or lost anything by it.
    assert _compare(scene, owner_id).conversions_booked == 0
    assert scene.posted(chart.fx_gain_loss()) == 0
    _sound(scene)


def test_the_banks_payout_tells_of_the_rate_before_any_reconciliation(
    scene: Scene, abroad: Payout
) -> None:
    scene.insist(abroad.call_id)
    scene.stripe.ask("POST", "/_clock", paused=False)
    scene.deliver()
    scene.deliver()
    with scene.begin() as session:
        assert session.query(Conversion).one().to_minor == 9_215
    (out,) = scene.stripe.every("payout")
    scene.stripe.ask("POST", f"/_payouts/{out['id']}/fail")
    scene.deliver()
    assert scene.payout(abroad.id).state == PayoutState.RETURNED
    # It is on the expert's balance at Stripe again, in the currency that it was changed into.
    assert _positions(scene) == [10_000, -9_215]
    assert scene.posted(chart.connected_balance(abroad.owner_id, "EUR")) == 9_215
    _compare(scene, abroad.owner_id)
    _sound(scene)


def test_what_a_reversal_brings_back_less_is_our_loss_and_never_the_experts(
    scene: Scene, abroad: Payout
) -> None:
    scene.insist(abroad.call_id)
    _compare(scene, abroad.owner_id)
    scene.stripe.ask("POST", "/_clock", paused=False)
    scene.deliver()
    scene.deliver()
    (out,) = scene.stripe.every("payout")
    scene.stripe.ask("POST", f"/_payouts/{out['id']}/fail")
    scene.deliver()
    _rate(scene, "eur", "usd", "1.0500")
    with scene.begin() as session:
        call = plan_recall(
            session, payout_id=abroad.id, by=uuid4(), reason="The bank is closed.", at=scene.now()
        )
    scene.insist(call.id)
    _compare(scene, abroad.owner_id)
    # 92.15 euros came back as 96.76 dollars of the 100.00 that are owed again, whole.
    assert scene.available(chart.owed_to(abroad.owner_id)) == 10_000
    assert scene.posted(chart.fx_gain_loss()) == 10_000 - 9_676
    assert _positions(scene) == [0, 0]
    with scene.begin() as session:
        found = session.query(Conversion).one()
        assert (found.back_minor, found.lost_minor) == (9_215, 324)
        assert sum(row.debit_minor - row.credit_minor for row in trial_balance(session)) == 0
    _sound(scene)


def test_two_who_tell_of_one_transfer_at_once_book_it_once(scene: Scene, abroad: Payout) -> None:
    scene.insist(abroad.call_id)
    lines, booked = _lines(scene, abroad), list[int]()

    def tell() -> None:
        with scene.begin() as session:
            booked.append(len(record_arrivals(session, lines, at=scene.now())))

    other = threading.Thread(target=tell)
    with scene.begin() as session:
        assert len(record_arrivals(session, lines, at=scene.now())) == 1
        other.start()
        _wait_for_lock(scene)
    other.join(120)
    assert booked == [0]
    assert _positions(scene) == [10_000, -9_215]


def _wait_for_lock(scene: Scene) -> None:
    """Until another transaction waits for what this one has written."""
    waiting = text(
        "select count(*) from pg_locks l join pg_stat_activity a using (pid)"
        " where not l.granted and a.datname = current_database()"
    )
    pause = threading.Event()
    for _ in range(12_000):
        with scene.begin() as session:
            if session.scalar(waiting):
                return
        pause.wait(0.01)
    pytest.fail("nobody waits")


def test_what_the_books_cannot_keep_is_left_for_a_person_to_look_at(
    scene: Scene, abroad: Payout
) -> None:
    scene.insist(abroad.call_id)
    (line,) = _lines(scene, abroad)
    for strange in (replace(line, currency="LKR"), replace(line, net_minor=0)):
        with scene.begin() as session:
            assert record_arrivals(session, [strange], at=scene.now()) == []
    yen = replace(line, currency="JPY", net_minor=14_900, stated_rate=None)
    with scene.begin() as session:
        (found,) = record_arrivals(session, [yen], at=scene.now())
        # 100 dollars are 14,900 yen, which have no cents.
        assert rate_of(found) == "149"


def test_a_reversal_that_takes_more_than_arrived_leaves_nothing_of_it(
    scene: Scene, abroad: Payout
) -> None:
    scene.insist(abroad.call_id)
    _rate(scene, "eur", "usd", "1.0500")
    _take_back(scene, abroad)
    taken = next(one for one in _lines(scene, abroad) if one.category == "refund")
    with scene.begin() as session:
        session.add(
            StripeLine(
                id=taken.id,
                place=str(abroad.owner_id),
                type=taken.type,
                category=taken.category,
                amount_minor=-9_500,
                fee_minor=0,
                net_minor=-9_500,
                currency=taken.currency,
                source_id=taken.source_id,
                reference=f"refund:{taken.source_id}",
                created_at=taken.created_at,
                pulled_at=scene.now(),
            )
        )
    assert _compare(scene, abroad.owner_id).conversions_booked == 2
    with scene.begin() as session:
        assert session.query(Conversion).one().back_minor == 9_215
    assert scene.posted(chart.connected_balance(abroad.owner_id, "EUR")) == 9_215 - 9_500
    assert _positions(scene) == [6_000, 285]


def _take_back(scene: Scene, payout: Payout) -> None:
    """Take 40 dollars of a payout back, by a case."""
    with scene.begin() as session:
        owed = Line(chart.receivable_from(payout.owner_id), chart.lab_funding(scene.lab_id), 4_000)
        post_entry(session, key="case", kind="clawback", lines=[owed], at=scene.now())
        call = plan_reversal(
            session, payout_id=payout.id, amount_minor=4_000, decided_by=uuid4(), at=scene.now()
        )
    scene.insist(call.id)


def test_what_was_taken_back_is_not_at_the_bank_though_nobody_has_told_of_it_yet(
    scene: Scene, abroad: Payout
) -> None:
    scene.insist(abroad.call_id)
    _rate(scene, "eur", "usd", "1.1000")
    _take_back(scene, abroad)
    scene.stripe.ask("POST", "/_clock", paused=False)
    scene.deliver()
    scene.deliver()
    assert scene.payout(abroad.id).state == PayoutState.PAID
    assert scene.stripe.held(f"{abroad.destination}/bank", "eur") == 9_215 - 3_686
    _compare(scene, abroad.owner_id)
    assert _positions(scene) == [0, 0]
    assert scene.posted(chart.connected_balance(abroad.owner_id, "EUR")) == 0
    _sound(scene)


@pytest.mark.slow
def test_a_part_is_taken_back_by_a_case_and_the_rest_goes_to_the_bank(
    scene: Scene, abroad: Payout
) -> None:
    scene.insist(abroad.call_id)
    _rate(scene, "eur", "usd", "1.1000")
    owner_id = abroad.owner_id
    _take_back(scene, abroad)
    # The transfer and what was taken of it are told of in the same look.
    assert _compare(scene, owner_id).conversions_booked == 2
    assert scene.posted(chart.connected_balance(owner_id, "EUR")) == 9_215 - 3_686
    # 36.86 euros are 40.55 dollars by now: a gain.
    assert scene.posted(chart.fx_gain_loss()) == 4_000 - 4_055
    scene.stripe.ask("POST", "/_clock", paused=False)
    scene.deliver()
    scene.deliver()
    assert scene.payout(abroad.id).state == PayoutState.PAID
    assert _positions(scene) == [0, 0]
    _compare(scene, owner_id)
    _sound(scene)


def test_a_currency_that_stripe_does_not_change_into_is_refused_and_held_with_its_reason(
    scene: Scene, abroad: Payout
) -> None:
    scene.stripe.ask("POST", f"/_accounts/{abroad.destination}/currency", currency="jpy")
    scene.insist(abroad.call_id)
    found = scene.payout(abroad.id)
    assert (found.state, found.reservation_key) == (PayoutState.HELD, None)
    (held,) = [fact for fact in scene.facts if fact.kind == "payout_held"]
    assert "keeps jpy" in held.text
    assert scene.available(chart.owed_to(abroad.owner_id)) == 10_000
    with scene.begin() as session:
        assert session.query(Conversion).all() == []
    _sound(scene)
