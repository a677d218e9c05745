"""Card disputes: a lab's bank takes a payment back, and who bears it while and after it is decided.

What Stripe takes is booked line by line of its balance. While the outcome is open the same amount
is withheld from the lab, so that nobody works for money that may be gone: from the payment itself
where it has not settled, then from the lab's free money, then from what its projects have free.
Experts never bear any of it: what is promised or owed to them is not touched.

Source: the payouts design, section 3, the entries of a card dispute.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from payouts import chart
from payouts.bank_models import CardDispute
from payouts.calls import Answer, Fact, FactKind, Operation, Refusal, params_of, plan_call
from payouts.chart import AccountRef, Code
from payouts.errors import DisputeStateConflict, FloorBreached, UnknownDispute
from payouts.ledger import (
    Line,
    balance,
    lines_of,
    post_entry,
    post_pending,
    reserve,
    void_pending,
)
from payouts.ledger_models import LedgerAccount
from payouts.models import ExternalCall, Funding
from payouts.seen import DisputeSeen, TransactionSeen
from payouts.states import CallOperation, CardDisputeState, FundingState

if TYPE_CHECKING:
    from payouts.gateway import Gateway
    from payouts.holds import HoldPolicy

_S = CardDisputeState
LONGEST_EVIDENCE = 20_000
"""Stripe takes at most this many characters in one field of evidence."""


def dispute(session: Session, dispute_id: UUID, *, locked: bool = False) -> CardDispute:
    """One card dispute; held until the transaction ends, if wished.

    Raises:
        UnknownDispute.
    """
    found = session.get(CardDispute, dispute_id, with_for_update=locked, populate_existing=locked)
    if found is None:
        raise UnknownDispute(dispute_id)
    return found


def record_dispute(session: Session, seen: DisputeSeen, *, at: datetime) -> list[Fact] | None:
    """Take over how a dispute stands, in any order and any number of times; None when the payment
    is not known here.
    """
    funding = session.scalars(
        select(Funding)
        .where(
            or_(
                Funding.charge_id == seen.charge_id,
                Funding.payment_intent_id == seen.payment_intent_id,
            )
        )
        .with_for_update()
    ).one_or_none()
    if funding is None:
        return None
    kept, is_new = _kept(session, funding, seen, at)
    facts = []
    kept.evidence_due_at = seen.evidence_due_at
    has_taken = any(line.net_minor < 0 for line in seen.transactions)
    if kept.state == _S.INQUIRY and has_taken:
        kept.state = _S.OPEN
        is_new = True
    for line in seen.transactions:
        _book_line(session, kept, line, at)
    if kept.state == _S.OPEN and has_taken and kept.withheld_minor == 0:
        _withhold(session, kept, funding, at)
    if is_new:
        facts.append(dispute_fact(FactKind.DISPUTE_OPENED, kept))
    if kept.state == _S.OPEN and seen.status == "won":
        facts.append(_won(session, kept, funding, at))
    elif kept.state == _S.OPEN and seen.status == "lost":
        facts.append(_lost(session, kept, at))
    elif kept.state == _S.INQUIRY and seen.status == "warning_closed":
        kept.state = _S.CLOSED
        kept.closed_at = at
        facts.append(dispute_fact(FactKind.DISPUTE_CLOSED, kept))
    session.flush()
    return facts


def _kept(
    session: Session, funding: Funding, seen: DisputeSeen, at: datetime
) -> tuple[CardDispute, bool]:
    is_inquiry = seen.status.startswith("warning_")
    made = session.scalar(
        insert(CardDispute)
        .values(
            id=uuid7(),
            stripe_id=seen.id,
            funding_id=funding.id,
            lab_id=funding.lab_id,
            currency=seen.currency,
            amount_minor=seen.amount_minor,
            reason=seen.reason,
            opened_at=at,
            state=_S.INQUIRY if is_inquiry else _S.OPEN,
        )
        .on_conflict_do_nothing()
        .returning(CardDispute.id)
    )
    kept = session.scalars(
        select(CardDispute)
        .where(CardDispute.stripe_id == seen.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    return kept, made is not None


def _book_line(session: Session, kept: CardDispute, line: TransactionSeen, at: datetime) -> None:
    """One line of Stripe's balance, once: money that was taken, or that came back."""
    key = f"card_dispute:{kept.id}:{line.id}"
    clearing = chart.dispute_clearing(kept.lab_id, kept.currency)
    held = chart.stripe_clearing(kept.currency)
    fees = chart.stripe_fees(kept.currency)
    lines = []
    if line.amount_minor < 0:
        lines.append(Line(clearing, held, -line.amount_minor))
    elif line.amount_minor > 0:
        lines.append(Line(held, clearing, line.amount_minor))
    if line.fee_minor > 0:
        lines.append(Line(fees, held, line.fee_minor))
    elif line.fee_minor < 0:
        lines.append(Line(held, fees, -line.fee_minor))
    if not lines:
        return
    kind = "card_dispute_taken" if line.amount_minor < 0 else "card_dispute_returned"
    post_entry(session, key=key, kind=kind, lines=lines, at=at, memo=kept.reason)
    kept.taken_minor = max(kept.taken_minor, -line.amount_minor)
    kept.fee_minor = max(kept.fee_minor, line.fee_minor)


