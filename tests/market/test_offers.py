"""What moves along with an offer: its seat, its task, its history and its money."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from market.db import PLATFORM, Scope, database, new_id
from market.errors import MarketError
from market.events import Event, EventRow, StateChange
from market.experts.models import Expert
from market.offers.actions import (
    accept_offer,
    decline_offer,
    expire_offer,
    lapse_offer,
    release_offer,
    withdraw_offer,
)
from market.offers.jobs import expire_offers, withdraw_project_offers, withdraw_task_offers
from market.offers.models import Offer
from market.offers.queries import open_offers
from market.offers.rules import OFFER, LeaseLost, OfferExpired, OverlapFull
from market.projects.models import Project
from market.seats.actions import abandon_offer, activate_offer, complete_offer
from market.standings.actions import change_standing
from market.states import StateConflict
from market.tasks.models import Task, TaskSlot
from payouts.chart import project_budget
from payouts.ledger import balance
from tests.factories import AT, make_expert, make_project, make_task, pairs_in_database
from tests.market.running import make_offers


@dataclass
class Stage:
    """One expert, one task of one seat, and the offer between them."""

    db: Session
    expert: Expert
    project: Project
    task: Task
    offer: Offer

    @property
    def slot(self) -> TaskSlot:
        """The task's only seat."""
        return self.db.scalars(select(TaskSlot).where(TaskSlot.task_id == self.task.id)).one()

    @property
    def reserved(self) -> int:
        """What the project has promised."""
        self.db.commit()
        escrow = project_budget(self.project.id, self.project.organisation_id)
        return balance(self.db, escrow).pending_debit_minor

    def states(self) -> tuple[str, str, str]:
        """Of the offer, its slot and its task."""
        self.db.flush()
        self.db.expire_all()
        return self.offer.state, self.slot.state, self.task.state

    def history(self) -> list[str]:
        """The states that the offer went through."""
        return history_of(self.db, self.offer)


def history_of(db: Session, offer: Offer) -> list[str]:
    """The states that an offer went through, by its history rows, each joined to the one before."""
    rows = db.scalars(
        select(StateChange).where(StateChange.subject_id == offer.id).order_by(StateChange.id)
    ).all()
    for before, after in pairwise(rows):
        assert before.to_state == after.from_state
    return [row.to_state for row in rows]


@pytest.fixture
def stage(db: Session) -> Stage:
    expert, project = make_expert(db), make_project(db)
    task = make_task(db, project)
    [offer] = make_offers(db)
    return Stage(db, expert, project, task, offer)


def test_the_database_holds_the_moves_of_an_offer(db: Session) -> None:
    assert pairs_in_database(db, OFFER) == OFFER.pairs()


def test_accepting_starts_the_lease_and_the_task(stage: Stage) -> None:
    db, offer, at = stage.db, stage.offer, datetime.now(UTC)
    accept_offer(db, offer.id, expert_id=stage.expert.id, at=at)
    assert stage.states() == ("accepted", "claimed", "active")
    assert (offer.accepted_at, offer.lease_until) == (at, at + timedelta(hours=72))
    again = accept_offer(db, offer.id, expert_id=stage.expert.id, at=at + timedelta(days=9))
    assert (again.id, again.accepted_at, again.version) == (offer.id, at, 2)
    assert stage.history() == ["pending", "accepted"]
    assert stage.reserved == offer.reserved_minor
    kinds = db.scalars(select(EventRow.type).where(EventRow.subject_id == offer.id)).all()
    assert sorted(kinds) == ["offer.accepted", "offer.created"]


def test_an_answer_after_the_deadline_is_too_late(stage: Stage) -> None:
    db, offer, me, late = stage.db, stage.offer, stage.expert.id, stage.offer.expires_at
    for is_swept in (False, True):
        assert expire_offer(db, offer.id, at=late) if is_swept else offer.state == "pending"
        with pytest.raises(OfferExpired):
            accept_offer(db, offer.id, expert_id=me, at=late)
        with pytest.raises(OfferExpired):
            decline_offer(db, offer.id, expert_id=me, reason="no_time", at=late)
    assert stage.history() == ["pending", "timed_out"]


