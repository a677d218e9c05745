"""How a case about pay is opened, answered and decided, and what an upheld one does to money."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from market.approvals.actions import money_source
from market.earnings.models import Earning
from market.events import Event, change_state, emit
from market.recoveries.models import RecoveryCase
from market.recoveries.queries import case
from market.recoveries.rules import (
    ANSWER_WITHIN,
    RECOVERY_CASE,
    AnswerStillDue,
    CaseExists,
    EarningNotFound,
    SamePerson,
    checked_reason,
)
from market.submissions.models import Submission
from payouts.errors import PayoutStateConflict
from payouts.models import Payout
from payouts.recoveries import DecidedCase, claw_back
from payouts.reversals import plan_reversal
from payouts.states import PayoutState


def open_case(
    session: Session, earning_id: UUID, *, reason: str, by: UUID, at: datetime
) -> RecoveryCase:
    """Say that a line of pay was wrong, for its expert to answer; no money moves by it.

    Raises:
        EarningNotFound, CaseExists, CaseReasonMissing.
    """
    said = checked_reason(reason)
    line = session.scalar(select(Earning).where(Earning.id == earning_id))
    if line is None:
        raise EarningNotFound(earning_id)
    if _is_void(session, line):
        raise CaseExists(earning_id)
    opened = RecoveryCase(
        earning_id=line.id,
        expert_id=line.expert_id,
        amount_minor=line.pay_minor,
        fee_minor=line.fee_minor,
        currency=line.currency,
        reason=said,
        opened_by=by,
        opened_at=at,
        answer_by=at + ANSWER_WITHIN,
    )
    try:
        with session.begin_nested():
            session.add(opened)
            session.flush()
    except IntegrityError:
        raise CaseExists(earning_id) from None
    emit(
        session,
        Event.RECOVERY_OPENED,
        opened.id,
        at=at,
        person_id=opened.expert_id,
        actor_id=by,
        data={"amount_minor": opened.amount_minor, "currency": opened.currency},
    )
    return opened


def answer_case(session: Session, case_id: UUID, *, text: str, at: datetime) -> RecoveryCase:
    """The expert's side, kept with the case; it may be said anew until it is decided.

    Raises:
        CaseNotFound, CaseReasonMissing, StateConflict.
    """
    found = case(session, case_id, locked=True)
    if found.state != "opened":
        RECOVERY_CASE.target(found.state, "uphold")
    found.answer, found.answered_at = checked_reason(text), at
    found.version += 1
    session.flush()
    return found


def decide_case(
    session: Session, case_id: UUID, *, uphold: bool, decision: str, by: UUID, at: datetime
) -> RecoveryCase:
    """Decide, as another person, whether pay was wrong; silence alone never decides it.

    An upheld case gives the project its money back and is owed by the expert: from the balance at
    Stripe while the money lies there, else by at most half of each later payout.

    Raises:
        CaseNotFound, SamePerson, AnswerStillDue, CaseExists, CaseReasonMissing, StateConflict.
    """
    said = checked_reason(decision)
    found = case(session, case_id, locked=True)
    if by == found.opened_by:
        raise SamePerson()
    if uphold and found.answer is None and at < found.answer_by:
        raise AnswerStillDue(found.answer_by)
    line = session.get_one(Earning, found.earning_id)
    if uphold and _is_void(session, line):
        raise CaseExists(line.id)
    found.decided_by, found.decided_at, found.decision = by, at, said
    change_state(
        session,
        RECOVERY_CASE,
        found,
        "uphold" if uphold else "dismiss",
        at=at,
        actor_id=by,
        note=said,
        event=Event.RECOVERY_DECIDED,
        person_id=found.expert_id,
        data={"amount_minor": found.amount_minor, "currency": found.currency},
    )
    if uphold:
        take_back(session, [line], DecidedCase(found.id, by, said), at=at)
    return found


def take_back(
    session: Session, lines: Sequence[Earning], case: DecidedCase, *, at: datetime
) -> None:
    """Give a project back what lines of one expert's pay cost it, after a decided case.

    It is owed by the expert from then on; what still lies at Stripe is asked back there.

    Raises:
        BadAmount: the lines paid nothing.
    """
    first = lines[0]
    claw_back(
        session,
        case=case,
        owner_id=first.expert_id,
        project=money_source(session, first),
        pay_minor=sum(line.pay_minor for line in lines),
        fee_minor=sum(line.fee_minor for line in lines),
        at=at,
    )
    sent: Counter[UUID] = Counter()
    for line in lines:
        if line.payout_id is not None:
            sent[line.payout_id] += line.pay_minor
    for payout_id, amount_minor in sorted(sent.items()):
        payout = session.get(Payout, payout_id)
        if payout is None or payout.state != PayoutState.TRANSFERRED:
            continue
        try:
            call = plan_reversal(
                session,
                payout_id=payout.id,
                amount_minor=amount_minor,
                decided_by=case.decided_by,
                at=at,
            )
        except PayoutStateConflict:
            # It has left for the bank meanwhile, or another reversal is under way: later payouts.
            continue
        emit(session, Event.RECOVERY_REVERSAL_REQUESTED, call.id, at=at, actor_id=case.decided_by)


def _is_void(session: Session, line: Earning) -> bool:
    """Whether the work that a line paid was a fraud, so that a case has taken all of it back."""
    return bool(
        session.scalar(
            select(Submission.id).where(
                Submission.offer_id == line.offer_id, Submission.state == "voided"
            )
        )
    )
