"""Plans between runs: who comes, leaves or says no is answered with offers, and nothing is lost."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from market.db import database
from market.events import Event, EventRow
from market.experts.actions import change_profile
from market.experts.queries import profile_of
from market.keeper import Keeper
from market.lease import LeaseTaken
from market.offers.actions import accept_offer, decline_offer, expire_offer
from market.offers.models import Offer
from market.plans.actions import Plans, note_change
from market.plans.jobs import note_run
from market.plans.models import KeptPlanRow, PlanStep
from market.plans.rules import REBUILDS, Accepted, PlanDiffers, written
from market.projects.models import Project
from market.reactions import REACTIONS
from market.runs.actions import request_run
from market.runs.jobs import run_matching
from market.runs.models import MatchingRun
from market.seats.actions import activate_offer
from market.tasks.actions import move_task
from market.tasks.models import Task
from matching.assign import assign
from matching.verify import verify
from tests.factories import make_expert, make_project, make_task


@dataclass
class Stage:
    """A market with a run behind it, and the keeper of its plan."""

    project: Project
    keeper: Keeper
    run_id: UUID

    def react(self) -> int:
        """Run what follows from what has happened, and let the keeper answer; how many changes."""
        follow()
        answered = 0
        while found := self.keeper.turn():
            answered += found
            follow()
        return answered

    def live(self) -> set[tuple[UUID, UUID]]:
        """Who is offered what, or has it."""
        with database.begin() as session:
            rows = session.execute(
                select(Offer.task_id, Offer.expert_id).where(
                    Offer.state.in_(("pending", "accepted", "active"))
                )
            )
            return {(row.task_id, row.expert_id) for row in rows}


def follow() -> None:
    """Every job that follows from what has happened, once."""
    while True:
        with database.begin() as session:
            rows = session.scalars(
                select(EventRow).where(EventRow.relayed_at.is_(None)).order_by(EventRow.id)
            ).all()
            for row in rows:
                row.relayed_at = row.at
            todo = [(Event(row.type), row.subject_id) for row in rows]
        if not todo:
            return
        for event, subject in todo:
            for job in REACTIONS.get(event, ()):
                job(str(subject))


def matched(project: Project | None) -> UUID:
    """A run over a project, or over everything, that is over."""
    with database.begin() as session:
        found, _ = request_run(
            session,
            project_id=None if project is None else project.id,
            seed=3,
            at=datetime.now(UTC),
        )
    run_matching(str(found.id))
    return found.id


@pytest.fixture
def stage(committed: str) -> Iterator[Stage]:
    """Three tasks and two experts who can hold one each; the keeper has the lease."""
    del committed
    with database.begin() as session:
        project = make_project(session, offer_ttl_s=3600)
        for _ in range(2):
            make_expert(session, max_concurrent=1)
        for n in range(3):
            make_task(session, project, value_weight=3.0 - n)
    keeper = Keeper()
    keeper.turn()
    follow()
    made = Stage(project, keeper, matched(project))
    made.react()
    yield made
    keeper.stop()


def offers_out(session: Session) -> list[Offer]:
    """Offers that wait for an answer, the most valuable first."""
    rows = select(Offer).where(Offer.state == "pending")
    return list(session.scalars(rows.order_by(Offer.value.desc())))


def task_named(n: int) -> UUID:
    """The tasks of the stage in the order of their worth."""
    with database.begin() as session:
        return list(session.scalars(select(Task.id).order_by(Task.value_weight.desc(), Task.id)))[n]


def check_equals_fresh(keeper: Keeper) -> None:
    """Every plan keeps its rules, and is as good as a fresh solve of what it has become."""
    assert keeper.plans is not None
    for kept in keeper.plans.kept():
        now = kept.plan.snapshot()
        assert verify(now.problem, now.assignment) == []
        fresh = assign(now.problem)
        assert fresh.objective - now.assignment.objective <= max(
            1e-6, (now.assignment.gap + 1e-4) * abs(now.assignment.bound)
        )


def test_a_plan_begins_where_its_run_ended(stage: Stage) -> None:
    assert len(stage.live()) == 2
    with database.begin() as session:
        row = session.scalars(select(KeptPlanRow)).one()
        assert (row.run_id, row.project_id, row.closed_at) == (
            stage.run_id,
            stage.project.id,
            None,
        )
        assert session.scalars(select(PlanStep.number)).all() == [1]
    check_equals_fresh(stage.keeper)


def test_a_declined_seat_goes_to_whoever_is_free(stage: Stage) -> None:
    with database.begin() as session:
        first, second = offers_out(session)
        # The one who declines is free for the task that was left over.
        decline_offer(
            session,
            first.id,
            expert_id=first.expert_id,
            reason="not_interested",
            at=datetime.now(UTC),
        )
    assert stage.react()
    left = task_named(2)
    assert stage.live() == {(second.task_id, second.expert_id), (left, first.expert_id)}
    with database.begin() as session:
        made = session.scalars(select(Offer).where(Offer.task_id == left)).one()
        assert (made.run_id, made.probability, made.state) == (stage.run_id, 1.0, "pending")
        assert made.explanation.startswith("Chosen for")
        newcomer = make_expert(session, max_concurrent=1)
    assert stage.react()
    assert (first.task_id, newcomer.id) in stage.live()
    check_equals_fresh(stage.keeper)


def test_an_offer_that_times_out_goes_to_another_and_not_back_at_once(stage: Stage) -> None:
    with database.begin() as session:
        first, _ = offers_out(session)
        newcomer = make_expert(session, max_concurrent=1)
    assert stage.react()
    assert (task_named(2), newcomer.id) in stage.live()
    with database.begin() as session:
        assert expire_offer(session, first.id, at=first.expires_at)
        late = make_expert(session, max_concurrent=1)
    assert stage.react()
    assert (first.task_id, late.id) in stage.live()
    assert (first.task_id, first.expert_id) not in stage.live()


def test_a_task_that_is_published_is_offered(stage: Stage) -> None:
    with database.begin() as session:
        free = make_expert(session, max_concurrent=2)
    assert stage.react()
    assert (task_named(2), free.id) in stage.live()
    with database.begin() as session:
        project = session.get_one(Project, stage.project.id)
        drafted = make_task(session, project, value_weight=9.0, state="draft")
        move_task(session, drafted.id, "publish", at=datetime.now(UTC))
    assert stage.react()
    assert (drafted.id, free.id) in stage.live()
    check_equals_fresh(stage.keeper)


def test_a_task_that_is_cancelled_frees_its_expert_for_another(stage: Stage) -> None:
    with database.begin() as session:
        first, second = offers_out(session)
        move_task(session, first.task_id, "cancel", at=datetime.now(UTC))
    assert stage.react()
    assert stage.live() == {
        (second.task_id, second.expert_id),
        (task_named(2), first.expert_id),
    }


def test_an_expert_who_takes_more_is_offered_more_and_one_who_leaves_nothing(stage: Stage) -> None:
    with database.begin() as session:
        first, second = offers_out(session)
        accept_offer(session, first.id, expert_id=first.expert_id, at=datetime.now(UTC))
        activate_offer(session, first.id, expert_id=first.expert_id, at=datetime.now(UTC))
    assert stage.react() == 0
    with database.begin() as session:
        from market.experts.queries import expert as expert_of

        found = expert_of(session, first.expert_id)
        profile = profile_of(session, found)
        from dataclasses import replace

        change_profile(session, found.id, replace(profile, max_concurrent=2), at=datetime.now(UTC))
    assert stage.react()
    assert (task_named(2), first.expert_id) in stage.live()
    with database.begin() as session:
        gone = expert_of(session, second.expert_id)
        gone.state = "watched"
        session.flush()
        for state in ("limited", "suspended"):
            gone.state = state
            session.flush()
        note_change(session, "expert", gone.id, at=datetime.now(UTC))
        offer = session.get_one(Offer, second.id)
        assert expire_offer(session, offer.id, at=offer.expires_at)
    stage.react()
    assert all(expert != gone.id for _, expert in stage.live())


def test_money_that_comes_is_offered_and_money_that_is_gone_is_not(committed: str) -> None:
    del committed
    from payouts.chart import lab_funding, project_budget
    from payouts.ledger import Line, balance, post_entry
    from tests.factories import give_money

    with database.begin() as session:
        # At worst an answer costs 10001 + 2002.
        project = make_project(session, budget_minor=13_000, rate_minor_per_hour=10_000, cap_s=3600)
        for _ in range(2):
            make_expert(session, max_concurrent=1)
            make_task(session, project)
    keeper = Keeper()
    keeper.turn()
    stage = Stage(project, keeper, matched(project))
    stage.react()
    assert len(stage.live()) == 1
    check_equals_fresh(keeper)
    with database.begin() as session:
        at = datetime.now(UTC)
        give_money(session, project.organisation_id, 30_000, at=at)
        escrow = project_budget(project.id, project.organisation_id)
        post_entry(
            session,
            key="test:more",
            kind="J2",
            lines=[Line(lab_funding(project.organisation_id), escrow, 30_000)],
            at=at,
        )
        note_change(session, "project", project.id, at=at)
    stage.react()
    assert len(stage.live()) == 2
    with database.begin() as session:
        assert balance(session, escrow).available_minor == 43_000 - 2 * 12_003
    keeper.stop()


def test_a_plan_is_restored_from_its_run_and_its_steps(stage: Stage) -> None:
    with database.begin() as session:
        first, _ = offers_out(session)
        decline_offer(
            session, first.id, expert_id=first.expert_id, reason="no_time", at=datetime.now(UTC)
        )
    stage.react()
    assert stage.keeper.plans is not None
    [kept] = stage.keeper.plans.kept()
    with database.begin() as session:
        [again] = Plans(session).kept()
        assert (again.steps, again.digest()) == (kept.steps, kept.digest())
        assert kept.steps > 1


def test_a_plan_that_cannot_be_made_again_is_refused(stage: Stage) -> None:
    plain = text("update market.plan_step set digest = 'another' where number = 1")
    with database.engine.begin() as owner:
        owner.execute(plain)
    with database.begin() as session, pytest.raises(PlanDiffers) as refused:
        Plans(session)
    assert (refused.value.run_id, refused.value.number) == (stage.run_id, 1)


def test_a_run_over_everything_takes_the_place_of_all_plans(stage: Stage) -> None:
    with database.begin() as session:
        other = make_project(session)
        task = make_task(session, other)
        expert = make_expert(session)
    whole = matched(None)
    stage.react()
    with database.begin() as session:
        rows = {
            row.run_id: row.closed_at is None for row in session.scalars(select(KeptPlanRow)).all()
        }
    assert rows == {stage.run_id: False, whole: True}
    assert (task.id, expert.id) in stage.live()


def test_a_project_that_is_new_to_the_plans_gets_a_run(stage: Stage) -> None:
    matched(None)
    stage.react()
    with database.begin() as session:
        make_expert(session)
        other = make_project(session)
        task = make_task(session, other)
        note_change(session, "task", task.id, at=datetime.now(UTC))
    stage.react()
    with database.begin() as session:
        scopes = session.scalars(select(MatchingRun.project_id).order_by(MatchingRun.id)).all()
        assert scopes == [stage.project.id, None, other.id]
    assert task.id in {found for found, _ in stage.live()}


def test_what_happens_while_a_run_solves_is_answered_when_its_plan_begins(stage: Stage) -> None:
    with database.begin() as session:
        asked, _ = request_run(session, project_id=stage.project.id, at=datetime.now(UTC))
    follow_none = stage.keeper
    with database.begin() as session:
        newcomer = make_expert(session, max_concurrent=1)
        late = make_task(session, session.get_one(Project, stage.project.id), value_weight=9.0)
    # The keeper hears of them before the run is over, and the run's plan takes the place of its.
    run_matching(str(asked.id))
    stage.react()
    assert follow_none.plans is not None
    assert len(stage.live()) == 3
    assert {task for task, _ in stage.live()} >= {late.id}
    assert newcomer.id in {expert for _, expert in stage.live()}


def test_only_the_holder_of_the_lease_writes(stage: Stage) -> None:
    rival = Keeper()
    assert rival.turn() is None
    with database.begin() as session:
        session.execute(text("update market.lease set held_until = now() - interval '1 s'"))
    assert rival.turn() is not None
    assert rival.fence == (stage.keeper.fence or 0) + 1
    with database.begin() as session:
        first, _ = offers_out(session)
        decline_offer(
            session, first.id, expert_id=first.expert_id, reason="no_time", at=datetime.now(UTC)
        )
    follow()
    # The one before believes that it has the lease, and is refused where it writes.
    assert stage.keeper.plans is not None
    with pytest.raises(LeaseTaken), database.begin() as session:
        stage.keeper.plans.answer(
            session, stage.keeper.holder_id, stage.keeper.fence or 0, at=datetime.now(UTC)
        )
    assert rival.turn()
    assert (task_named(2), first.expert_id) in stage.live()
    rival.stop()


def test_a_failed_run_changes_no_plan(stage: Stage) -> None:
    with database.begin() as session:
        found, _ = request_run(session, project_id=stage.project.id, at=datetime.now(UTC))
    note_run(str(found.id))
    assert stage.keeper.turn() == 1
    with database.begin() as session:
        assert session.scalars(select(KeptPlanRow.run_id)).one() == stage.run_id


@pytest.mark.parametrize("harm", ["digest", "moves"])
def test_a_plan_that_cannot_go_on_is_made_anew_by_a_run(stage: Stage, harm: str) -> None:
    with database.engine.begin() as owner:
        if harm == "digest":
            owner.execute(text("update market.plan_step set digest = 'another' where number = 1"))
        else:
            impossible = {"moves": written([Accepted(10**6)])}
            owner.execute(text("update market.plan_step set moves = :moves"), impossible)
        newcomer = make_expert(Session(owner), max_concurrent=1)
    # As after a crash: the next one has to make the plan again from its steps.
    stage.keeper.plans = None
    assert stage.react()
    with database.begin() as session:
        lost, kept = session.scalars(select(KeptPlanRow).order_by(KeptPlanRow.run_id)).all()
        assert lost.run_id == stage.run_id
        assert lost.closed_at is not None
        assert ("another one" if harm == "digest" else "is not an open choice") in str(
            lost.given_up
        )
        assert (kept.project_id, kept.closed_at) == (stage.project.id, None)
    assert newcomer.id in {expert for _, expert in stage.live()}
    assert len(stage.live()) == 3
    check_equals_fresh(stage.keeper)


def test_plans_that_are_lost_again_and_again_are_left_to_people(stage: Stage) -> None:
    for _ in range(REBUILDS + 1):
        with database.engine.begin() as owner:
            owner.execute(
                text(
                    "insert into market.plan_step (run_id, number, fence, at, moves, digest)"
                    " select run_id, steps + 1, 1, now(), :moves, '' from market.kept_plan"
                    " where closed_at is null"
                ),
                {"moves": written([Accepted(10**6)])},
            )
        stage.keeper.plans = None
        assert stage.react()
    with database.begin() as session:
        rows = session.scalars(select(KeptPlanRow)).all()
        assert len(rows) == 1 + REBUILDS
        assert all(row.given_up for row in rows)
    assert stage.keeper.turn() == 0


def test_offers_that_ended_before_their_plan_began_leave_the_others_where_they_are(
    committed: str,
) -> None:
    del committed
    with database.begin() as session:
        project = make_project(session)
        for n in range(2):
            make_expert(session, max_concurrent=1)
            make_task(session, project, value_weight=3.0 - n)
    keeper = Keeper()
    keeper.turn()
    stage = Stage(project, keeper, matched(project))
    with database.begin() as session:
        dearest, other = offers_out(session)
        # The plan would rather move the other expert to the seat that is open now, whose offer is
        # out already.
        decline_offer(
            session, dearest.id, expert_id=dearest.expert_id, reason="no_time", at=datetime.now(UTC)
        )
    assert stage.react()
    assert stage.live() == {(other.task_id, other.expert_id)}
    check_equals_fresh(keeper)
    keeper.stop()


def test_word_of_a_run_that_comes_late_or_again_opens_no_plan(stage: Stage) -> None:
    with database.begin() as session:
        early, _ = request_run(session, project_id=stage.project.id, seed=1, at=datetime.now(UTC))
    whole = matched(None)
    stage.react()
    run_matching(str(early.id))
    for late in (stage.run_id, early.id, whole):
        note_run(str(late))
        assert stage.keeper.turn()
    with database.begin() as session:
        rows = select(KeptPlanRow.run_id).where(KeptPlanRow.closed_at.is_(None))
        assert session.scalars(rows).all() == [whole]
    stage.react()
    check_equals_fresh(stage.keeper)
