"""Every kind of write to Stripe: what has to be there before it, how it is asked for, and how often
the stand-in's bank shows it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.events import Event, emit
from market.fundings.actions import FUNDING_MOVES
from market.treasury.actions import record_facts
from payouts import chart
from payouts.bank_models import CardDispute
from payouts.bucket import WriteRate
from payouts.calls import Fact
from payouts.disputes import plan_evidence
from payouts.funding import plan_funding
from payouts.invoices import next_call, plan_invoice, plan_void
from payouts.ledger import Line, post_entry
from payouts.models import ExternalCall
from payouts.money import Money
from payouts.opening import open_payout
from payouts.outcomes import CallOutcome, Now
from payouts.payees import ensure_payee, plan_onboarding_link
from payouts.platform_payouts import plan_platform_payout
from payouts.recoveries import DecidedCase, claw_back
from payouts.refunds import plan_refund
from payouts.reversals import plan_reversal
from payouts.sender import run_call
from payouts.states import CallOperation
from tests.payouts.scene import AT_ONCE, PERIOD_END, Scene

PLANNER = UUID(int=77)
"""The person who asks for what only a person may ask for."""

UNHURRIED = WriteRate(per_second=10_000, burst=10_000)
"""No case waits for a place in the bucket: the pace is another test's matter."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants done at Stripe, as it travels between two processes."""

    operation: CallOperation
    subject_id: UUID
    lab_id: UUID
    amount_minor: int


def tell(session: Session, facts: Sequence[Fact], now: Now) -> None:
    """Put into the outbox what happened, as the market's own jobs do.

    A funding has no row in the market here, so its event is written without moving one.
    """
    for fact in facts:
        if fact.kind in FUNDING_MOVES:
            event = FUNDING_MOVES[fact.kind][1] or Event.FUNDING_SUCCEEDED
            emit(session, event, fact.subject_id, at=now())
    others = [fact for fact in facts if fact.kind not in FUNDING_MOVES]
    record_facts(session, others, at=now())


class Books(Scene):
    """Both sides, with the outbox between them and nobody waiting for a place in the bucket."""

    def tell(self, session: Session, facts: Sequence[Fact]) -> None:
        """Keep what happened where the relay looks for it."""
        tell(session, facts, self.now)

    def run(self, call_id: UUID | None) -> CallOutcome:
        """Make a planned call once."""
        assert call_id is not None
        return run_call(
            self.begin,
            self.gateway,
            call_id,
            now=self.now,
            tell=self.tell,
            policy=AT_ONCE,
            rate=UNHURRIED,
        )

    def post(self, kind: str, line: Line) -> None:
        """One entry of one line."""
        with self.begin() as session:
            key = f"{kind}:{uuid4()}"
            post_entry(session, key=key, kind=kind, lines=[line], at=self.now())


def _order(operation: CallOperation, books: Books, subject_id: UUID, amount_minor: int) -> Order:
    return Order(
        operation=operation,
        subject_id=subject_id,
        lab_id=books.lab_id,
        amount_minor=amount_minor,
    )


def _new_subject(books: Books, operation: CallOperation, number: int) -> Order:
    """For what needs nothing before it: an account, and money that a lab pays in."""
    return _order(operation, books, uuid4(), 100_000 + number)


def _unready(books: Books, operation: CallOperation, number: int) -> Order:
    return _order(operation, books, books.payee(onboarded=False).owner_id, 1 + number)


def _earned(books: Books, operation: CallOperation, number: int) -> Order:
    owner_id = books.payee().owner_id
    books.fund(50_000)
    books.earn(owner_id, 13_316 + number)
    return _order(operation, books, owner_id, 13_316 + number)


def _paid_in(books: Books, operation: CallOperation, number: int) -> Order:
    return _order(operation, books, books.fund(40_000 + number), 15_000 + number)


def _sent_wrongly(books: Books, operation: CallOperation, number: int) -> Order:
    """A transfer whose money is still at Stripe, and a case that wants all of it back."""
    books.stripe.ask("POST", "/_clock", paused=True)
    earned = _earned(books, operation, number)
    payout = books.open(earned.subject_id)
    books.insist(payout.call_id)
    project = chart.project_budget(uuid4(), books.lab_id)
    with books.begin() as session:
        claw_back(
            session,
            case=DecidedCase(uuid4(), uuid4(), "The work was copied from a book."),
            owner_id=earned.subject_id,
            project=project,
            pay_minor=earned.amount_minor,
            fee_minor=0,
            at=books.now(),
        )
    return _order(operation, books, payout.id, earned.amount_minor)


