"""Who is left without work after being taken on: with admission by forecast, and without it.

Through the service on a scratch database: people apply day by day, are admitted, take the test,
and are promised first work within the days that the terms name. Work comes in at random and grows
to four times what it was, but for three weeks in which only six tenths of it come; each day it goes
to the ablest who have hours left, so that whoever is one too many waits. Without control everybody
is admitted at once.
"""

import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.admissions.actions import (
    admit_out_of_turn,
    apply_for_admission,
    follow_admission,
)
from market.admissions.jobs import admit_in_turn
from market.admissions.models import Admission
from market.auth import keyring
from market.db import PLATFORM, database, new_id
from market.embedded import EmbeddedPostgres
from market.projects.models import Project
from market.qualifications.actions import (
    begin_qualification,
    grade_qualification,
    invite_to_qualify,
)
from market.tasks.models import Task
from tests.conftest import SECRET, migrate
from tests.factories import AT, make_expert, make_offer, make_project, make_task

ROUNDS = 1
DAYS = 91
PRESENT, HOURS = 6, 20
TASKS_A_DAY, TASK_S = (4, 16), 21600
"""On the first day and on the last, and what each takes. Units: seconds."""

FALLEN, LOW = range(42, 63), 0.6
APPLY_A_DAY = 0.7
PASS = 0.7
TEST_D = 2
MOST_IDLE = 0.05
"""The share of those who passed their test that may be offered no work in the promised days."""


@dataclass
class Arm:
    """One field with its people and its work."""

    domain: str
    is_gated: bool
    project_id: UUID
    ability: dict[UUID, float] = field(default_factory=dict)
    hours: dict[UUID, int] = field(default_factory=dict)
    ready: set[UUID] = field(default_factory=set)
    tests: dict[int, list[UUID]] = field(default_factory=dict)
    open: list[UUID] = field(default_factory=list)
    used_s: dict[UUID, int] = field(default_factory=dict)


def run(seed: int, rounds: int) -> dict[str, object]:
    """Shares of people who were left idle, over all rounds; met where control keeps them low."""
    keyring.open(SECRET)
    with (
        tempfile.TemporaryDirectory(prefix="bench-admission-") as folder,
        EmbeddedPostgres(Path(folder) / "postgres") as server,
    ):
        migrate(server.url)
        database.open(server.url)
        found = [
            {name: lived(seed + n, f"{name}{n}", name == "gated") for name in ("gated", "open")}
            for n in range(rounds)
        ]
        database.close()
    told: dict[str, object] = {}
    for name in ("gated", "open"):
        total = {key: sum(one[name][key] for one in found) for key in found[0][name]}
        passed = total["served"] + total["compensated"]
        told[name] = {**total, "idle": round(total["compensated"] / passed, 4) if passed else None}
    gated = told["gated"]
    idle = gated["idle"] if isinstance(gated, dict) else None
    return {"met": idle is not None and idle < MOST_IDLE, "target": MOST_IDLE, "days": DAYS, **told}


def lived(seed: int, domain: str, is_gated: bool) -> dict[str, int]:
    """So many days of one field: how many applied, were admitted, served, and left idle."""
    rng = np.random.default_rng(seed)
    with database.begin(PLATFORM) as session:
        project = make_project(
            session, domains=(domain,), answers_per_task=1, budget_minor=10**12, at=AT
        )
        arm = Arm(domain, is_gated, project.id)
        for _ in range(PRESENT):
            person = join(session, arm, rng, HOURS, AT)
            test = invite_to_qualify(session, person, domain=domain, pass_score=70, at=AT)
            begin_qualification(session, test.id, person_id=person, at=AT)
            grade_qualification(session, test.id, score=90, at=AT)
            arm.ready.add(person)
    for day in range(DAYS):
        with database.unit() as session:
            live_a_day(session, arm, rng, day)
    with database.begin(PLATFORM) as session:
        rows = session.scalars(select(Admission).where(Admission.domain == domain)).all()
        states = [row.state for row in rows]
        # Whoever's days are not over says nothing yet.
        return {
            "applied": len(rows),
            "admitted": sum(row.decided_at is not None for row in rows),
            **{one: states.count(one) for one in ("served", "compensated", "waiting")},
        }


def live_a_day(session: Session, arm: Arm, rng: np.random.Generator, day: int) -> None:
    """Applications, tests, new work, and the day's offers; then what the sweep does."""
    at = AT + timedelta(days=day)
    if day % 7 == 0:
        arm.used_s.clear()
    for _ in range(rng.poisson(APPLY_A_DAY)):
        person = join(session, arm, rng, int(rng.integers(10, 31)), at)
        row = apply_for_admission(session, person, arm.domain, at=at)
        if not arm.is_gated and row.state == "waiting":
            why = "There is no control of admissions here: everybody is taken on."
            admit_out_of_turn(session, row.id, reason=why, actor_id=new_id(), at=at)
    admit_in_turn(at=at)
    for row in session.scalars(
        select(Admission).where(Admission.domain == arm.domain, Admission.decided_at == at)
    ):
        arm.tests.setdefault(day + TEST_D, []).append(row.id)
    for which in arm.tests.pop(day, ()):
        take_test(session, arm, rng, session.get_one(Admission, which), at)
    first, last = TASKS_A_DAY
    a_day = (first + (last - first) * day / DAYS) * (LOW if day in FALLEN else 1.0)
    project = session.get_one(Project, arm.project_id)
    for _ in range(rng.poisson(a_day)):
        made = make_task(session, project, domain=arm.domain, expected_s=TASK_S, at=at)
        arm.open.append(made.id)
    offer_work(session, arm, at)
    for which in session.scalars(
        select(Admission.id).where(
            Admission.domain == arm.domain, Admission.state.in_(("admitted", "onboarded"))
        )
    ).all():
        follow_admission(session, which, at=at)


def join(session: Session, arm: Arm, rng: np.random.Generator, hours: int, at: datetime) -> UUID:
    """Somebody with an ability and so many hours a week."""
    person = make_expert(session, domains=(arm.domain,), weekly_hours=hours, at=at).id
    arm.ability[person], arm.hours[person] = float(rng.normal()), hours
    return person


def take_test(
    session: Session, arm: Arm, rng: np.random.Generator, row: Admission, at: datetime
) -> None:
    """Let somebody take the test that it was admitted to; whoever passes can work."""
    if row.qualification_id is None:
        return
    is_passed = rng.random() < PASS
    begin_qualification(session, row.qualification_id, person_id=row.person_id, at=at)
    score = 90 if is_passed else 10
    grade_qualification(session, row.qualification_id, score=score, at=at)
    if is_passed:
        arm.ready.add(row.person_id)


def offer_work(session: Session, arm: Arm, at: datetime) -> None:
    """Give what is open to the ablest who have hours left."""
    for person in sorted(arm.ready, key=lambda one: -arm.ability[one]):
        while arm.open and arm.used_s.get(person, 0) + TASK_S <= arm.hours[person] * 3600:
            task = session.get_one(Task, arm.open.pop(0))
            make_offer(session, task, person, at=at)
            arm.used_s[person] = arm.used_s.get(person, 0) + TASK_S