def test_an_offer_that_nobody_answers_ends_and_frees_seat_and_money(stage: Stage) -> None:
    before = stage.offer.expires_at - timedelta(seconds=1)
    assert not expire_offer(stage.db, stage.offer.id, at=before)
    assert stage.reserved == stage.offer.reserved_minor
    assert expire_offer(stage.db, stage.offer.id, at=stage.offer.expires_at)
    assert not expire_offer(stage.db, stage.offer.id, at=stage.offer.expires_at)
    assert stage.states() == ("timed_out", "open", "queued")
    assert stage.reserved == 0
    assert stage.slot.offer_id is None
    # Silence is no answer: the same expert may be asked again.
    [again] = make_offers(stage.db)
    assert (again.expert_id, again.task_id) == (stage.expert.id, stage.task.id)


def test_declining_frees_seat_and_money_and_is_not_asked_again(stage: Stage) -> None:
    for _ in range(2):
        decline_offer(
            stage.db,
            stage.offer.id,
            expert_id=stage.expert.id,
            reason="task_unclear",
            note="Which solvent?",
            at=datetime.now(UTC),
        )
    assert stage.states() == ("declined", "open", "queued")
    assert stage.reserved == 0
    row = stage.db.scalars(
        select(StateChange).where(
            StateChange.subject_id == stage.offer.id, StateChange.to_state == "declined"
        )
    ).one()
    assert (row.reason_code, row.note, row.actor_id) == (
        "task_unclear",
        "Which solvent?",
        stage.expert.id,
    )
    assert make_offers(stage.db) == []
    assert stage.expert.state == "good"


def test_work_goes_from_accepted_to_completed_with_its_slot(stage: Stage) -> None:
    db, offer, expert_id, at = stage.db, stage.offer, stage.expert.id, datetime.now(UTC)
    with pytest.raises(StateConflict):
        activate_offer(db, offer.id, expert_id=expert_id, at=at)
    accept_offer(db, offer.id, expert_id=expert_id, at=at)
    activate_offer(db, offer.id, expert_id=expert_id, at=at)
    assert activate_offer(db, offer.id, expert_id=expert_id, at=at).version == 3
    complete_offer(db, offer.id, expert_id=expert_id, at=at)
    assert complete_offer(db, offer.id, expert_id=expert_id, at=at).version == 4
    assert stage.states() == ("completed", "submitted", "in_review")
    assert stage.history() == ["pending", "accepted", "active", "completed"]
    # The money waits for the verdict.
    assert stage.reserved == offer.reserved_minor


def test_work_has_to_begin_within_the_lease(stage: Stage) -> None:
    db, offer, at = stage.db, stage.offer, datetime.now(UTC)
    accept_offer(db, offer.id, expert_id=stage.expert.id, at=at)
    assert offer.lease_until is not None
    with pytest.raises(LeaseLost):
        activate_offer(db, offer.id, expert_id=stage.expert.id, at=offer.lease_until)
    assert not lapse_offer(db, offer.id, at=offer.lease_until - timedelta(seconds=1))
    assert lapse_offer(db, offer.id, at=offer.lease_until)
    assert not lapse_offer(db, offer.id, at=offer.lease_until)
    assert stage.states() == ("released", "open", "queued")
    assert stage.reserved == 0


@pytest.mark.parametrize("owes_time", [False, True])
def test_giving_back_keeps_the_money_only_while_minutes_are_owed(
    stage: Stage, owes_time: bool
) -> None:
    db, offer, expert_id, at = stage.db, stage.offer, stage.expert.id, datetime.now(UTC)
    accept_offer(db, offer.id, expert_id=expert_id, at=at)
    activate_offer(db, offer.id, expert_id=expert_id, at=at)
    for _ in range(2):
        release_offer(
            db, offer.id, expert_id=expert_id, reason="no_time", owes_time=owes_time, at=at
        )
    assert stage.states() == ("released", "open", "queued")
    assert stage.reserved == (offer.reserved_minor if owes_time else 0)


def test_abandoned_work_frees_the_seat(stage: Stage) -> None:
    db, offer, at = stage.db, stage.offer, datetime.now(UTC)
    accept_offer(db, offer.id, expert_id=stage.expert.id, at=at)
    activate_offer(db, offer.id, expert_id=stage.expert.id, at=at)
    for _ in range(2):
        abandon_offer(db, offer.id, reason="heartbeat_lost", owes_time=False, at=at)
    assert stage.states() == ("abandoned", "open", "queued")
    assert stage.reserved == 0