def _disputed(books: Books, operation: CallOperation, number: int) -> Order:
    funding_id = books.fund(30_000 + number)
    books.deliver()
    charge = next(one for one in books.stripe.every("charge") if one["amount"] == 30_000 + number)
    books.stripe.ask("POST", f"/_charges/{charge['id']}/dispute")
    books.deliver()
    with books.begin() as session:
        kept = session.scalars(
            select(CardDispute.id).where(CardDispute.funding_id == funding_id)
        ).one()
    return _order(operation, books, kept, 30_000 + number)


def _fees_earned(books: Books, operation: CallOperation, number: int) -> Order:
    books.fund(60_000)
    lab, fee = chart.lab_funding(books.lab_id), chart.platform_fee()
    books.post("fee", Line(lab, fee, 20_000))
    return _order(operation, books, uuid4(), 7_000 + number)


def _addressed(books: Books, operation: CallOperation, number: int) -> Order:
    """A lab whose invoices have an address at Stripe already."""
    with books.begin() as session:
        other = _order(operation, books, uuid4(), 100_000 + number)
        first = _ask_invoice(session, other, books.now)
    books.insist(first)
    return _order(operation, books, uuid4(), 100_000 + number)


def _invoiced(books: Books, operation: CallOperation, number: int) -> Order:
    """An invoice of which every write before this one was made."""
    order = _order(operation, books, uuid4(), 100_000 + number)
    with books.begin() as session:
        _ask_invoice(session, order, books.now)
    while True:
        with books.begin() as session:
            call_id = next_call(session, order.subject_id)
            if call_id is None or session.get_one(ExternalCall, call_id).operation == operation:
                return order
        books.insist(call_id)


def _address(order: Order) -> str:
    """By amount, so that the orders of one case need a customer each."""
    return f"accounts-{order.amount_minor}@lab.example"


def _ask_invoice(session: Session, order: Order, now: Now) -> UUID:
    return plan_invoice(
        session,
        funding_id=order.subject_id,
        lab_id=order.lab_id,
        money=Money(order.amount_minor, "USD"),
        email=_address(order),
        days_until_due=30,
        at=now(),
    ).id


def plan(session: Session, order: Order, now: Now) -> UUID | None:
    """Ask for what is wanted as the market's actions do; the call that will make it."""
    at, subject, lab = now(), order.subject_id, order.lab_id
    match order.operation:
        case CallOperation.ACCOUNT:
            return ensure_payee(
                session, owner_id=subject, country="US", email="e@example.com", at=at
            ).account_call_id
        case CallOperation.ACCOUNT_LINK:
            page = "https://market.example/done"
            return plan_onboarding_link(
                session, owner_id=subject, refresh_url=page, return_url=page, at=at
            ).id
        case CallOperation.PAYMENT_INTENT:
            return plan_funding(
                session,
                funding_id=subject,
                lab_id=lab,
                money=Money(order.amount_minor, "USD"),
                payment_method="pm_card_bypassPending",
                at=at,
            ).id
        case CallOperation.REFUND:
            return plan_refund(
                session, funding_id=subject, amount_minor=order.amount_minor, at=at
            ).id
        case CallOperation.TRANSFER:
            payout = open_payout(
                session,
                owner_id=subject,
                currency="USD",
                period_end=PERIOD_END,
                at=at,
                policy=AT_ONCE,
            )
            return payout.call_id if payout is not None else None
        case CallOperation.REVERSAL:
            return plan_reversal(
                session,
                payout_id=subject,
                amount_minor=order.amount_minor,
                decided_by=PLANNER,
                at=at,
            ).id
        case CallOperation.DISPUTE_EVIDENCE:
            said = {"product_description": "Expert work, accepted by the lab."}
            return plan_evidence(session, subject, evidence=said, by=PLANNER, at=at).id
        case CallOperation.PLATFORM_PAYOUT:
            money = Money(order.amount_minor, "USD")
            return plan_platform_payout(session, money=money, by=PLANNER, at=at).call_id
        case CallOperation.CUSTOMER | CallOperation.INVOICE:
            return _ask_invoice(session, order, now)
        case CallOperation.INVOICE_LINE | CallOperation.INVOICE_OPENING:
            # Planned by the answer to the write before.
            return next_call(session, subject)
        case CallOperation.INVOICE_VOID:
            return plan_void(session, funding_id=subject, at=at).id


