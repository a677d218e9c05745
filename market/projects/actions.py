"""How a project comes about, changes, moves, and gets its money."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from market.events import Event, change_state, emit
from market.experts.rules import ReasonMissing, checked_domains
from market.projects.models import Project
from market.projects.queries import missing_for_work, project, target_model
from market.projects.rules import (
    AUTOMATIC,
    BUDGETED,
    CHANGEABLE,
    EVENTS,
    GUARDED,
    MAX_ATTEMPT_FEES,
    MAX_OVERTIME,
    PAUSE_REASONS,
    PAY_BASES,
    PROJECT,
    REASONED,
    REOPEN_WITHIN,
    UNEDITED,
    WEEK_S,
    BudgetCurrencyWrong,
    FundsShort,
    MoveAutomatic,
    PauseReasonUnknown,
    ProjectFieldInvalid,
    ProjectIncomplete,
    ReopenTooLate,
    TargetModelNotFound,
)
from market.states import StateConflict
from payouts.chart import lab_funding, project_budget
from payouts.errors import FloorBreached
from payouts.ledger import Line, balance, post_entry
from payouts.ledger_models import JournalEntry
from payouts.money import Money, exponent_of
from payouts.pay import BASIS_POINTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a project asks and pays, as its lab writes it.

    Units: as in `Project`.
    """

    name: str
    brief: str = ""
    domains: tuple[str, ...] = ()
    rate_minor_per_hour: int | None = None
    cap_s: int = 4 * 3600
    answers_per_task: int = 1
    reviews_per_submission: int = 3
    offer_ttl_s: int = 24 * 3600
    work_ttl_s: int = 72 * 3600
    review_ttl_s: int = 7 * 24 * 3600
    minimum_level: str = "claimed"
    target_model_id: UUID | None = None
    require_interest: bool = False
    pay_basis: str = "hourly"
    deliverable_minor: int | None = None
    attempt_fee_minor: int | None = None
    attempt_fees_max: int = 0
    impact_bonus_minor: int | None = None
    weekly_cap_s: int | None = None
    overtime_after_s: int | None = None
    overtime_basis_points: int | None = None
    trial_raise_basis_points: int = 0
    unedited_drafts: str = "allowed"
    draft_field: str | None = None
    passes_drafts: bool = False


def create_project(
    session: Session,
    organisation_id: UUID,
    terms: Terms,
    *,
    currency: str = "USD",
    fee_basis_points: int,
    at: datetime,
    actor_id: UUID | None = None,
) -> Project:
    """A project in draft. Its currency stays; so does the fee that the platform took on that day.

    Raises:
        ProjectFieldInvalid, DomainInvalid, TooManyDomains, TargetModelNotFound, UnknownCurrency.
    """
    exponent_of(currency)
    columns = _columns(session, organisation_id, terms)
    made = Project(
        organisation_id=organisation_id,
        currency=currency,
        fee_basis_points=fee_basis_points,
        created_at=at,
        name=terms.name.strip(),
    )
    for name, value in columns.items():
        setattr(made, name, value)
    session.add(made)
    session.flush()
    _tell(session, made, at, actor_id)
    return made


def change_project(
    session: Session, project_id: UUID, terms: Terms, *, at: datetime, actor_id: UUID | None = None
) -> Project:
    """Replace a project's terms; offers made before keep the terms that they were made under.

    A project that experts can work on, or could at any moment, stays complete.

    Raises:
        ProjectNotFound, ProjectFieldInvalid, DomainInvalid, TooManyDomains, TargetModelNotFound,
        ProjectIncomplete, StateConflict.
    """
    found = project(session, project_id, lock=True)
    if found.state not in CHANGEABLE:
        raise StateConflict("project", found.state, "change", PROJECT.allowed(found.state))
    answers = found.answers_per_task
    for name, value in _columns(session, found.organisation_id, terms).items():
        setattr(found, name, value)
    if found.answers_per_task != answers:
        emit(
            session,
            Event.OVERLAP_CHANGED,
            found.id,
            at=at,
            organisation_id=found.organisation_id,
            actor_id=actor_id,
            data={"before": answers, "answers_per_task": found.answers_per_task},
        )
    if found.state == "live":
        # Money may have run out meanwhile, which is no reason to refuse a better brief.
        lacking = [one for one in missing_for_work(session, found, at) if "budget" not in one]
        if lacking:
            raise ProjectIncomplete(lacking)
    found.version += 1
    session.flush()
    _tell(session, found, at, actor_id)
    return found