def _withhold(session: Session, kept: CardDispute, funding: Funding, at: datetime) -> None:
    """Reserve from the lab what the dispute may cost it, as far as the lab has it."""
    clearing = chart.dispute_clearing(kept.lab_id, kept.currency)
    for _ in range(3):
        sources = _sources(session, kept, funding)
        lines = _cover(session, sources, clearing, kept.taken_minor)
        if not lines:
            return
        try:
            reserve(
                session,
                key=withheld_key(kept),
                kind="card_dispute_withheld",
                lines=lines,
                at=at,
                memo=kept.reason,
            )
        except FloorBreached:
            # Somebody promised the money between the look and the reservation: look again.
            continue
        kept.withheld_minor = sum(line.amount_minor for line in lines)
        unsettled = chart.lab_funding_unsettled(kept.lab_id, kept.currency)
        kept.unsettled_minor = sum(x.amount_minor for x in lines if x.debit == unsettled)
        return


def withheld_key(kept: CardDispute) -> str:
    """The key of the reservation that withholds a dispute's money."""
    return f"card_dispute:{kept.id}:withheld"


def _sources(session: Session, kept: CardDispute, funding: Funding) -> list[AccountRef]:
    lab, currency = kept.lab_id, kept.currency
    projects = session.scalars(
        select(LedgerAccount.owner_id)
        .where(
            LedgerAccount.code == Code.PROJECT_ESCROW,
            LedgerAccount.tenant_id == lab,
            LedgerAccount.currency == currency,
        )
        .order_by(LedgerAccount.owner_id)
    )
    budgets = [chart.project_budget(one, lab, currency) for one in projects if one is not None]
    first = (
        [chart.lab_funding_unsettled(lab, currency)]
        if funding.state == FundingState.UNSETTLED
        else []
    )
    return [*first, chart.lab_funding(lab, currency), *budgets]


def _cover(
    session: Session, sources: list[AccountRef], target: AccountRef, wanted_minor: int
) -> list[Line]:
    """Lines that take an amount from several accounts in their order, as far as they have it."""
    lines = []
    for source in sources:
        part = min(wanted_minor, balance(session, source).available_minor)
        if part > 0:
            lines.append(Line(source, target, part))
            wanted_minor -= part
    return lines


def _won(session: Session, kept: CardDispute, funding: Funding, at: datetime) -> Fact:
    """The lab has its money again; Stripe's fee stays ours."""
    if kept.withheld_minor:
        key = withheld_key(kept)
        void_pending(session, key, key=f"{key}:released", kind="card_dispute_won", at=at)
    if kept.unsettled_minor and funding.state == FundingState.SETTLED:
        # The rest of this payment settled while this part was withheld.
        lab, currency = kept.lab_id, kept.currency
        post_entry(
            session,
            key=f"funding:{funding.id}:settled:{kept.id}",
            kind="funding_settled",
            lines=[
                Line(
                    chart.lab_funding_unsettled(lab, currency),
                    chart.lab_funding(lab, currency),
                    kept.unsettled_minor,
                )
            ],
            at=at,
        )
    kept.state = _S.WON
    kept.closed_at = at
    return dispute_fact(FactKind.DISPUTE_WON, kept)


