"""Labs that pay by invoice: four writes, one payment, and nothing counted before it is there."""

from collections import Counter
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from payouts import chart
from payouts.decisions import resolve_unknown
from payouts.errors import InvoiceNotOpen
from payouts.invoice_models import FundingInvoice
from payouts.invoices import (
    invoice_of,
    next_call,
    open_past_due,
    plan_invoice,
    plan_void,
    record_overdue,
)
from payouts.models import ExternalCall, Funding
from payouts.money import Money
from payouts.outcomes import Result
from payouts.states import CallState, FundingState, InboxState, InvoiceState
from tests.payouts.scene import Scene

WRITES = ("post /v1/customers", "post /v1/invoices", "post /v1/invoiceitems")
EMAIL = "accounts@lab.example"


def asked(scene: Scene, amount_minor: int = 50_000, email: str = EMAIL) -> UUID:
    """A lab asks for an invoice; nothing is sent yet."""
    funding_id = uuid4()
    with scene.begin() as session:
        plan_invoice(
            session,
            funding_id=funding_id,
            lab_id=scene.lab_id,
            money=Money(amount_minor, "USD"),
            email=email,
            days_until_due=30,
            at=scene.now(),
        )
    return funding_id


def made(scene: Scene, funding_id: UUID) -> FundingInvoice:
    """Every write that the invoice takes, made one after the other."""
    while True:
        with scene.begin() as session:
            call_id = next_call(session, funding_id)
            if call_id is None:
                return invoice_of(session, funding_id)
        scene.insist(call_id)


def sent(scene: Scene, amount_minor: int = 50_000) -> FundingInvoice:
    """An invoice that is out."""
    row = made(scene, asked(scene, amount_minor))
    assert row.state == InvoiceState.OPEN
    return row


def state_of(scene: Scene, funding_id: UUID) -> FundingState:
    """How far the money has come."""
    with scene.begin() as session:
        return session.get_one(Funding, funding_id).state


def test_an_invoice_goes_out_once_with_its_whole_amount_and_books_nothing(scene: Scene) -> None:
    row = sent(scene)
    (invoice,) = scene.stripe.every("invoice")
    assert (invoice["amount_due"], invoice["auto_advance"]) == (50_000, True)
    assert invoice["collection_method"] == "send_invoice"
    assert (row.number, row.url) == (invoice["number"], invoice["hosted_invoice_url"])
    assert row.due_at is not None
    assert row.due_at - scene.now() > timedelta(days=29)
    scene.deliver()
    assert scene.kinds() == ["funding_invoiced"]
    assert scene.posted(chart.stripe_clearing()) == 0


def test_a_paid_invoice_is_booked_as_its_payment_and_only_that_once(scene: Scene) -> None:
    row = sent(scene)
    scene.stripe.ask("POST", f"/_invoices/{row.invoice_id}/pay")
    scene.deliver()
    scene.deliver()
    assert scene.available(chart.lab_funding(scene.lab_id)) == 50_000
    assert scene.kinds() == ["funding_invoiced", "funding_received", "funding_settled"]
    with scene.begin() as session:
        assert invoice_of(session, row.funding_id).state == InvoiceState.PAID
    scene.agrees()


def test_an_invoice_paid_by_a_method_that_can_bounce_counts_for_nothing_yet(scene: Scene) -> None:
    row = sent(scene)
    scene.stripe.ask("POST", "/_clock", paused=True)
    method = "pm_usBankAccount_success"
    scene.stripe.ask("POST", f"/_invoices/{row.invoice_id}/pay", payment_method=method)
    scene.store(scene.mailbox.take())
    assert scene.posted(chart.lab_funding_unsettled(scene.lab_id)) == 0
    scene.stripe.ask("POST", "/_clock", paused=False)
    scene.deliver()
    assert scene.available(chart.lab_funding(scene.lab_id)) == 50_000
    second = sent(scene, 20_000)
    scene.stripe.ask("POST", "/_clock", paused=True)
    paid_by_card = {"payment_method": "pm_card_visa"}
    scene.stripe.ask("POST", f"/_invoices/{second.invoice_id}/pay", **paid_by_card)
    scene.stripe.ask("POST", "/_clock", paused=False)
    scene.deliver()
    assert scene.available(chart.lab_funding(scene.lab_id)) == 70_000
    assert Counter(scene.kinds())["funding_settled"] == 2
    scene.agrees()


def test_a_bank_that_does_not_pay_leaves_the_invoice_open(scene: Scene) -> None:
    row = sent(scene)
    method = "pm_usBankAccount_insufficientFunds"
    scene.stripe.ask("POST", f"/_invoices/{row.invoice_id}/pay", payment_method=method)
    scene.deliver()
    assert state_of(scene, row.funding_id) == FundingState.PLANNED
    assert scene.kinds() == ["funding_invoiced"]
    assert scene.posted(chart.stripe_clearing()) == 0


@pytest.mark.parametrize("write", WRITES)
def test_an_answer_that_was_lost_makes_nothing_twice(scene: Scene, write: str) -> None:
    funding_id = asked(scene)
    scene.stripe.fault(write, "drop_after")
    made(scene, funding_id)
    for kind in ("customer", "invoice", "invoiceitem"):
        assert len(scene.stripe.every(kind)) == 1
    (invoice,) = scene.stripe.every("invoice")
    assert invoice["amount_due"] == 50_000


