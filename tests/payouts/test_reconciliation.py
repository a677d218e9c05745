"""Reconciliation line by line: what agrees, what does not, and how a break ends."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from market.db import database
from payouts import chart
from payouts.breaks import assign_break, resolve_break
from payouts.errors import BreakNotBookable, UnknownBreak
from payouts.ledger import Line, post_entry
from payouts.proof_models import Break, BreakKind, Resolution, StripeLine
from payouts.reconciliation import Reconciled, reconcile
from payouts.reversals import plan_reversal
from tests.payouts.scene import Scene, batched


def compare(scene: Scene, *owners: UUID) -> Reconciled:
    return reconcile(scene.begin, scene.gateway, now=scene.now, owners=owners)


def breaks(scene: Scene) -> list[Break]:
    with scene.begin() as session:
        return session.query(Break).order_by(Break.id).all()


def paid(scene: Scene) -> UUID:
    """Money all the way from a lab to an expert's bank."""
    payout = batched(scene)
    scene.insist(payout.call_id)
    scene.deliver()
    scene.deliver()
    return payout.owner_id


def test_every_kind_of_movement_has_its_entry(scene: Scene) -> None:
    owner_id = paid(scene)
    # A card dispute, a refund, a fee of Stripe's own and a payout that comes back.
    charge = scene.stripe.every("charge")[-1]
    dispute = scene.stripe.ask("POST", f"/_charges/{charge['id']}/dispute", amount=20_000)
    scene.deliver()
    scene.stripe.ask("POST", f"/_disputes/{dispute['id']}/close", won=True)
    (out,) = scene.stripe.every("payout")
    scene.stripe.ask("POST", f"/_payouts/{out['id']}/fail")
    scene.stripe.ask("POST", "/_balance/fee", amount=250)
    scene.deliver()
    done = compare(scene, owner_id)
    assert breaks(scene) == []
    assert (done.fees_booked, done.open_breaks) == (1, 0)
    assert done.new_lines == done.lines >= 8
    scene.agrees(owner_id)
    again = compare(scene, owner_id)
    assert (again.new_lines, again.fees_booked, again.lines) == (0, 0, done.lines)


def test_a_reversal_is_matched_on_both_balances(scene: Scene) -> None:
    scene.stripe.ask("POST", "/_clock", paused=True)
    payout = batched(scene)
    scene.insist(payout.call_id)
    owner_id = payout.owner_id
    with scene.begin() as session:
        owed = Line(chart.receivable_from(owner_id), chart.lab_funding(scene.lab_id), 5_000)
        post_entry(session, key="case", kind="clawback", lines=[owed], at=scene.now())
        call = plan_reversal(
            session, payout_id=payout.id, amount_minor=5_000, decided_by=uuid4(), at=scene.now()
        )
    scene.insist(call.id)
    compare(scene, owner_id)
    assert breaks(scene) == []
    scene.stripe.ask("POST", "/_clock", paused=False)


def test_what_only_stripe_knows_is_a_break_until_a_person_puts_it_into_suspense(
    scene: Scene,
) -> None:
    owner_id = paid(scene)
    account = scene.seen(owner_id).account_id
    scene.stripe.ask("POST", f"/_accounts/{account}/take", amount=300)
    assert compare(scene, owner_id).opened == 1
    (found,) = breaks(scene)
    assert (found.kind, found.place, found.ours_minor, found.theirs_minor) == (
        BreakKind.THEIRS_NOT_OURS,
        str(owner_id),
        0,
        -300,
    )
    with scene.begin() as session:
        assign_break(session, found.id, to=uuid4())
        resolve_break(
            session,
            found.id,
            how=Resolution.SUSPENSE,
            by=uuid4(),
            note="Taken by Stripe support; ticket asked for.",
            at=scene.now(),
        )
    assert scene.posted(chart.suspense()) == 300
    assert compare(scene, owner_id).open_breaks == 0
    with scene.begin() as session, pytest.raises(UnknownBreak):
        assign_break(session, found.id, to=uuid4())


