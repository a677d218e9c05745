"""How a case of fraud is opened, answered, decided and appealed, and what it does to work and pay.

Everything here runs as the platform. Locks are taken in one order: submission, case, pay.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from market.appeals.rules import (
    APPEAL_WITHIN,
    DECIDED_WITHIN,
    AppealTooLate,
    DeciderInvolved,
    NothingToAppeal,
)
from market.approvals.actions import approve_lines
from market.earnings.actions import accrue_submission, lock_pay, post_from_budget
from market.events import Changes, Event, change_state, emit
from market.frauds.models import FraudCase
from market.frauds.queries import fraud_case, pay_for
from market.frauds.rules import FRAUD_CASE, FraudCaseExists, PayInDispute
from market.offers.queries import offer as any_offer
from market.people.queries import in_conflict
from market.recoveries.actions import take_back
from market.recoveries.rules import ANSWER_WITHIN, AnswerStillDue, SamePerson, checked_reason
from market.submissions.models import Submission
from market.submissions.queries import submission as any_submission
from market.submissions.rules import SUBMISSION
from market.verdicts.actions import correct_verdict
from market.verdicts.rules import Correction
from market.votes.queries import tally
from payouts.recoveries import DecidedCase, recover_unpaid, undo_claw_back


def open_fraud_case(
    session: Session,
    submission_id: UUID,
    *,
    reason: str,
    by: UUID,
    at: datetime,
    evidence: Sequence[str] = (),
) -> FraudCase:
    """Say that accepted work is a fraud, for its author to answer; nothing changes by it yet.

    Raises:
        SubmissionNotFound, StateConflict, FraudCaseExists, CaseReasonMissing.
    """
    said = checked_reason(reason)
    any_submission(session, submission_id)
    work = _locked(session, submission_id)
    SUBMISSION.target(work.state, "void")
    opened = FraudCase(
        submission_id=work.id,
        expert_id=work.expert_id,
        reason=said,
        evidence=list(evidence),
        opened_by=by,
        opened_at=at,
        answer_by=at + ANSWER_WITHIN,
        currency=str(any_offer(session, work.offer_id).currency),
    )
    try:
        with session.begin_nested():
            session.add(opened)
            session.flush()
    except IntegrityError:
        raise FraudCaseExists(submission_id) from None
    emit(
        session,
        Event.FRAUD_CASE_OPENED,
        opened.id,
        at=at,
        person_id=work.expert_id,
        actor_id=by,
        data={"submission_id": str(work.id), "answer_by": opened.answer_by.isoformat()},
    )
    return opened


def answer_fraud_case(session: Session, case_id: UUID, *, text: str, at: datetime) -> FraudCase:
    """The author's side, kept with the case; it may be said anew until the case is decided.

    Raises:
        FraudCaseNotFound, CaseReasonMissing, StateConflict.
    """
    found = fraud_case(session, case_id, locked=True)
    if found.state != "opened":
        FRAUD_CASE.target(found.state, "uphold")
    found.answer, found.answered_at = checked_reason(text), at
    found.version += 1
    session.flush()
    return found


def decide_fraud_case(
    session: Session, case_id: UUID, *, uphold: bool, decision: str, by: UUID, at: datetime
) -> FraudCase:
    """Decide, as another person, whether accepted work is a fraud; silence alone never decides it.

    An upheld case voids the work: its verdict falls, its seat goes to another where the project
    still works, and everything that it paid is owed back. What was not paid out yet is kept whole;
    the rest comes back as after every decided case.

    Raises:
        FraudCaseNotFound, SamePerson, AnswerStillDue, PayInDispute, CaseReasonMissing,
        StateConflict.
    """
    said = checked_reason(decision)
    work = _locked(session, fraud_case(session, case_id).submission_id)
    found = fraud_case(session, case_id, locked=True)
    action = "uphold" if uphold else "dismiss"
    FRAUD_CASE.target(found.state, action)
    if by == found.opened_by:
        raise SamePerson()
    if uphold and found.answer is None and at < found.answer_by:
        raise AnswerStillDue(found.answer_by)
    if uphold:
        _take_pay(session, found, work, DecidedCase(found.id, by, said), at=at)
        void = Correction(
            action="void", share=0, basis="case", reason_code="fraud_case_upheld", is_fair=False
        )
        _correct(session, work, void, at=at, by=by)
    found.decided_by, found.decided_at, found.decision = by, at, said
    _tell(session, found, action, Event.FRAUD_CASE_DECIDED, at=at, by=by, note=said)
    return found


def appeal_fraud_case(
    session: Session, case_id: UUID, *, person_id: UUID, note: str, at: datetime
) -> FraudCase:
    """Ask for a second look at an upheld case, by a third person and within a promised time.

    Raises:
        NothingToAppeal, AppealTooLate, CaseReasonMissing, StateConflict.
    """
    said = checked_reason(note)
    found = fraud_case(session, case_id, locked=True)
    if found.expert_id != person_id:
        raise NothingToAppeal()
    FRAUD_CASE.target(found.state, "appeal")
    if found.decided_at is None or at - found.decided_at > APPEAL_WITHIN:
        raise AppealTooLate()
    found.appeal, found.appealed_at, found.appeal_due_at = said, at, at + DECIDED_WITHIN
    _tell(session, found, "appeal", Event.FRAUD_CASE_APPEALED, at=at, by=person_id, note=said)
    return found


def decide_fraud_appeal(
    session: Session, case_id: UUID, *, overturn: bool, decision: str, by: UUID, at: datetime
) -> FraudCase:
    """Decide an appeal, as a third person; overturned, the work stands and its pay comes back.

    Raises:
        FraudCaseNotFound, DeciderInvolved, CaseReasonMissing, StateConflict, RecoveryUnderWay.
    """
    said = checked_reason(decision)
    work = _locked(session, fraud_case(session, case_id).submission_id)
    found = fraud_case(session, case_id, locked=True)
    action = "overturn" if overturn else "uphold_appeal"
    FRAUD_CASE.target(found.state, action)
    if by in (found.opened_by, found.decided_by) or session.scalar(
        select(in_conflict(by, found.expert_id))
    ):
        raise DeciderInvolved()
    if overturn:
        _reinstate(session, found, work, "appeal_won", by=by, at=at)
    found.final_by, found.final_at, found.final_note = by, at, said
    _tell(session, found, action, Event.FRAUD_CASE_CLOSED, at=at, by=by, note=said)
    return found


def miss_fraud_appeal(session: Session, case_id: UUID, *, at: datetime) -> bool:
    """Give an appeal that nobody decided in time to whoever filed it; whether it was one.

    Raises:
        RecoveryUnderWay: the money is on its way back at Stripe; later, then.
    """
    work = _locked(session, fraud_case(session, case_id).submission_id)
    found = fraud_case(session, case_id, locked=True)
    if found.state != "appealed" or found.appeal_due_at is None or found.appeal_due_at > at:
        return False
    found.final_at = at
    _reinstate(session, found, work, "sla_missed", by=None, at=at)
    _tell(session, found, "miss_appeal", Event.FRAUD_CASE_CLOSED, at=at, by=None, note=None)
    return True


def _take_pay(
    session: Session, found: FraudCase, work: Submission, case: DecidedCase, *, at: datetime
) -> None:
    lock_pay(session, work.expert_id)
    # What its reaction has not credited yet is credited now, so that nothing is left to come.
    accrue_submission(session, work.id, at=at)
    lines = pay_for(session, work)
    if any(line.state == "disputed" for line in lines):
        raise PayInDispute()
    waiting = [line.id for line in lines if line.state == "accrued"]
    approve_lines(session, work.expert_id, waiting, at=at, actor_id=case.decided_by)
    found.pay_minor = sum(line.pay_minor for line in lines)
    found.fee_minor = sum(line.fee_minor for line in lines)
    if found.pay_minor:
        take_back(session, lines, case, at=at)
        unpaid = sum(line.pay_minor for line in lines if line.payout_id is None)
        recover_unpaid(session, case.id, unpaid, at=at)


def _reinstate(
    session: Session,
    found: FraudCase,
    work: Submission,
    reason: str,
    *,
    by: UUID | None,
    at: datetime,
) -> None:
    if found.pay_minor:
        lock_pay(session, found.expert_id)
        offer = any_offer(session, work.offer_id)
        key = f"fraud_case:{found.id}:overturned"
        post_from_budget(session, offer, found.pay_minor, found.fee_minor, key=key, at=at)
        undo_claw_back(session, found.id, at=at)
    restored = Correction(
        action="reinstate",
        share=100,
        basis="appeal",
        reason_code=reason,
        is_fair=tally(session, work.id, work.round).is_fair,
    )
    _correct(session, work, restored, at=at, by=by)


def _correct(
    session: Session, work: Submission, correction: Correction, *, at: datetime, by: UUID | None
) -> None:
    changes = Changes(at, by)
    correct_verdict(session, work, correction, changes)
    changes.write(session)


def _locked(session: Session, submission_id: UUID) -> Submission:
    return session.get_one(Submission, submission_id, with_for_update=True, populate_existing=True)


def _tell(
    session: Session,
    found: FraudCase,
    action: str,
    event: Event,
    *,
    at: datetime,
    by: UUID | None,
    note: str | None,
) -> None:
    change_state(
        session,
        FRAUD_CASE,
        found,
        action,
        at=at,
        event=event,
        person_id=found.expert_id,
        actor_id=by,
        note=note,
        evidence=found.evidence,
        data={
            "submission_id": str(found.submission_id),
            "state": FRAUD_CASE.target(found.state, action),
            "amount_minor": found.pay_minor,
            "currency": found.currency,
        },
    )