def _accounts(books: Books, order: Order) -> int:
    key = f"account:{order.subject_id}"
    return sum(one["metadata"].get("natural_key") == key for one in books.stripe.every("account"))


def _links(books: Books, order: Order) -> int:
    account_id = books.seen(order.subject_id).account_id
    return sum(one["account"] == account_id for one in books.stripe.every("link"))


def _intents(books: Books, order: Order) -> int:
    # By amount, which no two orders share: asked for again, it is a funding with a new id.
    return sum(
        one["amount"] == order.amount_minor and one["status"] == "succeeded"
        for one in books.stripe.every("payment_intent")
    )


def _refunds(books: Books, order: Order) -> int:
    subject = str(order.subject_id)
    return sum(one["metadata"]["funding_id"] == subject for one in books.stripe.every("refund"))


def _transfers(books: Books, order: Order) -> int:
    account_id = books.seen(order.subject_id).account_id
    return sum(one["destination"] == account_id for one in books.stripe.every("transfer"))


def _reversals(books: Books, order: Order) -> int:
    subject = str(order.subject_id)
    return sum(
        one["metadata"]["payout_id"] == subject for one in books.stripe.every("transfer_reversal")
    )


def _answers(books: Books, order: Order) -> int:
    with books.begin() as session:
        stripe_id = session.get_one(CardDispute, order.subject_id).stripe_id
    return sum(
        one["evidence_details"]["submission_count"]
        for one in books.stripe.every("dispute")
        if one["id"] == stripe_id
    )


def _own_payouts(books: Books, order: Order) -> int:
    return sum(one["amount"] == order.amount_minor for one in books.stripe.every("payout"))


def _customers(books: Books, order: Order) -> int:
    return sum(one["email"] == _address(order) for one in books.stripe.every("customer"))


def _invoices(books: Books, order: Order) -> int:
    return sum(one["amount_due"] == order.amount_minor for one in _about(books, order, "invoice"))


def _invoice_lines(books: Books, order: Order) -> int:
    return len(_about(books, order, "invoiceitem"))


def _opened(books: Books, order: Order) -> int:
    return sum(one["status"] == "open" for one in _about(books, order, "invoice"))


def _voided(books: Books, order: Order) -> int:
    return sum(one["status"] == "void" for one in _about(books, order, "invoice"))


def _about(books: Books, order: Order, kind: str) -> list[dict[str, Any]]:
    subject = str(order.subject_id)
    return [one for one in books.stripe.every(kind) if one["metadata"]["funding_id"] == subject]


@dataclass(frozen=True, slots=True)
class Write:
    """One kind of write: its path at the stand-in, what is there before, and how often it is made.

    `prepare` takes a number that tells the orders of one case apart.
    """

    path: str
    prepare: Callable[[Books, CallOperation, int], Order]
    made: Callable[[Books, Order], int]


_O = CallOperation
WRITES = {
    _O.ACCOUNT: Write("post /v2/core/accounts", _new_subject, _accounts),
    _O.ACCOUNT_LINK: Write("post /v2/core/account_links", _unready, _links),
    _O.PAYMENT_INTENT: Write("post /v1/payment_intents", _new_subject, _intents),
    _O.REFUND: Write("post /v1/refunds", _paid_in, _refunds),
    _O.TRANSFER: Write("post /v1/transfers", _earned, _transfers),
    _O.REVERSAL: Write("post /v1/transfers/{id}/reversals", _sent_wrongly, _reversals),
    _O.DISPUTE_EVIDENCE: Write("post /v1/disputes/{dispute}", _disputed, _answers),
    _O.PLATFORM_PAYOUT: Write("post /v1/payouts", _fees_earned, _own_payouts),
    _O.CUSTOMER: Write("post /v1/customers", _new_subject, _customers),
    _O.INVOICE: Write("post /v1/invoices", _addressed, _invoices),
    _O.INVOICE_LINE: Write("post /v1/invoiceitems", _invoiced, _invoice_lines),
    _O.INVOICE_OPENING: Write("post /v1/invoices/{invoice}/finalize", _invoiced, _opened),
    _O.INVOICE_VOID: Write("post /v1/invoices/{invoice}/void", _invoiced, _voided),
}
"""Every write to Stripe that there is; a test fails while one is missing."""
