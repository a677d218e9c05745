"""Whatever happens in whatever order, the keeper goes on, and its plans are what they should be."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
import pytest
from sqlalchemy import func, literal_column, select
from sqlalchemy.orm import Session

from market.db import PLATFORM, database
from market.errors import MarketError
from market.experts.actions import change_profile
from market.experts.models import Expert
from market.experts.queries import profile_of
from market.keeper import Keeper
from market.offers.actions import accept_offer, decline_offer, expire_offer, release_offer
from market.offers.models import Offer
from market.plans.actions import Plans, note_change
from market.plans.models import KeptPlanRow, PlanChange
from market.projects.actions import move_project
from market.projects.models import Project
from market.runs.actions import request_run
from market.runs.models import MatchingRun
from market.seats.actions import activate_offer
from market.standings.actions import change_standing
from market.tasks.actions import move_task
from market.tasks.models import Task
from tests.factories import make_expert, make_project, make_task
from tests.market.test_plans import Stage, check_equals_fresh, follow, matched

Row = TypeVar("Row", Offer, Expert, Task, Project)


class Storm:
    """A small market in which anything may happen next, and its keeper."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        with database.begin(PLATFORM) as session:
            projects = [make_project(session, budget_minor=int(m)) for m in (60_000, 10**7)]
            for n in range(6):
                make_expert(session, max_concurrent=1 + n % 2)
                make_task(session, projects[n % 2], value_weight=6.0 - n, slots=1 + n % 3)
        self.keeper = Keeper()
        self.keeper.turn()
        follow()
        self.stage = Stage(projects[0], self.keeper, matched(None))
        self.events: tuple[Callable[[Session], object], ...] = (
            self.decline,
            self.decline,
            self.expire,
            self.work,
            self.give_back,
            self.newcomer,
            self.task_comes,
            self.task_goes,
            self.project_moves,
            self.room_changes,
            self.standing_changes,
            self.run_again,
            self.rumour,
        )

    def pick(self, session: Session, of: type[Row], *states: str) -> Row | None:
        """Any row, in one of these states if some are named."""
        rows = select(of)
        if states:
            rows = rows.where(literal_column("state").in_(states))
        found = list(session.scalars(rows.order_by(literal_column("id"))))
        return found[int(self.rng.integers(len(found)))] if found else None

    def decline(self, session: Session) -> None:
        """Somebody says no."""
        if offer := self.pick(session, Offer, "pending"):
            decline_offer(
                session, offer.id, expert_id=offer.expert_id, reason="no_time", at=at_now()
            )

    def expire(self, session: Session) -> None:
        """Somebody says nothing."""
        if offer := self.pick(session, Offer, "pending"):
            expire_offer(session, offer.id, at=offer.expires_at)

    def work(self, session: Session) -> None:
        """Somebody says yes and begins."""
        if offer := self.pick(session, Offer, "pending"):
            accept_offer(session, offer.id, expert_id=offer.expert_id, at=at_now())
            activate_offer(session, offer.id, expert_id=offer.expert_id, at=at_now())

    def give_back(self, session: Session) -> None:
        """Somebody gives a task back that they had begun."""
        if offer := self.pick(session, Offer, "active"):
            release_offer(
                session,
                offer.id,
                expert_id=offer.expert_id,
                reason="no_time",
                owes_time=False,
                at=at_now(),
            )

    def newcomer(self, session: Session) -> None:
        """Somebody comes."""
        make_expert(session, max_concurrent=int(self.rng.integers(1, 3)))

    def task_comes(self, session: Session) -> None:
        """A lab publishes a task."""
        if project := self.pick(session, Project, "live"):
            weight = float(self.rng.uniform(0.5, 9))
            task = make_task(session, project, value_weight=weight, state="draft")
            move_task(session, task.id, "publish", at=at_now())

    def task_goes(self, session: Session) -> None:
        """A lab takes a task back."""
        if task := self.pick(session, Task, "queued", "active"):
            move_task(session, task.id, "cancel", at=at_now())

    def project_moves(self, session: Session) -> None:
        """A lab pauses a project, or goes on with it."""
        if project := self.pick(session, Project, "live", "paused"):
            if project.state == "paused":
                move_project(session, project.id, "resume", at=at_now())
            elif self.rng.random() < 0.3:
                move_project(session, project.id, "pause", at=at_now(), reason_code="manual")

    def room_changes(self, session: Session) -> None:
        """Somebody takes more or less."""
        if expert := self.pick(session, Expert):
            most, hours = int(self.rng.integers(1, 4)), int(self.rng.choice([1, 10, 40]))
            profile = replace(profile_of(session, expert), max_concurrent=most, weekly_hours=hours)
            change_profile(session, expert.id, profile, at=at_now())

    def standing_changes(self, session: Session) -> None:
        """Somebody may not work for a while, or may again."""
        if expert := self.pick(session, Expert):
            steps = {"good": "watch", "watched": "limit", "limited": "suspend"}
            change_standing(
                session,
                expert.id,
                steps.get(expert.state, "lift"),
                at=at_now(),
                reason_code="quality",
                note="Looked at.",
            )

    def run_again(self, session: Session) -> None:
        """Somebody asks for a run; it ends when reactions are followed."""
        project = self.pick(session, Project, "live")
        scope = None if project is None or self.rng.random() < 0.5 else project.id
        request_run(session, project_id=scope, at=at_now())

    def rumour(self, session: Session) -> None:
        """Word of a change comes late, twice, or of nothing."""
        kinds = (Offer, Expert, Task, Project, MatchingRun)
        of = kinds[int(self.rng.integers(len(kinds)))]
        kind = "run" if of is MatchingRun else of.__name__.lower()
        if found := session.scalars(select(of.id).order_by(of.id)).all():
            subject = found[int(self.rng.integers(len(found)))]
            note_change(session, kind, subject, at=at_now())

    def blow(self, events: int) -> None:
        """So many events, the keeper at work now and then, and dying now and then."""
        for _ in range(events):
            # What the market refuses did not happen.
            with suppress(MarketError), database.begin(PLATFORM) as session:
                self.events[int(self.rng.integers(len(self.events)))](session)
            if self.rng.random() < 0.3:
                follow()
            if self.rng.random() < 0.4:
                self.keeper.turn()
            if self.rng.random() < 0.05:
                self.keeper.plans = None
        self.stage.react()

    def check(self) -> None:
        """Nothing waits, no plan was lost, all are as good as new, and can be made again."""
        check_equals_fresh(self.keeper)
        with database.begin(PLATFORM) as session:
            assert session.scalar(select(func.count()).select_from(PlanChange)) == 0
            assert list(session.scalars(select(KeptPlanRow.given_up)).unique()) == [None]
            again = {plan.run_id: plan for plan in Plans(session).kept()}
            assert self.keeper.plans is not None
            for plan in self.keeper.plans.kept():
                assert plan.free() == []
                assert again[plan.run_id].digest() == plan.digest()
        self.keeper.stop()


def at_now() -> datetime:
    """The time of day."""
    return datetime.now(UTC)


def test_a_keeper_goes_on_whatever_happens(committed: str) -> None:
    del committed
    storm = Storm(1)
    storm.blow(25)
    storm.check()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 14))
def test_keepers_go_on_through_long_storms(committed: str, seed: int) -> None:
    del committed
    storm = Storm(seed)
    storm.blow(120)
    storm.check()
