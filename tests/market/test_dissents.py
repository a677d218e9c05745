"""Questions of judgement: several answers stand; who disagrees with a reason may be rewarded."""

from datetime import timedelta
from typing import Any

from litestar.testing import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from market.auth import Part
from market.earnings.queries import unbacked_lines
from market.impact.actions import credit_item
from market.impact.models import ItemCredit
from market.quality.actions import observe_verdict
from market.quality.models import ReviewerReliability, VoteMerit
from market.quality.queries import known_answers
from market.review_plans.actions import set_plan
from market.review_plans.rules import PLAIN, Plan
from market.reviews.actions import claim_review
from market.reviews.models import Review
from market.submissions.models import Submission
from market.verdicts.models import Verdict
from market.votes.actions import record_vote
from market.votes.rules import Vote
from payouts import chart
from payouts.invariants import violations
from payouts.ledger import balance
from tests.factories import key_for, make_expert, make_offer, make_project, make_task
from tests.market.reviewed import (
    ACCEPT,
    LATER,
    REASON,
    REJECT,
    REMARK,
    STUMP,
    cast,
    hand_in,
    make_reviewer,
    make_senior,
    review_ids,
)
from tests.market.test_console import come_in
from tests.market.test_console_sides import key_of_lab

Web = TestClient[Any]
POEMS = (
    "The harbour keeps the winter in its stone, and nobody who waits there is alone.",
    "Seven geese went over while I counted change; the eighth was late, and had your coat on.",
)


def promise(db: Session, project_id: Any, minor: int | None) -> None:
    """Let a project's plan promise so much for a dissent."""
    plan = PLAIN if minor is None else Plan(adjudicate="never", dissent_minor=minor)
    set_plan(db, project_id, plan, at=LATER - timedelta(days=1))


def vote_of(db: Session, handed: Submission, vote: Vote) -> Review:
    """The one vote on a submission that says this."""
    return db.scalars(
        select(Review).where(Review.submission_id == handed.id, Review.verdict == vote.verdict)
    ).one()


def part_of(share: int) -> Vote:
    """A vote that takes so many per cent of the work."""
    return Vote("accept_share", share=share, note=REMARK)


def reward(lab: Any, review_id: Any, reason: str = "It names what the others missed.") -> Any:
    """Ask for a dissent's reward; each time with a key of its own."""
    return lab.post(
        f"/v1/reviews/rev_{review_id.hex}/reward",
        json={"reason": reason},
        headers={"Idempotency-Key": f"{review_id}:{len(reason)}"},
    )


def test_two_unlike_poems_both_stand_and_a_reasoned_dissent_costs_nothing_and_is_rewarded(
    db: Session, web: Web
) -> None:
    project = make_project(db, budget_minor=10**8, reviews_per_submission=3)
    promise(db, project.id, 2_500)
    task = make_task(db, project, slots=2)
    handed = [
        hand_in(
            db,
            offer=make_offer(db, task, make_expert(db).id),
            with_attempt=False,
            payload={"poem": poem},
        )
        for poem in POEMS
    ]
    for one in handed:
        assert cast(db, one, ACCEPT, REJECT, ACCEPT) is not None
        observe_verdict(db, one.id, at=LATER)
        credit_item(db, one.id, at=LATER)
    decided = db.scalars(select(Verdict).where(Verdict.task_id == task.id)).all()
    assert [one.is_accepted for one in decided] == [True, True]
    novelty = db.scalars(select(ItemCredit.novelty).where(ItemCredit.project_id == project.id))
    assert list(novelty) == [1.0, 1.0]
    # Who disagreed is believed exactly as much as who did not.
    assert set(db.scalars(select(VoteMerit.merit))) == {0.0}
    assert db.scalar(select(func.count(ReviewerReliability.accuracy.distinct()))) == 1

    lab = key_of_lab(web, db, project)
    db.commit()
    listed = lab.get(f"/v1/projects/prj_{project.id.hex}/dissents").json()["items"]
    assert {one["submission_id"] for one in listed} == {f"sub_{one.id.hex}" for one in handed}
    assert {(one["verdict"], one["is_accepted"], one["note"]) for one in listed} == {
        ("reject", True, REASON)
    }
    vote = vote_of(db, handed[0], REJECT)
    assert vote.reviewer_id is not None
    assert reward(lab, vote.id, "short").json()["code"] == "reason_blank"
    given = reward(lab, vote.id)
    assert given.status_code == 200, given.text
    assert (given.json()["verdict"], given.json()["amount_minor"]) == ("given", 2_500)
    assert reward(lab, vote.id, "Once more, in other words.").json()["verdict"] == "unchanged"
    assert balance(db, chart.owed_to(vote.reviewer_id)).available_minor == 2_500
    again = lab.get(f"/v1/projects/prj_{project.id.hex}/dissents").json()["items"]
    assert sorted(one["rewarded_minor"] or 0 for one in again) == [0, 2_500]
    db.expire_all()
    assert db.get_one(Verdict, handed[0].id).is_accepted
    assert unbacked_lines(db) == []
    assert violations(db) == []
    reviewer = key_for(db, web, vote.reviewer_id, Part.REVIEWER)
    (line,) = reviewer.get("/v1/earnings").json()["items"]
    assert (line["kind"], line["pay_minor"], line["state"]) == ("bonus", 2_500, "approved")
    come_in(web, reviewer)
    assert "It names what the others missed." in web.get("/console/reviewer/earnings").text