def move_project(
    session: Session,
    project_id: UUID,
    action: str,
    *,
    at: datetime,
    reason_code: str | None = None,
    note: str | None = None,
    actor_id: UUID | None = None,
) -> Project:
    """Take a move that a lab may ask for.

    Raises:
        ProjectNotFound, StateConflict, MoveAutomatic, ProjectIncomplete, PauseReasonUnknown,
        ReasonMissing, ReopenTooLate.
    """
    found = project(session, project_id, lock=True)
    if action in AUTOMATIC:
        raise MoveAutomatic(action)
    PROJECT.target(found.state, action)
    if action == "pause" and reason_code not in PAUSE_REASONS:
        raise PauseReasonUnknown(reason_code)
    if action in REASONED and not (reason_code or "").strip():
        raise ReasonMissing(action)
    if action in GUARDED:
        missing = missing_for_work(session, found, at)
        if missing:
            raise ProjectIncomplete(missing)
    if action == "reopen":
        if found.closed_at is None or at - found.closed_at > REOPEN_WITHIN:
            raise ReopenTooLate()
        found.closed_at = None
    if action == "advance_round":
        found.round += 1
    _move(session, found, action, at, reason_code, note, actor_id)
    return found


def settle_project(session: Session, project_id: UUID, *, at: datetime) -> Project:
    """A draining project has no work under way any more; the caller has made sure of it.

    Raises:
        ProjectNotFound, StateConflict.
    """
    found = project(session, project_id, lock=True)
    _move(session, found, "settle", at, None, None, None)
    return found


def close_project(session: Session, project_id: UUID, *, at: datetime) -> Project:
    """A settling project owes no decision any more; what is left of its budget is its lab's again.

    Raises:
        ProjectNotFound, StateConflict.
    """
    found = project(session, project_id, lock=True)
    PROJECT.target(found.state, "close")
    found.closed_at = at
    _move(session, found, "close", at, None, None, None)
    escrow = project_budget(found.id, found.organisation_id, found.currency)
    free = balance(session, escrow).available_minor
    if free > 0:
        post_entry(
            session,
            key=f"budget_return:{found.id}:{found.version}",
            kind="J2 return",
            lines=[
                Line(
                    debit=escrow,
                    credit=lab_funding(found.organisation_id, found.currency),
                    amount_minor=free,
                )
            ],
            at=at,
            memo="unspent budget of a closed project",
        )
    return found


def allocate_budget(
    session: Session, project_id: UUID, money: Money, *, key: str, at: datetime
) -> JournalEntry:
    """Give a project some of its lab's free money; the same key gives it once.

    Raises:
        ProjectNotFound, StateConflict, BudgetCurrencyWrong, FundsShort, BadAmount, EntryConflict.
    """
    found = project(session, project_id, lock=True)
    if found.state not in BUDGETED:
        raise StateConflict("project", found.state, "take money", PROJECT.allowed(found.state))
    if money.currency != found.currency:
        raise BudgetCurrencyWrong(money.currency, found.currency)
    funding = lab_funding(found.organisation_id, found.currency)
    line = Line(
        debit=funding,
        credit=project_budget(found.id, found.organisation_id, found.currency),
        amount_minor=money.amount_minor,
    )
    try:
        entry = post_entry(session, key=key, kind="J2", lines=[line], at=at, memo="project budget")
    except FloorBreached as short:
        raise FundsShort(short.available_minor, short.wanted_minor, money.currency) from None
    emit(
        session,
        Event.BUDGET_ALLOCATED,
        found.id,
        at=at,
        organisation_id=found.organisation_id,
        data={"amount_minor": money.amount_minor, "currency": money.currency},
    )
    return entry


def retarget_projects(
    session: Session,
    earlier_model_id: UUID,
    target_model_id: UUID,
    *,
    at: datetime,
    actor_id: UUID | None = None,
) -> list[UUID]:
    """Let every project that tests one version of a model test another; nothing else of it changes.

    Projects whose terms are settled for good stay with the version that they tested.
    """
    rows = session.scalars(
        select(Project)
        .where(Project.target_model_id == earlier_model_id, Project.state.in_(CHANGEABLE))
        .order_by(Project.id)
        .with_for_update()
    ).all()
    for found in rows:
        found.target_model_id = target_model_id
        found.version += 1
    session.flush()
    for found in rows:
        _tell(session, found, at, actor_id)
    return [found.id for found in rows]


