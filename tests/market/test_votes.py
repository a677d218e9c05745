"""What votes come to beside yes and no: parts, silence, rubrics and stopping early."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.reviews.models import Review
from market.tasks.models import TaskSlot
from market.votes.rules import (
    MOST_POINTS,
    RejectionUnfounded,
    Tally,
    Vote,
    VoteUnfit,
    check_vote,
    points_of,
    share_by_points,
)
from tests.factories import (
    make_expert,
    make_offer,
    make_project,
    make_task,
)
from tests.market.reviewed import (
    ACCEPT,
    PART,
    REASON,
    REJECT,
    REMARK,
    REWORK,
    cast,
    hand_in,
)


@pytest.mark.parametrize(
    ("votes", "share"),
    [
        ((PART, PART, ACCEPT), 60),
        ((PART, REWORK, ACCEPT), 60),
        ((Vote("accept_share", share=20, note=REMARK), REJECT, PART), 20),
        ((PART, ACCEPT, ACCEPT), 100),
    ],
)
def test_what_most_find_too_little_is_taken_in_part(
    db: Session, votes: tuple[Vote, ...], share: int
) -> None:
    handed = hand_in(db, with_attempt=False)
    verdict = cast(db, handed, *votes)
    assert verdict is not None
    assert (verdict.share, verdict.is_accepted) == (share, True)
    assert handed.state == ("accepted" if share == 100 else "partially_accepted")
    assert db.get_one(TaskSlot, handed.slot_id).state == "counted"


shares = st.sampled_from([100, 70, 30, 0])


@given(said=st.lists(shares, min_size=1, max_size=7), rejects=st.integers(0, 7))
def test_what_votes_come_to_is_one_of_four_and_a_part_is_a_part(
    said: list[int], rejects: int
) -> None:
    nothing = said.count(0)
    rejects = min(rejects, nothing)
    whole = len(said)
    found = Tally(whole, whole, rejects, 0, 0, nothing - rejects, tuple(said))
    assert (found.says == "reject") == (2 * rejects > whole)
    if found.says == "accept_share":
        assert 0 < found.share < 100
    if found.says == "accept":
        assert 2 * said.count(100) >= whole
    if found.is_certain(has_claim=False):
        assert found.says in ("accept", "reject")


@given(
    votes=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=5),
    first=st.integers(1, 5),
)
def test_stopping_early_never_changes_what_is_decided(
    votes: list[tuple[bool, bool, bool]], first: int
) -> None:
    def counted(some: list[tuple[bool, bool, bool]]) -> Tally:
        rejects, failed, fair = (sum(one[nth] for one in some) for nth in range(3))
        shares = tuple(0 if one[0] else 100 for one in some)
        return Tally(len(votes), len(some), rejects, failed, fair, 0, shares)

    early, late = counted(votes[:first]), counted(votes)
    if early.is_certain(has_claim=True):
        assert (early.says, early.is_validated, early.is_fair) == (
            late.says,
            late.is_validated,
            late.is_fair,
        )


@pytest.mark.parametrize(
    ("vote", "refusal"),
    [
        (Vote("accept_share", note=REMARK), VoteUnfit),
        (Vote("accept_share", share=0, note=REMARK), VoteUnfit),
        (Vote("accept_share", share=100, note=REMARK), VoteUnfit),
        (Vote("accept", share=50), VoteUnfit),
        (Vote("accept_share", share=50, note="Meh."), VoteUnfit),
        (Vote("rework", note="Again."), VoteUnfit),
        (Vote("accept", criterion="tone"), VoteUnfit),
        (Vote("accept", task_broken=True), VoteUnfit),
        (REJECT, RejectionUnfounded),
    ],
)
def test_a_part_a_rework_and_a_rubric_have_their_own_demands(
    vote: Vote, refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        check_vote(vote, has_attempt=False, criteria=("facts", "proof"))


def test_a_rejection_points_to_a_criterion_of_the_tasks_rubric(db: Session) -> None:
    project = make_project(db, reviews_per_submission=1)
    rubric = {"rubric": {"criteria": [{"id": "facts"}, {"id": "proof"}]}}
    offer = make_offer(db, make_task(db, project, payload=rubric), make_expert(db).id)
    handed = hand_in(db, offer=offer, with_attempt=False)
    with pytest.raises(RejectionUnfounded, match="criterion"), db.begin_nested():
        cast(db, handed, REJECT)
    pointed = Vote("reject", reason_code="wrong_answer", note=REASON, criterion="proof")
    verdict = cast(db, handed, pointed)
    assert verdict is not None
    assert db.scalars(select(Review.criterion)).one() == "proof"


RUBRIC = {"rubric": {"criteria": [{"id": "facts", "points": 3}, {"id": "proof", "points": 1}]}}


@pytest.mark.parametrize(
    "vote",
    [
        Vote("accept_share", share=75, note=REMARK),
        Vote("accept_share", met=("facts", "facts"), note=REMARK),
        Vote("accept_share", met=("style",), note=REMARK),
        Vote("accept_share", met=(), note=REMARK),
        Vote("accept_share", met=("facts", "proof"), note=REMARK),
        Vote("accept_share", met=("facts",), share=60, note=REMARK),
        Vote("accept", met=("facts",)),
    ],
)
def test_a_part_says_which_criteria_hold_where_they_have_points(vote: Vote) -> None:
    with pytest.raises(VoteUnfit):
        share_by_points(vote, points_of(RUBRIC))


@given(st.lists(st.tuples(st.integers(1, MOST_POINTS), st.booleans()), min_size=2, max_size=8))
def test_a_part_is_the_share_of_its_points_and_never_all_or_nothing(
    said: list[tuple[int, bool]],
) -> None:
    points = {str(number): worth for number, (worth, _) in enumerate(said)}
    met = tuple(str(number) for number, (_, holds) in enumerate(said) if holds)
    if len(met) in (0, len(said)):
        return
    found = share_by_points(Vote("accept_share", met=met, note=REMARK), points).share
    assert found is not None
    exact = 100 * sum(points[one] for one in met) / sum(points.values())
    assert 1 <= found <= 99
    assert abs(found - min(99, max(1, exact))) <= 0.5


@pytest.mark.parametrize(
    "criteria",
    [
        [{"id": "facts", "points": 3}, {"id": "proof"}],
        [{"id": "facts", "points": 0}, {"id": "proof", "points": 1}],
        [{"id": "facts", "points": True}, {"id": "proof", "points": 1}],
        [{"id": "facts", "points": "3"}, {"id": "proof", "points": 1}],
        [{"id": "facts", "points": MOST_POINTS + 1}, {"id": "proof", "points": 1}],
        [{"id": "facts", "points": 3}, "proof"],
        [{"id": "facts", "points": 3}, {"id": "facts", "points": 1}],
        [{"id": "facts", "points": 3}],
        [],
    ],
)
def test_points_count_only_where_every_criterion_has_some(criteria: list[object]) -> None:
    assert points_of({"rubric": {"criteria": criteria}}) == {}


def test_the_share_that_is_accepted_follows_the_rubrics_points(db: Session) -> None:
    project = make_project(db, reviews_per_submission=1)
    offer = make_offer(db, make_task(db, project, payload=RUBRIC), make_expert(db).id)
    handed = hand_in(db, offer=offer, with_attempt=False)
    verdict = cast(db, handed, Vote("accept_share", met=("facts",), note=REMARK))
    assert verdict is not None
    assert verdict.share == 75
    assert db.scalars(select(Review.met)).one() == ["facts"]