def test_open_work_is_graded_without_severity_and_put_in_order_by_those_who_saw_several(
    db: Session, web: Web
) -> None:
    project = make_project(db, budget_minor=10**8, reviews_per_submission=2)
    task = make_task(db, project, slots=3)
    best, good, poor = (
        hand_in(db, offer=make_offer(db, task, make_expert(db).id), with_attempt=False)
        for _ in range(3)
    )
    alone = hand_in(
        db,
        offer=make_offer(db, make_task(db, project), make_expert(db).id),
        with_attempt=False,
    )
    mild, severe = make_reviewer(db), make_reviewer(db)

    def grade(handed: Submission, nth: int, reviewer: Any, vote: Vote) -> None:
        review_id = review_ids(db, handed)[nth]
        claim_review(db, review_id, reviewer_id=reviewer, at=LATER)
        record_vote(db, review_id, reviewer_id=reviewer, vote=vote, at=LATER)

    for handed, low, high in ((best, 70, ACCEPT), (good, 40, 75), (poor, 10, 50)):
        grade(handed, 0, severe, part_of(low))
        grade(handed, 1, mild, high if isinstance(high, Vote) else part_of(high))
    # Only the severe one saw it, and gave what it gives to good work.
    grade(alone, 0, severe, part_of(40))
    lab = key_of_lab(web, db, project)
    db.commit()
    path = f"/v1/projects/prj_{project.id.hex}/grades"
    told = {one["submission_id"]: one for one in lab.get(path).json()}
    first, second, third = (told[f"sub_{one.id.hex}"] for one in (best, good, poor))
    assert [one["place"] for one in (first, second, third)] == [1, 2, 3]
    assert first["worth"] > second["worth"] > third["worth"]
    assert first["share"] > second["share"] > third["share"]
    assert first["comparisons"] == 4
    other = told[f"sub_{alone.id.hex}"]
    assert (other["plain"], other["grades"], other["place"]) == (40.0, 1, None)
    # It is not held against it that nobody mild has seen it.
    assert other["share"] > other["plain"]
    assert other["low"] < other["share"] < other["high"]
    assert other["high"] - other["low"] > second["high"] - second["low"]
    assert key_of_lab(web, db, make_project(db)).get(path).status_code == 404
    claimed = make_project(db)
    assert (
        key_of_lab(web, db, claimed).get(f"/v1/projects/prj_{claimed.id.hex}/grades").json() == []
    )


def test_a_senior_who_decides_open_work_proves_nobody_wrong(db: Session) -> None:
    project = make_project(db, reviews_per_submission=2)
    set_plan(db, project.id, Plan(adjudicate="splits"), at=LATER - timedelta(days=1))
    task = make_task(db, project)
    handed = hand_in(db, offer=make_offer(db, task, make_expert(db).id), with_attempt=False)
    assert cast(db, handed, ACCEPT, REJECT) is None
    senior, reviewer = review_ids(db, handed)[2], make_senior(db)
    claim_review(db, senior, reviewer_id=reviewer, at=LATER)
    decided = record_vote(db, senior, reviewer_id=reviewer, vote=ACCEPT, at=LATER)
    assert decided is not None
    assert decided.basis == "adjudication"
    observe_verdict(db, handed.id, at=LATER)
    assert db.scalars(select(VoteMerit.merit)).all() == [0.0, 0.0]
    assert known_answers(db, since=LATER - timedelta(days=9)) == {}


def test_what_a_dissent_may_earn_is_read_before_the_vote(db: Session, web: Web) -> None:
    project = make_project(db, reviews_per_submission=1)
    promise(db, project.id, 2_500)
    offer = make_offer(db, make_task(db, project), make_expert(db).id)
    handed = hand_in(db, offer=offer, with_attempt=False)
    # What was promised when the work came in holds for the votes on it.
    promise(db, project.id, None)
    reviewer = key_for(db, web, make_reviewer(db), Part.REVIEWER)
    (review_id,) = review_ids(db, handed)
    db.commit()
    taken = reviewer.post(f"/v1/reviews/rev_{review_id.hex}/claim").json()
    assert (taken["dissent_minor"], taken["currency"]) == (2_500, "USD")
    read = reviewer.get(f"/v1/reviews/rev_{review_id.hex}").json()
    assert read["dissent_minor"] == 2_500
    come_in(web, reviewer)
    page = web.get(f"/console/reviewer/reviews/rev_{review_id.hex}").text
    assert "may earn you 25.00" in page


def test_a_reward_is_refused_where_there_is_no_dissent_or_nothing_was_promised(
    db: Session, web: Web
) -> None:
    plain = make_project(db, budget_minor=10**8, reviews_per_submission=3)
    offers = [make_offer(db, make_task(db, plain), make_expert(db).id) for _ in range(3)]
    work = hand_in(db, offer=offers[0], with_attempt=False)
    cast(db, work, ACCEPT, REJECT, ACCEPT)
    claim = hand_in(db, offer=offers[1])
    cast(db, claim, STUMP, STUMP, Vote("reject", False, False, "wrong_answer", REASON))
    silent = hand_in(db, offer=offers[2], with_attempt=False)
    cast(db, silent, REJECT, REJECT, ACCEPT)
    lab = key_of_lab(web, db, plain)
    db.commit()
    listed = lab.get(f"/v1/projects/prj_{plain.id.hex}/dissents").json()["items"]
    # Whether a model failed is no matter of judgement, and a dissent without a word has no reason.
    assert [one["submission_id"] for one in listed] == [f"sub_{work.id.hex}"]
    dissent = vote_of(db, work, REJECT)
    assert reward(lab, dissent.id).json()["code"] == "nothing_promised"
    agreeing = db.scalars(
        select(Review.id).where(Review.submission_id == work.id, Review.verdict == "accept")
    ).first()
    for other in (agreeing, vote_of(db, claim, REJECT).id, vote_of(db, silent, ACCEPT).id):
        assert reward(lab, other).json()["code"] == "no_dissent"
    stranger = key_of_lab(web, db, make_project(db))
    assert reward(stranger, dissent.id).status_code == 404