@pytest.mark.parametrize("write", WRITES)
def test_what_nobody_could_tell_is_found_by_looking(scene: Scene, write: str) -> None:
    funding_id = asked(scene)
    scene.stripe.fault(write, "500_after")
    result = None
    for _ in range(4):
        with scene.begin() as session:
            call_id = next_call(session, funding_id)
        if call_id is None:
            break
        result = scene.insist(call_id)
        if result.result == Result.UNKNOWN:
            break
    assert result is not None
    assert result.result == Result.UNKNOWN
    scene.stripe.no_faults()
    resolve_unknown(scene.begin, scene.gateway, result.call_id, now=scene.now, tell=scene.tell)
    assert made(scene, funding_id).state == InvoiceState.OPEN
    assert len(scene.stripe.every("invoiceitem")) == len(scene.stripe.every("invoice")) == 1


def test_two_invoices_to_one_address_share_their_customer(scene: Scene) -> None:
    first, second = asked(scene), asked(scene, 20_000, email="Accounts@Lab.example ")
    made(scene, first)
    assert made(scene, second).state == InvoiceState.OPEN
    assert len(scene.stripe.every("customer")) == 1
    assert made(scene, asked(scene)).state == InvoiceState.OPEN
    assert len(scene.stripe.every("customer")) == 1


def test_an_address_that_stripe_refuses_fails_what_waits_for_it_and_can_be_tried_again(
    scene: Scene,
) -> None:
    funding_id = asked(scene)
    scene.stripe.fault("post /v1/customers", "refuse", status=400, message="No such mailbox.")
    made(scene, funding_id)
    assert state_of(scene, funding_id) == FundingState.FAILED
    assert [fact.text for fact in scene.facts] == ["No such mailbox."]
    scene.stripe.no_faults()
    assert made(scene, asked(scene)).state == InvoiceState.OPEN


def test_an_invoice_that_is_taken_back_fails_its_funding_and_one_that_is_paid_cannot_be(
    scene: Scene,
) -> None:
    row = sent(scene)
    with scene.begin() as session:
        call = plan_void(session, funding_id=row.funding_id, at=scene.now())
    scene.insist(call.id)
    assert state_of(scene, row.funding_id) == FundingState.FAILED
    scene.deliver()
    assert scene.kinds() == ["funding_invoiced", "funding_failed"]
    paid = sent(scene)
    scene.stripe.ask("POST", f"/_invoices/{paid.invoice_id}/pay")
    with scene.begin() as session:
        # It is planned before anybody has heard that it was paid.
        late = plan_void(session, funding_id=paid.funding_id, at=scene.now())
    assert scene.insist(late.id).result == Result.REFUSED
    scene.deliver()
    assert state_of(scene, paid.funding_id) == FundingState.SETTLED
    with scene.begin() as session, pytest.raises(InvoiceNotOpen):
        plan_void(session, funding_id=paid.funding_id, at=scene.now())
    scene.agrees()


def test_an_invoice_that_was_given_up_can_still_be_paid(scene: Scene) -> None:
    row = sent(scene)
    scene.stripe.ask("POST", f"/_invoices/{row.invoice_id}/give_up")
    scene.deliver()
    assert state_of(scene, row.funding_id) == FundingState.FAILED
    scene.stripe.ask("POST", f"/_invoices/{row.invoice_id}/pay")
    scene.deliver()
    assert state_of(scene, row.funding_id) == FundingState.SETTLED
    assert scene.kinds()[1:] == ["funding_failed", "funding_received", "funding_settled"]
    scene.agrees()


def test_an_invoice_paid_past_stripe_books_nothing_and_goes_to_a_person(scene: Scene) -> None:
    row = sent(scene)
    scene.stripe.ask("POST", f"/_invoices/{row.invoice_id}/pay", off_stripe=True)
    broken = [one for one in scene.deliver() if one.state == InboxState.BROKEN]
    assert len(broken) == 1, broken
    assert "not by one payment" in broken[0].note
    assert state_of(scene, row.funding_id) == FundingState.PLANNED
    assert scene.posted(chart.stripe_clearing()) == 0


def test_a_late_invoice_is_told_of_once(scene: Scene) -> None:
    row = sent(scene)
    scene.pass_time(days=29)
    with scene.begin() as session:
        assert open_past_due(session, scene.now()) == []
        assert record_overdue(session, row.funding_id, scene.now()) == []
    scene.pass_time(days=2)
    with scene.begin() as session:
        assert open_past_due(session, scene.now()) == [row.funding_id]
        (fact,) = record_overdue(session, row.funding_id, scene.now())
        assert "was due on" in fact.text
        assert open_past_due(session, scene.now()) == []
        assert record_overdue(session, row.funding_id, scene.now()) == []


def test_a_crash_between_two_writes_leaves_the_next_one_planned(scene: Scene) -> None:
    funding_id = asked(scene)
    with scene.begin() as session:
        first = next_call(session, funding_id)
    scene.insist(first)
    with scene.begin() as session:
        following = next_call(session, funding_id)
        assert following is not None
        assert following != first
        assert session.get_one(ExternalCall, following).state == CallState.PLANNED
    assert made(scene, funding_id).state == InvoiceState.OPEN