def test_what_only_we_know_is_a_break_with_an_age(scene: Scene) -> None:
    scene.fund(10_000)
    scene.deliver()
    with scene.begin() as session:
        line = Line(chart.stripe_clearing(), chart.suspense(), 777)
        post_entry(session, key="by hand", kind="by_hand", lines=[line], at=scene.now())
    compare(scene)
    (found,) = breaks(scene)
    assert (found.kind, found.reference) == (BreakKind.OURS_NOT_THEIRS, "entry:by hand")
    scene.pass_time(hours=25)
    later = compare(scene)
    assert (later.open_breaks, later.overdue_breaks, later.opened) == (1, 1, 0)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("net_minor = net_minor - 1", BreakKind.AMOUNT_DIFFERS),
        ("net_minor = net_minor * 2", BreakKind.AMOUNT_DIFFERS),
        ("currency = 'EUR'", BreakKind.CURRENCY_DIFFERS),
    ],
)
def test_a_line_that_says_something_else_is_a_break(
    scene: Scene, change: str, kind: BreakKind
) -> None:
    scene.fund(10_000)
    scene.deliver()
    compare(scene)
    with database.engine.begin() as owner:
        owner.execute(text("alter table payouts.stripe_line disable trigger user"))
        owner.execute(text(f"update payouts.stripe_line set {change}"))
        owner.execute(text("alter table payouts.stripe_line enable trigger user"))
    compare(scene)
    assert {one.kind for one in breaks(scene) if one.reference != "balance"} == {kind}
    # Stripe's own balance is not the sum of the lines any more either, which no entry can mend.
    (balance, *_) = [one for one in breaks(scene) if one.kind == BreakKind.BALANCE_DIFFERS]
    with scene.begin() as session, pytest.raises(BreakNotBookable):
        resolve_break(
            session, balance.id, how=Resolution.SUSPENSE, by=uuid4(), note="", at=scene.now()
        )


def test_a_movement_that_is_in_the_books_twice_is_called_so(scene: Scene) -> None:
    funding_id = scene.fund(10_000)
    scene.deliver()
    with scene.begin() as session:
        line = Line(chart.stripe_clearing(), chart.suspense(), 10_000 - 320)
        key = f"funding:{funding_id}:again"
        post_entry(session, key=key, kind="funding_received", lines=[line], at=scene.now())
    compare(scene)
    (found,) = breaks(scene)
    assert (found.kind, found.ours_minor) == (BreakKind.TWICE, 2 * found.theirs_minor)


def test_an_account_that_stripe_does_not_show_keeps_no_other_from_being_read(scene: Scene) -> None:
    owners = sorted(paid(scene) for _ in range(2))
    scene.stripe.fault("get /v1/balance_transactions", "refuse", nth=2, status=403)
    done = compare(scene, *owners)
    assert (done.unread, len(breaks(scene))) == ((owners[0],), 2)
    assert {one.place for one in breaks(scene)} == {str(owners[0])}
    done = compare(scene, *owners)
    assert (done.unread, done.open_breaks) == ((), 0)


def test_what_the_books_cannot_keep_is_a_break_that_no_click_books(scene: Scene) -> None:
    scene.stripe.ask("POST", "/_balance/top_up", amount=9_000, currency="xau")
    scene.stripe.ask("POST", "/_balance/fee", amount=250, currency="xau")
    scene.deliver()
    assert compare(scene).fees_booked == 0
    found, *_ = breaks(scene)
    assert {one.currency for one in breaks(scene)} == {"XAU"}
    with scene.begin() as session, pytest.raises(BreakNotBookable):
        resolve_break(
            session, found.id, how=Resolution.SUSPENSE, by=uuid4(), note="", at=scene.now()
        )


def test_a_break_that_goes_away_closes_itself(scene: Scene) -> None:
    scene.fund(10_000)
    scene.deliver()
    payout = scene.payee()
    scene.earn(payout.owner_id, 5_000)
    opened = scene.open(payout.owner_id)
    # Stripe makes the transfer, and its answer and its webhook are late.
    scene.stripe.ask("POST", "/_webhooks/hold", held=True)
    scene.stripe.fault("post /v1/transfers", "drop_after")
    scene.run(opened.call_id)
    compare(scene)
    assert [one.kind for one in breaks(scene)] == [BreakKind.THEIRS_NOT_OURS]
    scene.stripe.ask("POST", "/_webhooks/hold", held=False)
    scene.deliver()
    scene.deliver()
    assert compare(scene, payout.owner_id).closed == 1
    assert breaks(scene)[0].resolution == Resolution.WENT_AWAY


def test_what_a_person_explained_is_silent_until_its_figures_change(scene: Scene) -> None:
    with scene.begin() as session:
        line = Line(chart.stripe_clearing(), chart.suspense(), 5)
        post_entry(session, key="x", kind="by_hand", lines=[line], at=scene.now())
    compare(scene)
    with scene.begin() as session:
        resolve_break(
            session,
            breaks(scene)[0].id,
            how=Resolution.EXPLAINED,
            by=uuid4(),
            note="An entry of the migration.",
            at=scene.now(),
        )
    assert compare(scene).open_breaks == 0


def test_lists_of_several_pages_are_pulled_whole_and_lines_are_kept_once(scene: Scene) -> None:
    scene.stripe.ask("POST", "/_pages", longest=2)
    for _ in range(5):
        scene.fund(10_000)
    scene.deliver()
    compare(scene)
    assert compare(scene).open_breaks == 0
    with scene.begin() as session:
        assert session.query(StripeLine).count() == 5
