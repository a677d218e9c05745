"""Valid rows and callers, by plain functions: `make_expert(db, ...)`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any
from uuid import UUID

import httpx
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import new_id
from market.events import StateChange
from market.experts.actions import create_profile
from market.experts.models import Expert
from market.experts.rules import Claim, Profile
from market.offers.actions import accept_offer
from market.offers.models import Offer
from market.offers.rules import Terms as OfferTerms
from market.offers.rules import reservation_key, terms_digest
from market.people.actions import grant_part, make_key, sign_up
from market.people.models import Person
from market.people.rules import scopes_of
from market.projects.actions import Terms, create_project
from market.projects.models import Project
from market.projects.rules import PROJECT
from market.states import Machine
from market.target_models.actions import ModelTerms, create_target_model
from market.tasks.models import Task, TaskSlot
from market.tasks.rules import SLOT
from payouts.chart import (
    lab_funding,
    owed_to,
    platform_fee,
    project_budget,
    stripe_clearing,
)
from payouts.ledger import Line, post_entry, reserve
from payouts.pay import pay_minor, worst_case_minor

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
"""A Monday morning: the time of whatever a test does not date itself."""

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Caller:
    """Someone with a key, who speaks to the API of a test."""

    web: TestClient[Any]
    key: str
    person_id: UUID
    organisation_id: UUID | None = None

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        """Send a request with this caller's key and whatever headers are given."""
        headers = {"Authorization": f"Bearer {self.key}", **given.pop("headers", {})}
        return self.web.request(method, path, headers=headers, **given)

    def get(self, path: str, **given: Any) -> httpx.Response:
        """Read."""
        return self.request("GET", path, **given)

    def post(self, path: str, **given: Any) -> httpx.Response:
        """Write."""
        return self.request("POST", path, **given)

    def put(self, path: str, **given: Any) -> httpx.Response:
        """Replace."""
        return self.request("PUT", path, **given)

    def patch(self, path: str, **given: Any) -> httpx.Response:
        """Change."""
        return self.request("PATCH", path, **given)


def make_caller(db: Session, web: TestClient[Any], part: Part, name: str = "") -> Caller:
    """Someone who signed up in a part, with a first key."""
    number = next(_numbers)
    name = name or f"{part.value} {number}"
    joined = sign_up(
        db,
        part=part,
        name=name,
        email=f"{part.value}.{number}@people.example",
        organisation_name=f"organisation of {name}" if part is Part.LAB else None,
        at=datetime.now(UTC),
    )
    db.commit()
    return Caller(
        web,
        joined.secret,
        joined.person.id,
        joined.organisation.id if joined.organisation else None,
    )


def make_organisation(db: Session, name: str = "Lab", *, at: datetime = AT) -> UUID:
    """A lab's organisation, with one person in it."""
    joined = sign_up(
        db,
        part=Part.LAB,
        name=f"head of {name}",
        email=f"lab.{next(_numbers)}@people.example",
        organisation_name=name,
        at=at,
    )
    assert joined.organisation is not None
    return joined.organisation.id


def make_expert(
    db: Session,
    *,
    domains: tuple[str, ...] = ("chemistry",),
    tier: str = "T1",
    at: datetime = AT,
    **profile: Any,
) -> Expert:
    """An expert who claims some domains and stands on a pay tier."""
    person = Person(name="Expert", email=f"expert.{next(_numbers)}@people.example", created_at=at)
    db.add(person)
    db.flush()
    grant_part(db, person.id, Part.EXPERT, organisation_id=None, at=at)
    claims = tuple(Claim(domain) for domain in domains)
    return create_profile(db, person.id, Profile(**profile, claims=claims), at=at, tier=tier)


def make_project(
    db: Session,
    organisation_id: UUID | None = None,
    *,
    state: str = "live",
    budget_minor: int = 1_000_000,
    currency: str = "USD",
    domains: tuple[str, ...] = ("chemistry",),
    at: datetime = AT,
    **terms: Any,
) -> Project:
    """A complete project in a state, with a target model and, unless it is 0, a budget."""
    organisation_id = organisation_id or make_organisation(db, at=at)
    if "target_model_id" not in terms:
        model = create_target_model(
            db,
            organisation_id,
            ModelTerms(name="target", base_url="http://127.0.0.1:9/v1", model="target-1"),
            at=at,
        )
        terms["target_model_id"] = model.id
    made = create_project(
        db,
        organisation_id,
        Terms(name="project", brief="Find what it cannot do.", domains=domains, **terms),
        currency=currency,
        fee_basis_points=2000,
        at=at,
    )
    if budget_minor:
        give_money(db, organisation_id, budget_minor, currency=currency, at=at)
        post_entry(
            db,
            key=f"test:{made.id}",
            kind="J2",
            lines=[
                Line(
                    lab_funding(organisation_id, currency),
                    project_budget(made.id, organisation_id, currency),
                    budget_minor,
                )
            ],
            at=at,
        )
    walk = ("draft", "checking", "ready", "live")
    route = {"paused": (*walk, "paused"), "draining": (*walk, "draining")}.get(
        state, walk[: walk.index(state) + 1] if state in walk else ()
    )
    assert route, f"make_project does not know how to reach {state}"
    for before, step in pairwise(route):
        made.state = step
        db.flush()
        note_move(db, PROJECT, made.id, before, step, at=at)
    return made


def note_move(
    db: Session, machine: Machine, subject_id: UUID, before: str, after: str, *, at: datetime
) -> None:
    """The history of a move that a test made by hand, so that it folds back to the state."""
    action = next(m.action for m in machine.moves if before in m.sources and m.target == after)
    db.add(
        StateChange(
            machine=machine.name,
            subject_id=subject_id,
            from_state=before,
            to_state=after,
            action=action,
            at=at,
        )
    )
    db.flush()


