"""Reads of releases: the line of a model, tasks that could calibrate it, and what they said."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
from sqlalchemy import Row, Select, Uuid, bindparam, select, text
from sqlalchemy.orm import Session

from market.releases.models import CalibrationTask, ModelRelease
from market.releases.rules import CANDIDATES, ReleaseNotFound
from matching.problem import Float64

if TYPE_CHECKING:
    from matching.release import ModelBelief

_LINE = text(
    """
    with recursive back as (
        select id, earlier_model_id from market.model_release where target_model_id = :model_id
        union select r.id, r.earlier_model_id
            from market.model_release r join back on r.target_model_id = back.earlier_model_id
    ), forth as (
        select id, target_model_id from market.model_release where earlier_model_id = :model_id
        union select r.id, r.target_model_id
            from market.model_release r join forth on r.earlier_model_id = forth.target_model_id
    )
    select id from back union select id from forth
    """
).bindparams(bindparam("model_id", type_=Uuid()))

# Whole tasks only: nobody who is promised one, or at work on it, finds another model behind it.
_CANDIDATES = text(
    """
    select t.id, t.domain, (t.complexity - 1)::int as level
    from market.task t join market.project p on p.id = t.project_id
    where p.organisation_id = :organisation_id and p.target_model_id = :model_id
        and p.state in ('ready', 'calibrating', 'live', 'paused')
        and t.state = 'queued' and t.target_model_id is null
        and exists (select from market.task_slot s where s.task_id = t.id)
        and not exists (select from market.task_slot s
            where s.task_id = t.id and s.state <> 'open')
    order by md5(t.id::text || cast(:release_id as text)) limit :limit
    """
).bindparams(
    *(bindparam(name, type_=Uuid()) for name in ("organisation_id", "model_id", "release_id"))
)

_DECIDED = text(
    """
    select c.task_id, c.level, c.base, c.base_sd, avg(o.fooled)::float8 as fooled
    from market.calibration_task c
    join market.model_release r on r.id = c.release_id
    join market.observation o on o.task_id = c.task_id
        and o.target_model_id = r.target_model_id
    where c.release_id = :release_id and o.kind = 'verdict' and o.replaced_at is null
        and o.fooled is not null
    group by c.task_id, c.level, c.base, c.base_sd order by c.task_id
    """
).bindparams(bindparam("release_id", type_=Uuid()))

_OF_SUBMISSION = text(
    """
    select c.release_id from market.submission s
    join market.calibration_task c on c.task_id = s.task_id
    join market.model_release r on r.id = c.release_id and r.state = 'calibrating'
    where s.id = :submission_id
    """
).bindparams(bindparam("submission_id", type_=Uuid()))


def release(session: Session, release_id: UUID, *, lock: bool = False) -> ModelRelease:
    """One release that the caller may see; locked, when it is about to be changed.

    Raises:
        ReleaseNotFound.
    """
    found = session.get(
        ModelRelease, release_id, with_for_update=lock or None, populate_existing=lock
    )
    if found is None:
        raise ReleaseNotFound(release_id)
    return found


def releases(state: str | None = None) -> Select[ModelRelease]:
    """Releases that the caller may see, or those in a state, as a statement to page through."""
    statement = select(ModelRelease)
    return statement if state is None else statement.where(ModelRelease.state == state)


def line_of(session: Session, target_model_id: UUID) -> Sequence[ModelRelease]:
    """The releases that led to a model and those that followed from it, in their order."""
    ids = list(session.scalars(_LINE, {"model_id": target_model_id}))
    return session.scalars(
        select(ModelRelease).where(ModelRelease.id.in_(ids)).order_by(ModelRelease.id)
    ).all()


def candidates(session: Session, found: ModelRelease) -> Sequence[Row[UUID, str, int]]:
    """Tasks of the earlier model's projects that nobody has begun, drawn by lot."""
    given = {
        "organisation_id": found.organisation_id,
        "model_id": found.earlier_model_id,
        "release_id": found.id,
        "limit": CANDIDATES,
    }
    return session.execute(_CANDIDATES, given).all()


def calibration_tasks(session: Session, release_id: UUID) -> Sequence[CalibrationTask]:
    """What was chosen to calibrate a release."""
    return session.scalars(
        select(CalibrationTask)
        .where(CalibrationTask.release_id == release_id)
        .order_by(CalibrationTask.task_id)
    ).all()


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What calibration tasks said of a new model, one entry for each task that was decided.

    Shapes: all (tasks,). Units: `base`, `base_sd` logits; `fooled` shares of its answers.
    """

    task_ids: tuple[UUID, ...]
    level: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    base: Float64
    base_sd: Float64
    fooled: Float64

    def __len__(self) -> int:
        return len(self.task_ids)


def answers(session: Session, release_id: UUID) -> Answers:
    """What was decided so far of the tasks that calibrate a release."""
    rows = session.execute(_DECIDED, {"release_id": release_id}).all()
    return Answers(
        tuple(row.task_id for row in rows),
        np.array([row.level for row in rows], np.int64),
        np.array([row.base for row in rows], np.float64),
        np.array([row.base_sd for row in rows], np.float64),
        np.array([row.fooled for row in rows], np.float64),
    )


def release_of_submission(session: Session, submission_id: UUID) -> UUID | None:
    """The release that is being calibrated with a submission's task, if one is."""
    found: UUID | None = session.scalar(_OF_SUBMISSION, {"submission_id": submission_id})
    return found


def prior_of(found: ModelRelease) -> "ModelBelief":
    """What was believed of a release when it was told."""
    # Loads scipy, which a process that only lists releases can do without.
    from matching.release import ModelBelief

    return ModelBelief(np.frombuffer(found.prior, "<f8"))


@dataclass(frozen=True, slots=True)
class LevelRate:
    """How often a level's calibration tasks lead a new model astray, before and after its runs.

    Units: shares of tasks; `low`, `high` hold 80 % of what is believed after.
    """

    level: int
    tasks: int
    decided: int
    before: float
    after: float
    low: float
    high: float


def level_rates(session: Session, found: ModelRelease) -> list[LevelRate]:
    """What is believed of a release level by level, from what its tasks have said so far."""
    rows = calibration_tasks(session, found.id)
    if not rows:
        return []
    said = answers(session, found.id)
    level = np.array([row.level for row in rows], np.int64)
    base = np.array([row.base for row in rows], np.float64)
    doubt = np.array([row.base_sd for row in rows], np.float64)
    prior = prior_of(found)
    after = prior.seen(said.base, said.fooled, said.level, base_sd=said.base_sd)
    _, first, _, _ = prior.level_rates(base, level, base_sd=doubt)
    labels, rate, low, high = after.level_rates(base, level, base_sd=doubt)
    return [
        LevelRate(
            level=int(label),
            tasks=int((level == label).sum()),
            decided=int((said.level == label).sum()),
            before=float(first[n]),
            after=float(rate[n]),
            low=float(low[n]),
            high=float(high[n]),
        )
        for n, label in enumerate(labels.tolist())
    ]