def test_a_task_with_another_answer_under_way_stays_active(db: Session) -> None:
    project = make_project(db)
    make_expert(db), make_expert(db)
    task = make_task(db, project, slots=2)
    one, other = make_offers(db)
    at = datetime.now(UTC)
    for offer in (one, other):
        accept_offer(db, offer.id, expert_id=offer.expert_id, at=at)
    release_offer(db, one.id, expert_id=one.expert_id, reason="other", owes_time=False, at=at)
    assert db.get_one(Task, task.id).state == "active"
    release_offer(db, other.id, expert_id=other.expert_id, reason="other", owes_time=False, at=at)
    assert db.get_one(Task, task.id).state == "queued"


def test_a_seat_that_was_taken_back_cannot_be_accepted(stage: Stage) -> None:
    slot = stage.slot
    for state in ("released", "open"):
        slot.state, slot.offer_id = state, None
        stage.db.flush()
    with pytest.raises(OverlapFull):
        accept_offer(stage.db, stage.offer.id, expert_id=stage.expert.id, at=datetime.now(UTC))


def test_terms_are_frozen_by_the_database(stage: Stage) -> None:
    frozen = ("terms = '{}'", "reserved_minor = 1", "terms_digest = 'x'", "created_at = now()")
    for change in frozen:
        with pytest.raises(IntegrityError, match="frozen"), stage.db.begin_nested():
            stage.db.execute(text(f"update market.offer set {change}"))


def test_a_slot_has_one_live_offer_and_an_expert_one_offer_of_a_task(stage: Stage) -> None:
    copied = (
        "insert into market.offer select (jsonb_populate_record(o, jsonb_build_object("
        "'id', gen_random_uuid(), '{column}', cast(:other as uuid)))).* from market.offer o"
    )
    other = make_expert(stage.db).id
    slot = TaskSlot(organisation_id=stage.task.organisation_id, task_id=stage.task.id, number=2)
    stage.db.add(slot)
    stage.db.flush()
    for column, value, index in (
        ("expert_id", other, "uq_offer_live_slot"),
        ("slot_id", slot.id, "uq_offer_task_expert"),
    ):
        with pytest.raises(IntegrityError, match=index), stage.db.begin_nested():
            stage.db.execute(text(copied.format(column=column)), {"other": value})


def test_the_clock_ends_what_is_overdue(stage: Stage) -> None:
    expire_offers("2026-01-01T00:00:00+00:00")
    assert stage.states()[0] == "pending"
    stage.db.execute(
        text("update market.offer set expires_at = created_at + interval '1 microsecond'")
    )
    stage.db.commit()
    expire_offers("2026-01-01T00:00:10+00:00")
    assert stage.states() == ("timed_out", "open", "queued")
    [again] = make_offers(stage.db)
    accept_offer(stage.db, again.id, expert_id=again.expert_id, at=datetime.now(UTC))
    again.lease_until = again.created_at
    stage.db.commit()
    expire_offers("2026-01-01T00:00:20+00:00")
    stage.db.expire_all()
    assert stage.db.get_one(Offer, again.id).state == "released"


@pytest.mark.parametrize("ended", ["project", "task"])
def test_offers_go_when_their_project_or_task_does(db: Session, ended: str) -> None:
    project = make_project(db)
    for _ in range(3):
        make_expert(db)
    task = make_task(db, project, slots=3)
    unanswered, accepted, begun = make_offers(db)
    at = datetime.now(UTC)
    for offer in (accepted, begun):
        accept_offer(db, offer.id, expert_id=offer.expert_id, at=at)
    activate_offer(db, begun.id, expert_id=begun.expert_id, at=at)
    if ended == "project":
        project.state = "draining"
    else:
        task.state = "cancelled"
    db.commit()
    for _ in range(2):
        if ended == "project":
            withdraw_project_offers(str(project.id))
        else:
            withdraw_task_offers(str(task.id))
    db.expire_all()
    assert [o.state for o in (unanswered, accepted, begun)] == ["canceled", "released", "grace"]
    escrow = project_budget(project.id, project.organisation_id)
    assert balance(db, escrow).pending_debit_minor == begun.reserved_minor
    # Grace is for handing in what there is.
    complete_offer(db, begun.id, expert_id=begun.expert_id, at=at)
    assert begun.state == "completed"