def give_money(
    db: Session,
    organisation_id: UUID,
    amount_minor: int,
    *,
    currency: str = "USD",
    at: datetime = AT,
) -> None:
    """Free money of a lab's, as if its bank had sent it."""
    line = Line(stripe_clearing(currency), lab_funding(organisation_id, currency), amount_minor)
    post_entry(db, key=f"test:{new_id()}", kind="J1", lines=[line], at=at)


def make_task(
    db: Session,
    project: Project,
    *,
    external_id: str = "",
    domain: str = "chemistry",
    slots: int | None = None,
    at: datetime = AT,
    **fields: Any,
) -> Task:
    """A queued task of a project with open slots, as many as the project asks answers for."""
    task = Task(
        organisation_id=project.organisation_id,
        project_id=project.id,
        external_id=external_id or f"task-{next(_numbers)}",
        domain=domain,
        payload=fields.pop("payload", {"instructions": "Ask it something it gets wrong."}),
        expected_s=fields.pop("expected_s", 1800),
        created_at=at,
        **fields,
    )
    db.add(task)
    db.flush()
    for number in range(1, (slots or project.answers_per_task) + 1):
        db.add(TaskSlot(organisation_id=task.organisation_id, task_id=task.id, number=number))
    db.flush()
    return task


def make_offer(
    db: Session,
    task: Task,
    expert_id: UUID,
    *,
    accepted: bool = True,
    at: datetime = AT,
    cap_s: int | None = None,
    trials: Sequence[dict[str, str]] = (),
) -> Offer:
    """An offer of a task's first open slot, with its money reserved; accepted, unless told not."""
    project = db.get_one(Project, task.project_id)
    slot = db.scalars(
        select(TaskSlot)
        .where(TaskSlot.task_id == task.id, TaskSlot.state == "open")
        .order_by(TaskSlot.number)
    ).first()
    assert slot is not None, "the task has no open slot"
    cap_s = project.cap_s if cap_s is None else cap_s
    rate = project.rate_minor_per_hour or 9500
    pay, fee = worst_case_minor(cap_s, rate, project.fee_basis_points)
    # A line for each week that the work may touch is rounded on its own.
    pay, fee = pay + 10, fee + 10
    expected_pay = pay_minor(min(task.expected_s, cap_s), rate)
    terms = OfferTerms(
        project_id=str(project.id),
        project_name=project.name,
        project_version=project.version,
        round=project.round,
        domain=task.domain,
        complexity=task.complexity,
        currency=project.currency,
        rate_minor_per_hour=rate,
        rate_from="tier" if project.rate_minor_per_hour is None else "project",
        tier=None,
        cap_s=cap_s,
        fee_basis_points=project.fee_basis_points,
        expected_s=task.expected_s,
        expected_pay_minor=expected_pay,
        most_pay_minor=pay,
        expected_week_s=task.expected_s,
        expected_week_pay_minor=expected_pay,
        open_seats=1,
        review_within_s=project.review_ttl_s,
        reviews_per_submission=project.reviews_per_submission,
        work_ttl_s=project.work_ttl_s,
        pay_basis="deliverable" if project.pay_basis == "deliverable" else "hourly",
        deliverable_minor=project.deliverable_minor,
        draft_field=project.draft_field,
        passes_drafts=project.passes_drafts,
        binding_at=at.isoformat(),
        trials=tuple(trials),
    )
    offer = Offer(
        organisation_id=task.organisation_id,
        project_id=task.project_id,
        task_id=task.id,
        slot_id=slot.id,
        expert_id=expert_id,
        run_id=new_id(),
        value=1.0,
        parts={},
        explanation="Made for a test.",
        probability=1.0,
        task_price=0.0,
        expert_price=0.0,
        terms=terms.to_dict(),
        terms_digest=terms_digest(terms.to_dict()),
        currency=project.currency,
        expected_s=task.expected_s,
        reserved_minor=pay + fee,
        created_at=at,
        expires_at=at + timedelta(seconds=project.offer_ttl_s),
    )
    db.add(offer)
    escrow = project_budget(project.id, project.organisation_id, project.currency)
    reserve(
        db,
        key=reservation_key(offer.id),
        kind="J3",
        lines=[
            Line(escrow, owed_to(expert_id, project.currency), pay),
            Line(escrow, platform_fee(project.currency), fee),
        ],
        at=at,
        memo="offer",
    )
    slot.offer_id = offer.id
    slot.state = "offered"
    db.flush()
    note_move(db, SLOT, slot.id, "open", "offered", at=at)
    if accepted:
        accept_offer(db, offer.id, expert_id=expert_id, at=at)
    return offer


def key_for(db: Session, web: TestClient[Any], person_id: UUID, part: Part) -> Caller:
    """A caller for someone who is there already, in a part that it gets, if it has it not."""
    membership = grant_part(db, person_id, part, organisation_id=None, at=datetime.now(UTC))
    _, text_key = make_key(
        db, membership, name="a key", scopes=scopes_of(part), days=30, at=datetime.now(UTC)
    )
    db.commit()
    return Caller(web, text_key, person_id)


def pairs_in_database(db: Session, machine: Machine) -> set[tuple[str, str]]:
    """The moves of a machine that the database lets through."""
    rows = db.execute(
        text("select from_state, to_state from market.state_rule where machine = :name"),
        {"name": machine.name},
    )
    return {(row.from_state, row.to_state) for row in rows}
