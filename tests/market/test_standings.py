"""How steps of standing end: by their time, by an appeal, and beside others."""

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.appeals.actions import decide_appeal
from market.db import database
from market.departures.actions import begin_departure, call_off
from market.experts.models import Expert, Measure
from market.moves import unfolded
from market.standings.actions import change_standing, end_measure
from market.standings.jobs import lift_measures
from market.standings.queries import ended_measures, is_reviewed_whole, measure_in_force
from tests.factories import AT, make_expert
from tests.market.reviewed import LATER
from tests.market.test_appeals import WHY, decide, filed
from tests.races import behind

WEEK = timedelta(days=7)


def take(
    db: Session,
    expert_id: UUID,
    step: str,
    *,
    until: datetime | None = None,
    reviews_all: bool = False,
) -> Measure:
    """One step against somebody, as it was written down."""
    change_standing(
        db,
        expert_id,
        step,
        at=AT,
        reason_code="quality",
        note="Case 7.",
        evidence=["sub_1"],
        until=until,
        reviews_all=reviews_all,
    )
    found = select(Measure).where(Measure.expert_id == expert_id).order_by(Measure.id.desc())
    return db.scalars(found.limit(1)).one()


def limited(db: Session) -> UUID:
    """An expert who is limited for good."""
    made = make_expert(db)
    take(db, made.id, "watch")
    take(db, made.id, "limit")
    return made.id


def in_force(db: Session, expert_id: UUID) -> tuple[str, list[str]]:
    """An expert's standing, and the steps in force."""
    db.expire_all()
    steps = select(Measure.step).where(Measure.expert_id == expert_id, Measure.ended_at.is_(None))
    return db.get_one(Expert, expert_id).state, list(db.scalars(steps.order_by(Measure.id)))


def test_closer_review_that_ends_leaves_the_limit_that_it_was_added_to(db: Session) -> None:
    who = limited(db)
    take(db, who, "watch", reviews_all=True, until=AT + WEEK)
    assert is_reviewed_whole(db, who, at=AT)
    assert in_force(db, who) == ("limited", ["watch", "limit", "watch"])
    # The clock of the job is past its end.
    lift_measures("2026-01-01T00:00:00+00:00")
    assert in_force(db, who) == ("limited", ["watch", "limit"])
    assert not is_reviewed_whole(db, who, at=AT)
    assert unfolded(db) == []


def test_an_appeal_against_closer_review_lifts_it_alone(db: Session) -> None:
    who = limited(db)
    added = take(db, who, "watch", reviews_all=True)
    decide(db, filed(db, "measure", added.id, who), "overturn")
    assert in_force(db, who) == ("limited", ["watch", "limit"])
    assert added.end_reason == "appeal_won"


def test_closer_review_with_no_limit_under_it_is_lifted_as_any_step(db: Session) -> None:
    who = make_expert(db).id
    take(db, who, "watch", reviews_all=True, until=AT + WEEK)
    lift_measures("2026-01-01T00:00:00+00:00")
    assert in_force(db, who) == ("good", [])


def test_whoever_comes_back_is_as_limited_as_before_whatever_was_added(db: Session) -> None:
    who = limited(db)
    take(db, who, "watch", reviews_all=True)
    found = measure_in_force(db, who)
    assert found is not None
    assert found.step == "limit"
    leaving = begin_departure(db, who, "own", reason=WHY, at=AT)
    assert in_force(db, who)[0] == "left"
    call_off(db, leaving.id, by=who, at=AT)
    assert in_force(db, who)[0] == "limited"


def test_a_step_that_was_taken_after_the_sweep_looked_is_not_lifted_by_it(db: Session) -> None:
    who = make_expert(db).id
    take(db, who, "watch", until=AT + WEEK)
    take(db, who, "limit", until=AT + WEEK)
    late = AT + 2 * WEEK
    (listed,) = ended_measures(db, at=late, limit=10)
    take(db, who, "suspend")
    assert not end_measure(db, listed, at=late)
    assert in_force(db, who) == ("suspended", ["watch", "limit", "suspend"])


@pytest.mark.usefixtures("committed")
def test_an_appeal_and_a_step_of_ops_at_once_do_not_wait_for_each_other() -> None:
    with database.begin() as session:
        who = limited(session)
        step = measure_in_force(session, who)
        assert step is not None
        appeal = filed(session, "measure", step.id, who)
        appeal_id, decider = appeal.id, appeal.decider_id
        assert decider is not None
    found: list[str] = []

    def overturn() -> None:
        with database.begin() as session:
            found.append(
                decide_appeal(
                    session, appeal_id, "overturn", decider_id=decider, decision=WHY, at=LATER
                ).state
            )

    with database.begin() as session:
        session.get(Expert, who, with_for_update=True)
        thread = behind(session, overturn)
        change_standing(session, who, "lift", at=LATER, reason_code="cleared", note="Case 7.")
    thread.join(120)
    assert found == ["overturned"]
    with database.begin() as session:
        assert in_force(session, who) == ("good", [])
        assert unfolded(session) == []