def _columns(session: Session, organisation_id: UUID, terms: Terms) -> Mapping[str, object]:
    if not 1 <= len(terms.name.strip()) <= 200:
        raise ProjectFieldInvalid("name", "1 to 200 characters")
    if terms.target_model_id is not None:
        chosen = target_model(session, terms.target_model_id)
        if chosen.organisation_id != organisation_id:
            raise TargetModelNotFound(terms.target_model_id)
    _check_contract(terms)
    return {
        "name": terms.name.strip(),
        "brief": terms.brief,
        "domains": checked_domains(terms.domains),
        "rate_minor_per_hour": terms.rate_minor_per_hour,
        "cap_s": terms.cap_s,
        "answers_per_task": terms.answers_per_task,
        "reviews_per_submission": terms.reviews_per_submission,
        "offer_ttl_s": terms.offer_ttl_s,
        "work_ttl_s": terms.work_ttl_s,
        "review_ttl_s": terms.review_ttl_s,
        "minimum_level": terms.minimum_level,
        "target_model_id": terms.target_model_id,
        "require_interest": terms.require_interest,
        "pay_basis": terms.pay_basis,
        "deliverable_minor": terms.deliverable_minor,
        "attempt_fee_minor": terms.attempt_fee_minor,
        "attempt_fees_max": terms.attempt_fees_max,
        "impact_bonus_minor": terms.impact_bonus_minor,
        "weekly_cap_s": terms.weekly_cap_s,
        "overtime_after_s": terms.overtime_after_s,
        "overtime_basis_points": terms.overtime_basis_points,
        "trial_raise_basis_points": terms.trial_raise_basis_points,
        "unedited_drafts": terms.unedited_drafts,
        "draft_field": terms.draft_field,
        "passes_drafts": terms.passes_drafts,
    }


def _check_contract(terms: Terms) -> None:
    if terms.unedited_drafts not in UNEDITED:
        raise ProjectFieldInvalid("unedited_drafts", f"one of {', '.join(UNEDITED)}")
    if terms.draft_field is not None and not 1 <= len(terms.draft_field.strip()) <= 100:
        raise ProjectFieldInvalid("draft_field", "1 to 100 characters, or left out")
    if terms.pay_basis not in PAY_BASES:
        raise ProjectFieldInvalid("pay_basis", f"one of {', '.join(PAY_BASES)}")
    for field in ("deliverable_minor", "attempt_fee_minor", "impact_bonus_minor", "weekly_cap_s"):
        amount = getattr(terms, field)
        if amount is not None and amount <= 0:
            raise ProjectFieldInvalid(field, "above 0, or left out")
    if terms.pay_basis == "deliverable":
        if terms.deliverable_minor is None:
            raise ProjectFieldInvalid("deliverable_minor", "given, when pay is by deliverable")
        if terms.rate_minor_per_hour is None:
            # Rejected work took honest time too, and that is never unpaid.
            raise ProjectFieldInvalid(
                "rate_minor_per_hour", "given as the floor that time is paid at, at least"
            )
    if (terms.overtime_after_s is None) != (terms.overtime_basis_points is None):
        raise ProjectFieldInvalid(
            "overtime_basis_points", "given together with overtime_after_s, or neither"
        )
    if terms.overtime_after_s is not None and terms.overtime_basis_points is not None:
        if terms.pay_basis != "hourly":
            raise ProjectFieldInvalid("overtime_after_s", "left out unless pay is hourly")
        if not BASIS_POINTS < terms.overtime_basis_points <= MAX_OVERTIME:
            raise ProjectFieldInvalid(
                "overtime_basis_points", f"{BASIS_POINTS + 1} to {MAX_OVERTIME}"
            )
        if not 0 < terms.overtime_after_s < (terms.weekly_cap_s or WEEK_S):
            raise ProjectFieldInvalid(
                "overtime_after_s", "above 0, and less than the weekly cap that pay stops at"
            )
    if (terms.attempt_fee_minor is None) != (terms.attempt_fees_max == 0):
        raise ProjectFieldInvalid("attempt_fees_max", "above 0 exactly if there is a fee")
    if not 0 <= terms.attempt_fees_max <= MAX_ATTEMPT_FEES:
        raise ProjectFieldInvalid("attempt_fees_max", f"0 to {MAX_ATTEMPT_FEES}")


def _tell(session: Session, found: Project, at: datetime, actor_id: UUID | None) -> None:
    emit(
        session,
        Event.PROJECT_CHANGED,
        found.id,
        at=at,
        organisation_id=found.organisation_id,
        actor_id=actor_id,
    )


def _move(
    session: Session,
    found: Project,
    action: str,
    at: datetime,
    reason_code: str | None,
    note: str | None,
    actor_id: UUID | None,
) -> None:
    change_state(
        session,
        PROJECT,
        found,
        action,
        at=at,
        event=EVENTS.get(PROJECT.target(found.state, action), Event.PROJECT_CHANGED),
        organisation_id=found.organisation_id,
        actor_id=actor_id,
        reason_code=reason_code,
        note=note,
        data={"action": action, "round": found.round},
    )
