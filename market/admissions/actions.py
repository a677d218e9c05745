"""Applying, being admitted when there is room, and the promise that is kept or paid.

Everything here runs as the platform, because work, hands and others' applications are counted.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from market.admissions.models import Admission, AdmissionTerms
from market.admissions.queries import (
    admission,
    admitted_since,
    asked_before,
    domain_forecast,
    first_offer_at,
    promised_minor,
    terms_in_force,
)
from market.admissions.rules import (
    ADMISSION,
    MIN_REASON,
    OPEN,
    AdmissionUnfit,
    AlreadyApplied,
    Forecast,
    Terms,
    check_terms,
    due_within,
)
from market.db import new_id
from market.earnings.actions import keep_from_recording, lock_pay
from market.events import Event, change_state, emit
from market.experts.models import Expert
from market.experts.queries import expert
from market.experts.rules import WORKING, is_domain
from market.qualifications.actions import invite_to_qualify
from market.qualifications.models import Qualification
from market.qualifications.queries import sitting_rate
from market.qualifications.rules import RUNNING, RetakeTooSoon
from market.sitting_pay.actions import pay_from_house
from payouts.pay import pay_minor

_ONE_AT_A_TIME = text("select pg_advisory_xact_lock(hashtextextended('admissions', 0))")


def publish_terms(
    session: Session, terms: Terms, *, note: str, at: datetime, actor_id: UUID | None = None
) -> AdmissionTerms:
    """Say under what people are taken on from now on; promises made before stand.

    Raises:
        AdmissionUnfit.
    """
    check_terms(terms)
    if len(note.strip()) < MIN_REASON:
        raise AdmissionUnfit("note", f"at least {MIN_REASON} characters on why")
    made = AdmissionTerms(
        load=terms.load,
        horizon_d=terms.horizon_d,
        within_d=terms.within_d,
        guarantee_s=terms.guarantee_s,
        fee_minor=terms.fee_minor,
        budget_minor=terms.budget_minor,
        pass_score=terms.pass_score,
        starts_at=at,
        note=note.strip(),
        set_by=actor_id,
    )
    session.add(made)
    session.flush()
    return made


def apply_for_admission(
    session: Session, person_id: UUID, domain: str, *, at: datetime
) -> Admission:
    """Ask to be taken on in a domain: at once where there is room, else in turn.

    Raises:
        ExpertNotFound, AdmissionUnfit, AlreadyApplied.
    """
    if not is_domain(domain):
        raise AdmissionUnfit("domain", "a domain, such as chemistry.organic")
    profile = expert(session, person_id)
    if profile.state not in WORKING:
        raise AdmissionUnfit("standing", "one in which work is offered")
    if profile.weekly_hours == 0:
        raise AdmissionUnfit("weekly_hours", "more than 0 in your profile: say how much you work")
    held = _qualification(session, person_id, domain)
    if held is not None and held.state == "granted":
        raise AlreadyApplied("qualified")
    # Before it has its id, which is its place: of two at once the one that asked first is seen.
    session.execute(_ONE_AT_A_TIME)
    # One statement decides, so that of two applications at once one is made.
    made: Admission | None = session.scalar(
        insert(Admission)
        .values(
            id=new_id(),
            person_id=person_id,
            domain=domain,
            weekly_hours=profile.weekly_hours,
            asked_at=at,
            state="waiting",
            version=1,
        )
        .on_conflict_do_nothing(
            # As text: a predicate with parameters matches no index once it is prepared.
            index_elements=["person_id", "domain"],
            index_where=text(f"state in {OPEN}"),
        )
        .returning(Admission)
    )
    if made is None:
        raise AlreadyApplied("open")
    emit(session, Event.ADMISSION_ASKED, made.id, at=at, person_id=person_id)
    # Nobody overtakes whoever waits for the same work; the sweep comes to them in their turn.
    if not asked_before(session, made):
        admit_if_room(session, made.id, domain_forecast(session, domain, at=at), at=at)
    return made


def admit_if_room(
    session: Session, admission_id: UUID, found: Forecast, *, at: datetime
) -> Literal["admitted", "full", "passed"]:
    """Admit somebody where there is room by a forecast that was made just before; `passed` where
    its turn is kept and holds up nobody.

    The forecast is made before anything is locked; whoever was admitted since is counted here.
    """
    # One after the other, so that no two are admitted to the same room.
    session.execute(_ONE_AT_A_TIME)
    row = admission(session, admission_id, lock=True)
    if row.state != "waiting":
        # Taken back since the look.
        return "passed"
    terms = terms_in_force(session, at)
    minor, currency = _promise(session, terms, at)
    taken_s = admitted_since(session, row.domain, found)
    if found.room_s(terms) - taken_s < row.weekly_hours * 3600:
        return "full"
    if minor > terms.budget_minor - promised_minor(session, currency):
        return "full"
    now_found = replace(found, capacity_s=found.capacity_s + taken_s)
    return "admitted" if _admit(session, row, terms, now_found, at=at) else "passed"


def admit_out_of_turn(
    session: Session, admission_id: UUID, *, reason: str, actor_id: UUID, at: datetime
) -> Admission:
    """Admit somebody whatever the forecast says, for a reason that is kept.

    Raises:
        AdmissionNotFound, AdmissionUnfit, StateConflict.
    """
    if len(reason.strip()) < MIN_REASON:
        raise AdmissionUnfit("reason", f"at least {MIN_REASON} characters on why")
    found = domain_forecast(session, admission(session, admission_id).domain, at=at)
    session.execute(_ONE_AT_A_TIME)
    row = admission(session, admission_id, lock=True)
    ADMISSION.target(row.state, "admit")
    terms = terms_in_force(session, at)
    row.decided_by, row.reason = actor_id, reason.strip()
    if not _admit(session, row, terms, found, at=at):
        raise AdmissionUnfit("domain", "one whose last test was not taken just now; try later")
    return row


def leave_queue(
    session: Session, admission_id: UUID, *, person_id: UUID, at: datetime
) -> Admission:
    """Take an application back; it can be made again, at the end of the queue.

    Raises:
        AdmissionNotFound, StateConflict.
    """
    row = admission(session, admission_id, lock=True)
    _move(session, row, "leave", at=at, event=None, actor_id=person_id)
    return row


def follow_admission(session: Session, admission_id: UUID, *, at: datetime) -> str | None:
    """Take an admission's next step, if there is one: test passed, work offered, promise due."""
    row = admission(session, admission_id, lock=True)
    if row.state not in ("admitted", "onboarded"):
        return None
    offered_at = first_offer_at(session, row)
    # Work that is offered late does not undo what is owed since the day that was promised.
    if offered_at is not None and (row.due_at is None or offered_at <= row.due_at):
        _settle(session, row, "serve", Event.ADMISSION_SERVED, at=at)
        return "serve"
    profile = session.get(Expert, row.person_id)
    if profile is None or profile.state not in WORKING or profile.weekly_hours == 0:
        # Nobody is kept from work who may not have it, or wants none.
        _settle(session, row, "lapse", Event.ADMISSION_LAPSED, at=at)
        return "lapse"
    if row.state == "admitted":
        return _after_test(session, row, at=at)
    if row.due_at is None or row.due_at > at:
        return None
    keep_from_recording(session)
    lock_pay(session, row.person_id)
    _settle(session, row, "compensate", Event.ADMISSION_COMPENSATED, at=at)
    pay_from_house(
        session,
        row.person_id,
        kind="guarantee",
        seconds=0,
        rate_minor_per_hour=0,
        pay=row.guarantee_minor or 0,
        currency=row.currency or "",
        source_id=row.id,
        note=f"No work in {row.domain} was offered within {row.within_d} days",
        earned_at=at,
        at=at,
    )
    return "compensate"


