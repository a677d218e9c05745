"""Payouts of a period opened for many at once: each as if alone, in the same few statements."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, select, text

from market.db import database
from payouts import chart
from payouts.bank_models import Recovery
from payouts.holds import HoldPolicy, open_holds
from payouts.ledger import Line, post_entry
from payouts.models import ExternalCall, Payee, Payout, PayoutMove
from payouts.opening import Opened, open_payouts
from payouts.recoveries import DecidedCase, Owner, claw_back
from payouts.states import CallState, HoldCode, PayoutState
from tests.payouts.scene import AT_ONCE, PERIOD_END, Scene

LEAST = HoldPolicy(first_payout_wait=timedelta(0), minimum_minor={"USD": 1_000})


def fund(scene: Scene) -> None:
    """Money of the lab's in the books; nothing here asks Stripe for it."""
    line = Line(chart.stripe_clearing(), chart.lab_funding(scene.lab_id), 1_000_000)
    with scene.begin() as session:
        post_entry(session, key=f"fund:{uuid4()}", kind="fund", lines=[line], at=scene.now())


def owed(scene: Scene, amount_minor: int, *, is_payee: bool = True, country: str = "US") -> Owner:
    """Somebody whom an amount is owed, with an account at Stripe or without."""
    owner_id = uuid4()
    if is_payee:
        with scene.begin() as session:
            session.add(
                Payee(
                    owner_id=owner_id,
                    country=country,
                    created_at=scene.now() - timedelta(days=1),
                    account_id=f"acct_{owner_id.hex[:16]}",
                    transfers_status="active",
                )
            )
    if amount_minor:
        scene.earn(owner_id, amount_minor)
    return owner_id, "USD"


def open_all(scene: Scene, owners: list[Owner], policy: HoldPolicy = AT_ONCE) -> Opened:
    """One run over everybody."""
    with scene.begin() as session:
        return open_payouts(
            session, owners, period_end=PERIOD_END, at=scene.now(), policy=policy, run_id=uuid4()
        )


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements that are sent meanwhile, but for those that begin a transaction."""
    sent: list[str] = []

    def note(_c: object, _u: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def test_each_of_many_is_decided_on_as_if_alone(scene: Scene) -> None:
    fund(scene)
    ready, small, stranger = owed(scene, 5_000), owed(scene, 999), owed(scene, 700, is_payee=False)
    nothing, there, in_debt = owed(scene, 0), owed(scene, 4_000), owed(scene, 6_000)
    unexplained = owed(scene, 3_000)
    open_all(scene, [there])
    project = chart.project_budget(uuid4(), scene.lab_id)
    with scene.begin() as session:
        case = DecidedCase(uuid4(), uuid4(), "The work was another's.")
        claw_back(
            session,
            case=case,
            owner_id=in_debt[0],
            project=project,
            pay_minor=8_000,
            fee_minor=0,
            at=scene.now(),
        )
        line = Line(chart.receivable_from(*unexplained), project, 1)
        post_entry(session, key="oops", kind="oops", lines=[line], at=scene.now())
    everybody = [ready, small, stranger, nothing, there, in_debt, unexplained]
    opened = open_all(scene, everybody, LEAST)
    found = {owner: one.amount_minor for owner, one in opened.payouts.items()}
    assert found == {
        ready: 5_000,
        small: 999,
        stranger: 700,
        there: 4_000,
        # Half of it went to what the case wants.
        in_debt: 3_000,
        unexplained: 3_000,
    }
    assert there not in {(one.owner_id, one.currency) for one in opened.new}
    assert len(opened.facts) == len(opened.new) == 5
    with scene.begin() as session:
        held = {
            owner: [hold.code for hold in open_holds(session, one.id)]
            for owner, one in opened.payouts.items()
            if one.state == PayoutState.HELD
        }
        calls = session.scalars(select(ExternalCall.subject_id).order_by(ExternalCall.id)).all()
        moves = session.scalars(
            select(PayoutMove.action)
            .where(PayoutMove.payout_id == opened.payouts[small].id)
            .order_by(PayoutMove.number)
        ).all()
        left = session.scalars(select(Recovery.amount_minor - Recovery.recovered_minor)).all()
    assert held == {
        small: [HoldCode.MINIMUM],
        stranger: [HoldCode.PAYEE_REQUIREMENTS, HoldCode.MINIMUM],
        unexplained: [HoldCode.RECEIVABLE],
    }
    assert calls == [opened.payouts[one].id for one in (there, ready, in_debt)]
    assert moves == ["lock_period", "hold"]
    assert left == [5_000]
    for owner, one in opened.payouts.items():
        assert scene.available(chart.owed_to(*owner)) == 0
        assert scene.payout(one.id).reservation_key == f"payout:{one.id}:1"


@pytest.mark.parametrize("is_payee", [True, False])
def test_ten_owners_take_as_many_statements_as_two(scene: Scene, is_payee: bool) -> None:
    fund(scene)
    counts = []
    for many in (2, 10):
        owners = [owed(scene, 1_000, is_payee=is_payee) for _ in range(many)]
        with counted() as sent:
            opened = open_all(scene, owners)
        assert len(opened.new) == many
        counts.append(len(sent))
    assert counts[0] == counts[1]


def test_what_a_refusal_gives_back_at_the_same_moment_is_not_paid_twice(scene: Scene) -> None:
    fund(scene)
    owner = owed(scene, 5_000)
    first = open_all(scene, [owner]).payouts[owner]
    scene.earn(owner[0], 1_000)
    # Stripe knows no such account, and refuses.
    refusing = threading.Thread(target=scene.run, args=(first.call_id,))
    waits = text(
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )

    def between(_c: object, _u: object, statement: str, *_others: object) -> None:
        if refusing.ident is not None or "ledger_balance" not in statement:
            return
        refusing.start()
        for _ in range(1200):
            with scene.begin() as session:
                # Only the login itself sees what its other connections wait for.
                session.execute(text("reset role"))
                if not refusing.is_alive() or session.scalar(waits):
                    return
            refusing.join(0.1)

    event.listen(database.engine, "before_cursor_execute", between)
    try:
        with scene.begin() as session:
            opened = open_payouts(
                session,
                [owner],
                period_end=PERIOD_END + timedelta(days=7),
                at=scene.now(),
                policy=AT_ONCE,
            )
    finally:
        event.remove(database.engine, "before_cursor_execute", between)
    refusing.join(120)
    assert scene.payout(first.id).state == PayoutState.HELD
    assert opened.payouts[owner].amount_minor == 1_000
    assert scene.available(chart.owed_to(*owner)) == 5_000
    # What was given back is still that payout's, and no part of the next.
    scene.earn(owner[0], 500)
    assert scene.open(owner[0], PERIOD_END + timedelta(days=14)).amount_minor == 500


def test_runs_at_once_over_the_same_owners_in_any_order_open_one_payout_each(scene: Scene) -> None:
    fund(scene)
    owners = [owed(scene, 1_000) for _ in range(8)]
    gate = threading.Barrier(4)
    new: list[UUID] = []

    def run(order: list[Owner]) -> None:
        gate.wait()
        new.extend(one.id for one in open_all(scene, order).new)

    threads = [
        threading.Thread(target=run, args=(owners[n:] + owners[:n],)) for n in range(0, 8, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert len(new) == 8
    with scene.begin() as session:
        assert len(session.scalars(select(Payout)).all()) == 8
        states = session.scalars(select(ExternalCall.state)).all()
    assert states == [CallState.PLANNED] * 8