def _lost(session: Session, kept: CardDispute, at: datetime) -> Fact:
    """The lab bears what it has, in the order in which it was withheld; we bear the rest."""
    clearing = chart.dispute_clearing(kept.lab_id, kept.currency)
    if kept.withheld_minor:
        key = withheld_key(kept)
        post_pending(
            session,
            key,
            key=f"{key}:lost",
            kind="card_dispute_lost",
            lines=lines_of(session, key),
            at=at,
            memo=kept.reason,
        )
    ours = kept.taken_minor - kept.withheld_minor
    if ours > 0:
        post_entry(
            session,
            key=f"card_dispute:{kept.id}:loss",
            kind="card_dispute_loss",
            lines=[Line(chart.dispute_loss(kept.currency), clearing, ours)],
            at=at,
            memo=kept.reason,
        )
    kept.lost_minor = max(ours, 0)
    kept.state = _S.LOST
    kept.closed_at = at
    return dispute_fact(FactKind.DISPUTE_LOST, kept)


def unsettled_withheld(session: Session, funding_id: UUID) -> int:
    """What disputes keep of a payment that has not settled: open ones, and those that were lost.

    Units: minor units.
    """
    total = session.scalar(
        select(func.sum(CardDispute.unsettled_minor)).where(
            CardDispute.funding_id == funding_id, CardDispute.state.in_((_S.OPEN, _S.LOST))
        )
    )
    return int(total or 0)


def dispute_fact(kind: FactKind, kept: CardDispute, text: str = "") -> Fact:
    """Something that happened to a dispute; its owner is the lab."""
    said = text or kept.reason.replace("_", " ")
    return Fact(kind, kept.id, kept.lab_id, kept.amount_minor, kept.currency, said)


def plan_evidence(
    session: Session, dispute_id: UUID, *, evidence: Mapping[str, str], by: UUID, at: datetime
) -> ExternalCall:
    """Plan to answer the payer's bank; the evidence is kept as it was sent, and is sent once.

    Raises:
        UnknownDispute.
        DisputeStateConflict: it is decided, or was answered before.
    """
    kept = dispute(session, dispute_id, locked=True)
    if kept.state not in (_S.OPEN, _S.INQUIRY) or kept.answered_at is not None:
        raise DisputeStateConflict(dispute_id, kept.state)
    natural_key = f"dispute_evidence:{dispute_id}"
    earlier = session.scalar(
        select(func.count())
        .select_from(ExternalCall)
        .where(ExternalCall.natural_key == natural_key)
    )
    attempt = int(earlier or 0) + 1
    call = plan_call(
        session,
        operation=CallOperation.DISPUTE_EVIDENCE,
        natural_key=natural_key,
        attempt=attempt,
        subject_id=dispute_id,
        params={
            "evidence": {name: text[:LONGEST_EVIDENCE] for name, text in evidence.items()},
            "submit": True,
            "metadata": {
                "dispute": kept.stripe_id,
                "natural_key": natural_key,
                "attempt": str(attempt),
            },
        },
        at=at,
    )
    call.approved_by = by
    kept.evidence_call_id = call.id
    kept.answered_at = at
    session.flush()
    return call


def _stripe_id_of(call: ExternalCall) -> str:
    metadata = params_of(call)["metadata"]
    assert isinstance(metadata, dict)
    return str(metadata["dispute"])


def _answer_dispute(gateway: "Gateway", call: ExternalCall) -> Answer:
    return _evidence_answer(
        gateway.submit_evidence(_stripe_id_of(call), params_of(call), key=str(call.id))
    )


def _evidence_answer(seen: DisputeSeen) -> Answer:
    return Answer(
        object_id=seen.id,
        summary={"id": seen.id, "status": seen.status},
        record=partial(_record_evidence, seen=seen),
    )


def _record_evidence(
    session: Session, call: ExternalCall, at: datetime, *, seen: DisputeSeen
) -> list[Fact]:
    answered = dispute_fact(
        FactKind.DISPUTE_ANSWERED,
        dispute(session, call.subject_id, locked=True),
        "The evidence is with the bank.",
    )
    return [answered, *(record_dispute(session, seen, at=at) or [])]


def _evidence_refused(
    session: Session, call: ExternalCall, refusal: Refusal, _at: datetime, _policy: "HoldPolicy"
) -> list[Fact]:
    kept = dispute(session, call.subject_id, locked=True)
    kept.answered_at = None
    session.flush()
    del refusal
    return []


def _find_evidence(gateway: "Gateway", call: ExternalCall) -> Answer | None:
    seen = gateway.dispute(_stripe_id_of(call))
    is_ours = seen.metadata.get("attempt") == str(call.attempt)
    return _evidence_answer(seen) if is_ours else None


OPERATIONS = {
    CallOperation.DISPUTE_EVIDENCE: Operation(
        perform=_answer_dispute, refused=_evidence_refused, look_up=_find_evidence
    )
}
