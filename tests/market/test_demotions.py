"""A lower pay tier is announced with reason and date, can be appealed, and cuts nothing back."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from market.appeals.actions import assign_appeal, decide_appeal, file_appeal, miss_appeal
from market.appeals.rules import NothingToAppeal
from market.auth import Part
from market.db import new_id
from market.experts.actions import create_profile
from market.experts.models import TierAssignment
from market.experts.queries import rate_spans, tiers_of
from market.experts.rules import Profile
from market.pay_tiers.actions import assign_tier
from market.pay_tiers.queries import announced_tier
from market.pay_tiers.rules import TierInForce, demotion_starts
from tests.factories import make_caller, make_expert
from tests.market.test_console import come_in, send, token

# A Wednesday: the first Monday with seven days before it is that of the week after next.
WEDNESDAY = datetime(2026, 6, 3, 15, tzinfo=UTC)
BEGINS = datetime(2026, 6, 15, tzinfo=UTC)
NOTE = "The three tasks that were counted were withdrawn by their lab."


def demoted(db: Session) -> TierAssignment:
    expert = make_expert(db, tier="T3", at=WEDNESDAY - timedelta(days=90))
    return assign_tier(
        db, expert.id, "T2", at=WEDNESDAY, reason="Six months below the line.", actor_id=new_id()
    )


def rates(db: Session, step: TierAssignment) -> list[tuple[int, datetime]]:
    found = rate_spans(db, step.expert_id, "USD", WEDNESDAY, None)
    return [(one.rate_minor_per_hour, one.starts_at) for one in found]


def decided(db: Session, step: TierAssignment, outcome: str, *, at: datetime) -> None:
    appeal = file_appeal(db, "tier", step.id, person_id=step.expert_id, note=NOTE, at=at)
    judge = make_expert(db).id
    assign_appeal(db, appeal.id, decider_id=judge, at=at)
    decide_appeal(db, appeal.id, outcome, decider_id=judge, decision=NOTE, at=at)


@pytest.mark.parametrize(
    ("announced", "begins"),
    [
        (datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 8, tzinfo=UTC)),
        (datetime(2026, 6, 1, 0, 0, 1, tzinfo=UTC), datetime(2026, 6, 15, tzinfo=UTC)),
        (datetime(2028, 2, 21, tzinfo=UTC), datetime(2028, 2, 28, tzinfo=UTC)),
        (datetime(2028, 2, 29, 12, tzinfo=UTC), datetime(2028, 3, 13, tzinfo=UTC)),
        (datetime(2026, 12, 30, tzinfo=UTC), datetime(2027, 1, 11, tzinfo=UTC)),
    ],
)
def test_a_step_down_waits_for_a_monday_a_week_away(announced: datetime, begins: datetime) -> None:
    assert demotion_starts(announced) == begins


def test_a_lower_tier_begins_on_its_monday_and_not_before(db: Session) -> None:
    step = demoted(db)
    assert rates(db, step) == [(9_500, WEDNESDAY), (3_000, BEGINS)]
    assert tiers_of(db, [step.expert_id], BEGINS - timedelta(seconds=1)) == {step.expert_id: "T3"}
    with pytest.raises(TierInForce):
        assign_tier(db, step.expert_id, "T2", at=WEDNESDAY, reason="again")
    # Promotion counts from its second, and takes the place of what was announced.
    later = WEDNESDAY + timedelta(hours=1)
    assign_tier(db, step.expert_id, "T4", at=later, reason="a rare field")
    assert rates(db, step) == [(9_500, WEDNESDAY), (15_000, later)]
    assert announced_tier(db, step.expert_id, later) is None


def test_what_was_announced_can_be_taken_back_by_the_tier_in_force(db: Session) -> None:
    step = demoted(db)
    assign_tier(db, step.expert_id, "T3", at=WEDNESDAY + timedelta(days=1), reason="a mistake")
    assert rates(db, step) == [(9_500, WEDNESDAY)]
    with pytest.raises(NothingToAppeal):
        file_appeal(db, "tier", step.id, person_id=step.expert_id, note=NOTE, at=WEDNESDAY)


def test_an_appeal_keeps_a_step_down_from_beginning_and_undoes_it_when_won(db: Session) -> None:
    step = demoted(db)
    late = BEGINS - timedelta(hours=1)
    appeal = file_appeal(db, "tier", step.id, person_id=step.expert_id, note=NOTE, at=late)
    # A week for the decision, and then the Monday after it.
    assert rates(db, step) == [(9_500, WEDNESDAY), (3_000, BEGINS + timedelta(days=7))]
    assert miss_appeal(db, appeal.id, at=appeal.due_at)
    assert rates(db, step) == [(9_500, WEDNESDAY)]
    kept = demoted(db)
    decided(db, kept, "uphold", at=WEDNESDAY)
    assert rates(db, kept) == [(9_500, WEDNESDAY), (3_000, BEGINS)]


def test_a_step_down_that_has_begun_ends_when_its_appeal_is_won(db: Session) -> None:
    step = demoted(db)
    won = BEGINS + timedelta(days=1)
    decided(db, step, "overturn", at=won)
    assert rates(db, step) == [(9_500, WEDNESDAY), (3_000, BEGINS), (9_500, won)]


def test_the_database_refuses_a_step_down_without_notice(db: Session) -> None:
    expert = make_expert(db, tier="T3", at=WEDNESDAY)
    put = text(
        "insert into market.tier_assignment (id, expert_id, tier, during, reason, announced_at)"
        " values (:id, :expert, 'T1', tstzrange(:starts, null), 'x', :announced)"
    )
    db.execute(
        text("update market.tier_assignment set during = tstzrange(:a, :b) where expert_id = :e"),
        {"a": WEDNESDAY, "b": BEGINS, "e": expert.id},
    )
    for announced in (None, BEGINS - timedelta(days=6)):
        given = {"id": new_id(), "expert": expert.id, "starts": BEGINS, "announced": announced}
        with pytest.raises(IntegrityError), db.begin_nested():
            db.execute(put, given)
    assert tiers_of(db, [expert.id], WEDNESDAY) == {expert.id: "T3"}


def test_an_expert_reads_why_and_from_when_and_appeals(db: Session, web: TestClient[Any]) -> None:
    me, ops = make_caller(db, web, Part.EXPERT), make_caller(db, web, Part.OPS)
    long_ago = datetime.now(UTC) - timedelta(days=90)
    create_profile(db, me.person_id, Profile(), at=long_ago, tier="T3")
    db.commit()
    answer = ops.post(
        f"/v1/experts/per_{me.person_id.hex}/tier",
        json={"tier": "T1", "reason": "Six months below the line."},
    )
    assert (answer.status_code, answer.json()["tier"]) == (201, "T3")
    coming, present = me.get("/v1/experts/me/tiers").json()["items"]
    assert (coming["tier"], coming["reason"]) == ("T1", "Six months below the line.")
    assert (present["tier"], present["ends_at"]) == ("T3", coming["starts_at"])
    assert len(ops.get(f"/v1/experts/per_{me.person_id.hex}/tiers").json()["items"]) == 2
    come_in(web, me)
    page = web.get("/console/expert/profile").text
    assert "Pay tier T1 from" in page
    path = f"/console/expert/tiers/{coming['id']}/appeal"
    said = send(web, path, token(web, "/console/expert/profile"), note=NOTE)
    assert said.status_code == 303
    assert "nothing begins before" in web.get("/console/expert/profile").text
    (appeal,) = me.get("/v1/appeals").json()["items"]
    assert appeal["subject"] == coming["id"]
