"""What Stripe may say that this version does not expect: words of tomorrow, nulls, moving lists."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from payouts import chart
from payouts.holds import open_holds
from payouts.outcomes import Result
from payouts.states import FundingState, HoldCode, InboxState, PayoutState
from tests.payouts.scene import Scene, batched
from tests.payouts.test_invoices import sent, state_of


@pytest.fixture(autouse=True)
def odd_answers(scene: Scene) -> Iterator[None]:
    """Answers that are not in the published description are what these tests are about."""
    yield
    assert scene.stripe.ask("GET", "/_gate")["complaints"] == []
    scene.stripe.ask("DELETE", "/_gate")


def says(scene: Scene, kind: str, object_id: str, event: str, **fields: Any) -> None:
    """Let Stripe show an object in a way of its own, and tell of it."""
    scene.stripe.ask("POST", f"/_objects/{kind}/{object_id}", event=event, fields=fields)


def test_an_invoice_in_a_state_of_tomorrow_goes_to_a_person_and_holds_nothing_up(
    scene: Scene,
) -> None:
    row, other = sent(scene), sent(scene)
    says(scene, "invoice", str(row.invoice_id), "invoice.updated", status="half_paid")
    scene.stripe.ask("POST", f"/_invoices/{other.invoice_id}/pay")
    broken = [one for one in scene.deliver() if one.state == InboxState.BROKEN]
    assert {one.note for one in broken} == {
        f"invoice {row.invoice_id} is half_paid, which is not known here"
    }
    assert state_of(scene, row.funding_id) == FundingState.PLANNED
    assert state_of(scene, other.funding_id) == FundingState.SETTLED


def test_a_status_of_tomorrow_books_nothing(scene: Scene) -> None:
    scene.fund(10_000)
    (intent,) = scene.stripe.every("payment_intent")
    scene.stripe.ask("POST", f"/_charges/{intent['latest_charge']}/dispute")
    scene.deliver()
    before = scene.posted(chart.stripe_clearing())
    for kind, event in (
        ("payment_intent", "payment_intent.succeeded"),
        ("dispute", "charge.dispute.updated"),
    ):
        (found,) = scene.stripe.every(kind)
        says(scene, kind, found["id"], event, status="resting")
    told = {one.state for one in scene.deliver()}
    assert told <= {InboxState.APPLIED, InboxState.IGNORED}
    assert scene.posted(chart.stripe_clearing()) == before


def test_a_null_where_a_map_is_expected_is_nothing_that_is_there(scene: Scene) -> None:
    account_id = str(scene.payee().account_id)
    told = "v2.core.account.updated"
    assert scene.gateway.account(account_id).transfers_status == "active"
    says(scene, "account", account_id, told, requirements=None)
    seen = scene.gateway.account(account_id)
    assert (seen.transfers_status, seen.requirements) == ("active", ())
    nothing = {"recipient": {"capabilities": {"stripe_balance": None}}}
    for configuration in (nothing, None):
        says(scene, "account", account_id, told, configuration=configuration)
        assert scene.gateway.account(account_id).transfers_status == "unknown"


def test_a_list_that_grows_while_it_is_read_gives_each_line_once(scene: Scene) -> None:
    scene.stripe.ask("POST", "/_pages", longest=2)
    for _ in range(5):
        scene.fund(1_000)
    lines = scene.gateway.transactions(since=scene.now() - timedelta(hours=1))
    read = [next(lines).id for _ in range(2)]
    scene.fund(1_000)
    read += [one.id for one in lines]
    assert len(read) == len(set(read)) == 5
    again = scene.gateway.transactions(since=scene.now() - timedelta(hours=1))
    assert len([one.id for one in again]) == 6


def test_an_account_that_was_closed_gets_nothing_and_its_money_waits_with_a_reason(
    scene: Scene,
) -> None:
    payout = batched(scene)
    account_id = str(scene.seen(payout.owner_id).account_id)
    says(scene, "account", account_id, "v2.core.account.closed", closed=True)
    # It was planned before anybody has heard of it.
    assert scene.run(payout.call_id).result == Result.REFUSED
    scene.deliver()
    assert scene.seen(payout.owner_id).is_closed
    waiting = scene.payout(payout.id)
    with scene.begin() as session:
        codes = {hold.code for hold in open_holds(session, payout.id)}
    assert (waiting.state, codes) == (PayoutState.HELD, {HoldCode.PAYEE_REQUIREMENTS})
    assert scene.stripe.every("transfer") == []
    assert scene.posted(chart.owed_to(payout.owner_id)) == payout.amount_minor