def test_a_suspended_expert_loses_its_offers_by_a_reaction(
    stage: Stage, react: Callable[[], list[str]]
) -> None:
    for action in ("watch", "limit", "suspend"):
        change_standing(
            stage.db,
            stage.expert.id,
            action,
            reason_code="evidence_7",
            note="Case 7.",
            evidence=["case 7"],
            at=AT,
        )
    stage.db.commit()
    assert "withdraw_expert_offers" in react()
    assert stage.states() == ("canceled", "open", "queued")
    assert stage.reserved == 0


def test_whatever_is_tried_only_listed_moves_happen(db: Session) -> None:
    project = make_project(db, budget_minor=10**9)
    make_expert(db, max_concurrent=100, weekly_hours=168)
    for _ in range(12):
        make_task(db, project)
    offers, chance = make_offers(db), random.Random(4)
    assert len(offers) == 12

    def one_of(offer: Offer) -> Callable[[], object]:
        me, at = offer.expert_id, datetime.now(UTC)
        late = at + timedelta(days=30)
        return chance.choice(
            [
                lambda: accept_offer(db, offer.id, expert_id=me, at=at),
                lambda: decline_offer(db, offer.id, expert_id=me, reason="other", at=at),
                lambda: expire_offer(db, offer.id, at=late),
                lambda: lapse_offer(db, offer.id, at=late),
                lambda: activate_offer(db, offer.id, expert_id=me, at=at),
                lambda: complete_offer(db, offer.id, expert_id=me, at=at),
                lambda: abandon_offer(
                    db, offer.id, reason="heartbeat_lost", owes_time=False, at=at
                ),
                lambda: withdraw_offer(
                    db, offer.id, reason="project_ended", grace=timedelta(1), at=at
                ),
                lambda: release_offer(
                    db, offer.id, expert_id=me, reason="other", owes_time=False, at=at
                ),
            ]
        )

    refused = 0
    for offer in offers:
        for _ in range(10):
            try:
                one_of(offer)()
            except MarketError:
                refused += 1
        history = history_of(db, offer)
        assert history[-1] == offer.state
        moves = set(zip(["", *history], history, strict=False))
        assert moves <= OFFER.pairs()
    assert refused > 10
    held = {"pending", "accepted", "active", "grace", "completed"}
    promised = sum(o.reserved_minor for o in offers if o.state in held)
    escrow = project_budget(project.id, project.organisation_id)
    assert balance(db, escrow).pending_debit_minor == promised
    for offer in offers:
        slot = db.get_one(TaskSlot, offer.slot_id)
        assert (slot.offer_id == offer.id) == (offer.state in held)


def test_the_database_shows_an_expert_and_a_lab_their_own_rows_only(
    db: Session, stage: Stage
) -> None:
    del db
    counts = {}
    for name, scope in (
        ("platform", PLATFORM),
        ("expert", Scope("stumpwork_expert", stage.expert.id)),
        ("other expert", Scope("stumpwork_expert", new_id())),
        ("lab", Scope("stumpwork_lab", stage.project.organisation_id)),
        ("other lab", Scope("stumpwork_lab", new_id())),
    ):
        with database.begin(scope) as session:
            offers = session.scalar(select(func.count()).select_from(Offer))
            tasks = session.scalar(select(func.count()).select_from(Task))
            counts[name] = (offers, tasks)
    assert counts == {
        "platform": (1, 1),
        "expert": (1, 1),
        "other expert": (0, 0),
        "lab": (1, 1),
        "other lab": (0, 0),
    }


def test_open_offers_come_by_deadline(db: Session) -> None:
    expert = make_expert(db, max_concurrent=9)
    for hours in (30, 2, 9):
        make_task(db, make_project(db, offer_ttl_s=hours * 3600))
    made = make_offers(db)
    at = made[0].created_at
    found = open_offers(db, expert.id, at=at)
    assert [round((o.expires_at - at).total_seconds() / 3600) for o in found] == [2, 9, 30]
    assert len(open_offers(db, expert.id, at=at + timedelta(hours=10))) == 1
    told = db.scalar(
        select(func.count()).select_from(EventRow).where(EventRow.type == Event.OFFER_CREATED.value)
    )
    assert told == 3