def _after_test(session: Session, row: Admission, *, at: datetime) -> str | None:
    test = session.get_one(Qualification, row.qualification_id)
    if test.state == "granted" and test.decided_at is not None:
        # Whoever passed while it waited is promised work from its admission on.
        begun_at = max(test.decided_at, row.decided_at or test.decided_at)
        row.due_at = begun_at + timedelta(days=row.within_d or 0)
        _move(session, row, "onboard", at=at, event=Event.ADMISSION_ONBOARDED)
        return "onboard"
    if test.state in ("denied", "expired", "revoked"):
        _settle(session, row, "lapse", Event.ADMISSION_LAPSED, at=at)
        return "lapse"
    return None


def _admit(
    session: Session, row: Admission, terms: Terms, found: Forecast, *, at: datetime
) -> bool:
    test = _qualification(session, row.person_id, row.domain)
    if test is None:
        try:
            test = invite_to_qualify(
                session, row.person_id, domain=row.domain, pass_score=terms.pass_score, at=at
            )
        except RetakeTooSoon:
            # Its turn stays; those behind it do not wait for its week.
            return False
    promise = _promise(session, terms, at)
    row.decided_at, row.qualification_id = at, test.id
    row.work_s, row.capacity_s = round(found.work_s(terms.horizon_d)), found.capacity_s
    row.guarantee_minor, row.currency = promise
    row.within_d = due_within(terms).days
    _move(session, row, "admit", at=at, event=Event.ADMISSION_ADMITTED, actor_id=row.decided_by)
    return True


def _promise(session: Session, terms: Terms, at: datetime) -> tuple[int, str]:
    rate = sitting_rate(session, at)
    if terms.fee_minor:
        return terms.fee_minor, rate.currency
    # A promise of nothing is none, however few the seconds and low the rate.
    return max(1, pay_minor(terms.guarantee_s, rate.rate_minor_per_hour)), rate.currency


def _qualification(session: Session, person_id: UUID, domain: str) -> Qualification | None:
    return session.scalar(
        select(Qualification).where(
            Qualification.person_id == person_id,
            Qualification.domain == domain,
            Qualification.state.in_(RUNNING),
        )
    )


def _settle(session: Session, row: Admission, action: str, event: Event, *, at: datetime) -> None:
    row.settled_at = at
    _move(session, row, action, at=at, event=event)


def _move(
    session: Session,
    row: Admission,
    action: str,
    *,
    at: datetime,
    event: Event | None,
    actor_id: UUID | None = None,
) -> None:
    change_state(
        session,
        ADMISSION,
        row,
        action,
        at=at,
        event=event,
        person_id=row.person_id,
        actor_id=actor_id,
        reason_code="out_of_turn" if row.decided_by and action == "admit" else None,
        note=row.reason if action == "admit" else None,
        data={"domain": row.domain},
    )
