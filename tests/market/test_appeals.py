"""Appeals and rejections taken back: who may file, who decides, what it undoes, and the clock."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from market.appeals.actions import (
    assign_appeal,
    decide_appeal,
    file_appeal,
    miss_appeal,
    unreject_submission,
)
from market.appeals.jobs import miss_appeals
from market.appeals.models import Appeal
from market.appeals.rules import (
    APPEAL_WITHIN,
    DECIDED_WITHIN,
    AlreadyAppealed,
    AppealNotFound,
    AppealTooLate,
    AppealUnfit,
    DeciderInvolved,
    NothingToAppeal,
)
from market.attempts.models import Attempt
from market.auth import Part
from market.db import database, new_id
from market.earnings.models import Earning
from market.events import Event, EventRow
from market.experts.models import Measure
from market.moves import unfolded
from market.offers.models import Offer
from market.people.actions import claim_identity
from market.predictions.models import Ability
from market.profiles.queries import reviewer_profiles
from market.profiles.rules import Period
from market.qualifications.actions import revoke_qualification
from market.reviews.models import Review
from market.standings.actions import change_standing
from market.standings.jobs import lift_measures
from market.standings.rules import EvidenceMissing, MeasureUnfit
from market.states import StateConflict
from market.submissions.models import Submission
from market.tasks.models import Task, TaskSlot
from market.verdicts.models import Verdict, VerdictChange
from market.votes.rules import Vote
from tests.factories import (
    AT,
    key_for,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
)
from tests.market.reviewed import (
    ACCEPT,
    LATER,
    REJECT,
    REJECT_STUMP,
    cast,
    hand_in,
    make_reviewer,
)
from tests.market.test_qualifications import graded_test
from tests.races import at_once

NOTE = "The second part does answer the question; the reviewers read an older brief."
WHY = "Read against the brief that was in force on that day, the answer is complete."
PART = Vote("accept_share", share=60, note=NOTE)


def rejected(db: Session, **given: Any) -> Submission:
    """Work that its reviewers rejected."""
    with_attempt = given.setdefault("with_attempt", False)
    handed = hand_in(db, **given)
    cast(db, handed, *[REJECT_STUMP if with_attempt else REJECT] * 3)
    assert handed.state == "rejected"
    return handed


def filed(db: Session, kind: str, subject_id: UUID, person_id: UUID) -> Appeal:
    """An appeal, taken on by somebody who had no part in it."""
    made = file_appeal(db, kind, subject_id, person_id=person_id, note=NOTE, at=LATER)
    return assign_appeal(db, made.id, decider_id=make_reviewer(db), at=LATER)


def decide(db: Session, row: Appeal, outcome: str, share: int | None = None) -> None:
    """Let whoever took it on decide."""
    assert row.decider_id is not None
    decide_appeal(
        db, row.id, outcome, decider_id=row.decider_id, decision=WHY, share=share, at=LATER
    )
    db.expire_all()


def test_an_appeal_that_is_won_restores_the_work_its_seat_and_its_stump(
    db: Session, react: Callable[[], list[str]]
) -> None:
    handed = rejected(db, with_attempt=True)
    row = filed(db, "submission", handed.id, handed.expert_id)
    assert handed.state == "appealed"
    decide(db, row, "overturn")
    assert (row.state, handed.state) == ("overturned", "accepted")
    verdict = db.get_one(Verdict, handed.id)
    assert (verdict.share, verdict.basis, verdict.is_stump) == (100, "appeal", True)
    [before] = db.scalars(select(VerdictChange))
    assert (before.verdict["is_accepted"], before.verdict["basis"]) == (False, "votes")
    assert db.scalars(select(Attempt.state)).one() == "verified"
    slot, task = db.get_one(TaskSlot, handed.slot_id), db.get_one(Task, handed.task_id)
    assert (slot.state, slot.offer_id, task.state) == ("counted", handed.offer_id, "accepted")
    assert set(db.scalars(select(Review.state))) == {"overturned"}
    told = db.scalars(select(EventRow.type)).all()
    assert told.count(Event.REVIEW_OVERTURNED) == 3
    assert told.count(Event.VERDICT_CORRECTED) == 1
    assert "credit_earning" in react()
    assert unfolded(db) == []


def test_what_an_overturned_review_took_comes_back_and_its_reviewers_are_scored(
    db: Session, react: Callable[[], list[str]]
) -> None:
    project = make_project(
        db, pay_basis="deliverable", deliverable_minor=9_000, rate_minor_per_hour=6_000
    )
    offer = make_offer(db, make_task(db, project), make_expert(db).id)
    handed = rejected(db, offer=offer, with_attempt=True)

    def stands() -> tuple[int, float]:
        react()
        owed = select(func.sum(Earning.pay_minor)).where(Earning.expert_id == handed.expert_id)
        found = select(Ability.chance).where(Ability.expert_id == handed.expert_id)
        return int(db.scalars(owed).one()), db.scalars(found).one()

    paid, score = stands()
    assert paid == 100  # A minute of honest time, at the rate.
    decide(db, filed(db, "submission", handed.id, handed.expert_id), "overturn")
    after, restored = stands()
    assert after == 9_000
    assert restored > score
    whole = Period(AT - timedelta(days=1), AT + timedelta(days=30))
    scored = reviewer_profiles(db, whole)
    assert [(one.votes, one.overturned.part, one.agreed.part) for one in scored] == [(1, 1, 0)] * 3


def test_an_appeal_that_is_lost_is_final_and_a_part_stays_a_part(db: Session) -> None:
    handed = rejected(db)
    decide(db, filed(db, "submission", handed.id, handed.expert_id), "uphold")
    assert handed.state == "rejected_final"
    with pytest.raises(AlreadyAppealed):
        file_appeal(db, "submission", handed.id, person_id=handed.expert_id, note=NOTE, at=LATER)
    part = hand_in(db, with_attempt=False)
    cast(db, part, PART, PART, ACCEPT)
    decide(db, filed(db, "submission", part.id, part.expert_id), "uphold")
    assert (part.state, db.get_one(Verdict, part.id).share) == ("partially_accepted", 60)
    other = rejected(db)
    decide(db, filed(db, "submission", other.id, other.expert_id), "overturn_partly", 30)
    assert (other.state, db.get_one(Verdict, other.id).share) == ("partially_accepted", 30)
    assert unfolded(db) == []


def test_an_answer_never_takes_a_seat_that_another_works_in(db: Session) -> None:
    handed = rejected(db)
    task = db.get_one(Task, handed.task_id)
    taken = make_offer(db, task, make_expert(db).id)
    decide(db, filed(db, "submission", handed.id, handed.expert_id), "overturn")
    slot = db.get_one(TaskSlot, handed.slot_id)
    assert (handed.state, slot.state, slot.offer_id) == ("accepted", "claimed", taken.id)
    # One that was only offered makes room, and nothing is held against its expert.
    other = rejected(db)
    waiting = make_offer(db, db.get_one(Task, other.task_id), make_expert(db).id, accepted=False)
    decide(db, filed(db, "submission", other.id, other.expert_id), "overturn")
    assert db.get_one(Offer, waiting.id).state == "rescinded"
    assert db.get_one(TaskSlot, other.slot_id).state == "counted"
    assert unfolded(db) == []


def test_silence_of_whoever_decides_is_won_by_whoever_appealed(db: Session) -> None:
    handed = rejected(db)
    ago = datetime.now(UTC) - DECIDED_WITHIN
    db.execute(text("update market.submission set decided_at = :at"), {"at": ago})
    db.expire_all()
    row = file_appeal(db, "submission", handed.id, person_id=handed.expert_id, note=NOTE, at=ago)
    assert not miss_appeal(db, row.id, at=row.due_at - timedelta(seconds=1))
    miss_appeals("2026-01-01T00:00:00+00:00")
    miss_appeals("2026-01-01T00:00:00+00:00")
    db.expire_all()
    assert (row.state, handed.state) == ("sla_missed", "accepted")
    told = db.scalars(select(EventRow.type).where(EventRow.subject_id == row.id)).all()
    assert told == [Event.APPEAL_FILED, Event.APPEAL_SLA_MISSED]
    assert unfolded(db) == []


def test_nobody_decides_who_had_a_part_in_it_or_is_tied_to_it(db: Session) -> None:
    handed = rejected(db)
    row = file_appeal(db, "submission", handed.id, person_id=handed.expert_id, note=NOTE, at=LATER)
    reviewer = db.scalars(select(Review.reviewer_id)).first()
    assert reviewer is not None
    tied = make_reviewer(db)
    claim_identity(db, tied, "phone", "+49 1", source="test", at=AT)
    claim_identity(db, handed.expert_id, "phone", "+49 1", source="test", at=AT)
    for person in (reviewer, handed.expert_id, tied):
        with pytest.raises(DeciderInvolved):
            assign_appeal(db, row.id, decider_id=person, at=LATER)
    for person in (reviewer, handed.expert_id):
        with pytest.raises(IntegrityError, match="ck_appeal_decider"), db.begin_nested():
            db.execute(text("update market.appeal set decider_id = :id"), {"id": person})
    assign_appeal(db, row.id, decider_id=make_reviewer(db), at=LATER)
    with pytest.raises(DeciderInvolved):
        decide_appeal(db, row.id, "overturn", decider_id=make_reviewer(db), decision=WHY, at=LATER)


def test_only_what_was_decided_against_oneself_is_appealed_and_in_time(db: Session) -> None:
    handed = rejected(db)
    accepted = hand_in(db, with_attempt=False)
    cast(db, accepted, ACCEPT, ACCEPT, ACCEPT)
    file = partial(file_appeal, db, "submission", note=NOTE)
    with pytest.raises(NothingToAppeal):
        file(handed.id, person_id=make_expert(db).id, at=LATER)
    with pytest.raises(NothingToAppeal):
        file(accepted.id, person_id=accepted.expert_id, at=LATER)
    with pytest.raises(NothingToAppeal):
        file(new_id(), person_id=handed.expert_id, at=LATER)
    with pytest.raises(AppealTooLate):
        file(
            handed.id,
            person_id=handed.expert_id,
            at=LATER + APPEAL_WITHIN + timedelta(seconds=1),
        )
    with pytest.raises(AppealUnfit):
        file_appeal(db, "submission", handed.id, person_id=handed.expert_id, note="No.", at=LATER)
    with pytest.raises(AppealNotFound):
        miss_appeal(db, new_id(), at=LATER)
    row = filed(db, "submission", handed.id, handed.expert_id)
    for outcome, share, decision in (
        ("overturn", 50, WHY),
        ("overturn_partly", None, WHY),
        ("overturn", None, "Right."),
    ):
        with pytest.raises(AppealUnfit):
            decide_appeal(
                db,
                row.id,
                outcome,
                decider_id=row.decider_id or new_id(),
                decision=decision,
                share=share,
                at=LATER,
            )
    decide(db, row, "overturn")
    with pytest.raises(StateConflict):
        decide(db, row, "uphold")


def test_a_rejection_can_be_taken_back_at_any_time(db: Session) -> None:
    handed, ops = rejected(db), make_reviewer(db)
    late = LATER + timedelta(days=400)
    with pytest.raises(AppealUnfit):
        unreject_submission(db, handed.id, reason_code=" ", at=late, actor_id=ops)
    unreject_submission(db, handed.id, reason_code="lab_error", at=late, actor_id=ops)
    db.expire_all()
    assert handed.state == "accepted"
    assert db.get_one(Verdict, handed.id).basis == "unreject"
    with pytest.raises(StateConflict):
        unreject_submission(db, handed.id, reason_code="lab_error", at=late, actor_id=ops)
    assert unfolded(db) == []


# Standing and qualifications ----------------------------------------------------------------------


def shut_out(db: Session, *, until: datetime | None = None) -> Measure:
    """An expert who was suspended, step by step."""
    expert = make_expert(db)
    change = partial(change_standing, db, expert.id, at=AT, reason_code="quality", note="Case 7.")
    change("watch")
    change("limit", domains=["chemistry"])
    with pytest.raises(EvidenceMissing):
        change("suspend")
    change("suspend", evidence=["sub_1"], until=until, actor_id=make_reviewer(db))
    return db.scalars(select(Measure).where(Measure.step == "suspend")).one()


def test_a_step_of_standing_is_lifted_by_an_appeal(db: Session) -> None:
    measure = shut_out(db)
    assert measure.taken_by is not None
    row = file_appeal(db, "measure", measure.id, person_id=measure.expert_id, note=NOTE, at=LATER)
    with pytest.raises(DeciderInvolved):
        assign_appeal(db, row.id, decider_id=measure.taken_by, at=LATER)
    assign_appeal(db, row.id, decider_id=make_reviewer(db), at=LATER)
    with pytest.raises(AppealUnfit):
        decide(db, row, "overturn_partly", 50)
    decide(db, row, "overturn")
    state = text("select state from market.expert where id = :id")
    assert db.scalar(state, {"id": measure.expert_id}) == "good"
    assert (measure.ended_at, measure.end_reason) == (LATER, "appeal_won")
    with pytest.raises(NothingToAppeal):
        file_appeal(db, "measure", measure.id, person_id=measure.expert_id, note=NOTE, at=LATER)
    assert unfolded(db) == []


def test_a_step_with_an_end_is_lifted_by_it_and_one_without_by_hand(db: Session) -> None:
    measure = shut_out(db, until=AT + timedelta(days=3))
    lift_measures("2026-01-01T00:00:00+00:00")
    db.expire_all()
    # The clock of the job is past it.
    assert measure.end_reason == "time_over"
    lasting = shut_out_again(db)
    lift_measures("2026-01-01T00:00:00+00:00")
    db.expire_all()
    assert lasting.ended_at is None
    change_standing(
        db, lasting.expert_id, "lift", at=LATER, reason_code="cleared", note="Case 7 is closed."
    )
    db.expire_all()
    ended = db.execute(select(Measure.end_reason).where(Measure.id == lasting.id)).scalar_one()
    assert ended == "cleared"
    with pytest.raises(MeasureUnfit):
        change_standing(
            db, lasting.expert_id, "watch", at=LATER, reason_code="q", note="n", until=LATER
        )
    with pytest.raises(MeasureUnfit):
        change_standing(
            db, lasting.expert_id, "watch", at=LATER, reason_code="q", note="n", domains=["chem"]
        )
    with pytest.raises(IntegrityError, match="ck_measure_evidence"), db.begin_nested():
        db.execute(text("update market.measure set evidence = '{}' where step = 'suspend'"))


def shut_out_again(db: Session) -> Measure:
    """Another expert who was suspended, without an end."""
    expert = make_expert(db)
    for step in ("watch", "limit", "suspend"):
        change_standing(
            db, expert.id, step, at=AT, reason_code="q", note="Case 8.", evidence=["sub_2"]
        )
    return db.scalars(
        select(Measure).where(Measure.expert_id == expert.id, Measure.step == "suspend")
    ).one()


def test_a_qualification_that_was_taken_away_comes_back_by_an_appeal(db: Session) -> None:
    row = graded_test(db, 90)
    revoke_qualification(db, row.id, reason_code="copied", note=NOTE, evidence=["sub_1"], at=LATER)
    decide(db, filed(db, "qualification", row.id, row.person_id), "overturn")
    assert (row.state, row.score) == ("granted", 90)
    denied = graded_test(db, 60)
    decide(db, filed(db, "qualification", denied.id, denied.person_id), "overturn")
    assert (denied.state, denied.score) == ("granted", 70)
    assert unfolded(db) == []


# Over HTTP and at once ----------------------------------------------------------------------------


def test_an_appeal_goes_over_http_from_its_author_to_somebody_else_and_back(
    db: Session, web: TestClient[Any]
) -> None:
    lab = make_caller(db, web, Part.LAB)
    handed = rejected(db, organisation_id=lab.organisation_id)
    now = {"at": datetime.now(UTC)}
    db.execute(text("update market.submission set decided_at = :at"), now)
    db.commit()
    author = key_for(db, web, handed.expert_id, Part.EXPERT)
    ops = make_caller(db, web, Part.OPS)
    subject = f"sub_{handed.id.hex}"

    def said(answer: Any) -> tuple[int, str]:
        return answer.status_code, answer.json()["code"]

    body = {"subject": subject, "note": NOTE}
    assert said(author.post("/v1/appeals", json={**body, "note": "No."})) == (422, "appeal_unfit")
    assert said(author.post("/v1/appeals", json={**body, "subject": "off_1"})) == (
        422,
        "appeal_unfit",
    )
    stranger = make_caller(db, web, Part.EXPERT)
    assert said(stranger.post("/v1/appeals", json=body)) == (404, "nothing_to_appeal")
    made = author.post("/v1/appeals", json=body)
    assert made.status_code == 201, made.text
    assert said(author.post("/v1/appeals", json=body)) == (409, "already_appealed")
    address = f"/v1/appeals/{made.json()['id']}"
    assert stranger.get(address).status_code == 404
    assert author.get("/v1/appeals").json()["items"][0]["state"] == "filed"
    own = key_for(db, web, handed.expert_id, Part.OPS)
    assert said(own.post(f"{address}/assign")) == (403, "decider_involved")
    assert ops.post(f"{address}/assign").json()["state"] == "assigned"
    decided = ops.post(f"{address}/decide", json={"outcome": "uphold", "decision": WHY})
    assert decided.json()["state"] == "upheld"
    assert author.get(address).json()["decision"] == WHY
    path = f"/v1/submissions/{subject}/unreject"
    assert said(author.post(path, json={"reason_code": "x"})) == (403, "scope_missing")
    assert lab.post(path, json={"reason_code": "lab_error"}).json()["state"] == "accepted"
    late = rejected(db)
    db.commit()
    other = key_for(db, web, late.expert_id, Part.EXPERT)
    body = {"subject": f"sub_{late.id.hex}", "note": NOTE}
    assert said(other.post("/v1/appeals", json=body)) == (409, "appeal_too_late")


def test_an_expert_reads_every_word_of_its_standing(db: Session, web: TestClient[Any]) -> None:
    ops = make_caller(db, web, Part.OPS)
    expert = make_expert(db)
    db.commit()
    me, path = key_for(db, web, expert.id, Part.EXPERT), f"/v1/experts/per_{expert.id.hex}"
    step = {"action": "watch", "reason_code": "quality", "note": "Case 7.", "evidence": ["sub_1"]}
    any_version = {"If-Match": "*"}
    assert ops.post(f"{path}/transitions", json=step, headers=any_version).status_code == 200
    bad = {**step, "action": "limit", "until": "2020-01-01T00:00:00Z"}
    wrong = ops.post(f"{path}/transitions", json=bad, headers=any_version)
    assert (wrong.status_code, wrong.json()["code"]) == (422, "measure_unfit")
    limit = {**step, "action": "limit", "domains": ["chemistry"]}
    assert ops.post(f"{path}/transitions", json=limit, headers=any_version).status_code == 200
    bare = {**step, "action": "suspend", "evidence": []}
    wrong = ops.post(f"{path}/transitions", json=bare, headers=any_version)
    assert (wrong.status_code, wrong.json()["code"]) == (422, "evidence_missing")
    mine = me.get("/v1/experts/me/measures").json()["items"]
    assert [one["step"] for one in mine] == ["limit", "watch"]
    assert (mine[0]["domains"], mine[1]["evidence"]) == (["chemistry"], ["sub_1"])
    assert ops.get(f"{path}/measures").json()["items"] == mine


@pytest.mark.usefixtures("committed")
def test_a_decision_and_the_clock_at_once_decide_once() -> None:
    for _ in range(3):
        with database.begin() as session:
            handed = rejected(session)
            row = filed(session, "submission", handed.id, handed.expert_id)
            appeal_id, decider, due_at = row.id, row.decider_id or new_id(), row.due_at

        def uphold(appeal_id: UUID = appeal_id, decider: UUID = decider) -> str:
            with database.begin() as session:
                return decide_appeal(
                    session, appeal_id, "uphold", decider_id=decider, decision=WHY, at=LATER
                ).state

        def miss(appeal_id: UUID = appeal_id, due_at: datetime = due_at) -> str:
            with database.begin() as session:
                return str(miss_appeal(session, appeal_id, at=due_at))

        acts: list[Callable[[], str]] = [uphold, miss]
        found = [str(one) for one in at_once(acts)]
        assert ("upheld" in found) != ("True" in found), found
        with database.begin() as session:
            assert unfolded(session) == []
