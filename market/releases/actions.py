"""How a release is told, calibrated by ordinary work, settled, and adopted or withdrawn.

All of it runs as the platform: what is believed of a model rests on everybody's work.
"""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import numpy as np
from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from market.db import Json
from market.events import Event, change_state, emit
from market.predictions.actions import lock_present, tell_release, write_abilities
from market.predictions.models import Observation
from market.predictions.queries import abilities_now, present
from market.predictions.rules import pairs_at
from market.projects.actions import retarget_projects
from market.projects.models import TargetModel
from market.projects.queries import target_model
from market.projects.rules import ModelVersion
from market.releases.models import CalibrationTask, ModelRelease
from market.releases.queries import answers, candidates, prior_of, release, release_of_submission
from market.releases.rules import DEFAULT_SIZE, FEWEST, RELEASE, CalibrationTooFew, seed_of
from market.target_models.actions import create_version
from market.tasks.models import Task, TaskSlot

PRIOR, CALIBRATED = 1, 2
"""Versions of what the stump model is told of a release; the later one holds."""


def announce_release(
    session: Session,
    earlier_model_id: UUID,
    terms: ModelVersion,
    *,
    at: datetime,
    size: int = DEFAULT_SIZE,
    actor_id: UUID | None = None,
) -> ModelRelease:
    """A new version of a target model: predictions for it begin with what its line lets expect.

    Raises:
        TargetModelNotFound, BaseUrlInvalid, VersionUnreadable.
    """
    earlier = target_model(session, earlier_model_id)
    made = create_version(session, earlier, terms, at=at)
    lock_present(session, at=at)
    vendor = session.scalars(
        select(TargetModel.id).where(
            TargetModel.organisation_id == earlier.organisation_id, TargetModel.id != made.id
        )
    ).all()
    prior = present(session).release_prior(made.id, at=at, vendor=vendor)
    found = ModelRelease(
        organisation_id=earlier.organisation_id,
        target_model_id=made.id,
        earlier_model_id=earlier.id,
        told_at=at,
        size=size,
        prior=prior.prior.astype("<f8").tobytes(),
        prior_mean=prior.mean,
        prior_sd=prior.sd,
        told_by=actor_id,
    )
    session.add(found)
    session.flush()
    # A stronger model makes a stump less likely: ability counts down.
    tell_release(session, made.id, effect=-prior.mean, variance=prior.sd**2, version=PRIOR, at=at)
    emit(
        session,
        Event.RELEASE_TOLD,
        found.id,
        at=at,
        organisation_id=found.organisation_id,
        actor_id=actor_id,
        data={"target_model_id": str(made.id), "earlier_model_id": str(earlier.id)},
    )
    return found


def move_release(
    session: Session,
    release_id: UUID,
    action: str,
    *,
    at: datetime,
    note: str | None = None,
    actor_id: UUID | None = None,
) -> ModelRelease:
    """Take a move that people may ask for.

    Raises:
        ReleaseNotFound, StateConflict, CalibrationTooFew, VersionUnreadable.
    """
    found = release(session, release_id, lock=True)
    RELEASE.target(found.state, action)
    return _MOVES[action](session, found, at, note, actor_id)


def calibrate_if_possible(session: Session, release_id: UUID, *, at: datetime) -> bool:
    """Choose the calibration set of a release that was just told, if there are tasks enough."""
    found = release(session, release_id, lock=True)
    if found.state != "told" or len(candidates(session, found)) < FEWEST:
        return False
    _calibrate(session, found, at, None, None)
    return True


def follow_release(session: Session, submission_id: UUID, *, at: datetime) -> bool:
    """After a verdict: settle the release whose last calibration task it decided."""
    release_id = release_of_submission(session, submission_id)
    if release_id is None:
        return False
    found = release(session, release_id, lock=True)
    wanted = session.scalars(
        select(CalibrationTask.task_id).where(CalibrationTask.release_id == release_id)
    ).all()
    if found.state != "calibrating" or len(answers(session, release_id)) < len(wanted):
        return False
    _settle(session, found, at, None, None)
    return True


def reprice_release(session: Session, release_id: UUID, *, at: datetime) -> int:
    """Write anew what is believed of the experts who met a new model; how many there are.

    Raises:
        VersionUnreadable.
    """
    found = release(session, release_id)
    known = present(session)
    experts = session.scalars(
        select(Observation.expert_id)
        .where(
            Observation.target_model_id == found.target_model_id,
            Observation.expert_id.is_not(None),
            Observation.replaced_at.is_(None),
        )
        .distinct()
    ).all()
    people = [one for one in experts if one is not None]
    write_abilities(session, abilities_now(session, known, people, at=at))
    return len(people)


# Moves --------------------------------------------------------------------------------------------


def _calibrate(
    session: Session, found: ModelRelease, at: datetime, note: str | None, actor_id: UUID | None
) -> ModelRelease:
    # Loads scipy, which only what calibrates needs.
    from matching.release import calibration_set

    rows = candidates(session, found)
    if len(rows) < FEWEST:
        raise CalibrationTooFew(len(rows), "open and untouched")
    domains = [row.domain for row in rows]
    level = np.array([row.level for row in rows], np.int64)
    lock_present(session, at=at)
    base, variance = present(session).without_model(
        pairs_at(
            [None] * len(rows),
            domains,
            [None] * len(rows),
            level.tolist(),
            np.full((len(rows), 3), np.nan),
            at=at,
            tasks=[row.id for row in rows],
        )
    )
    doubt = np.sqrt(variance)
    strata = np.array([f"{row.domain}/{row.level}" for row in rows])
    chosen = calibration_set(
        prior_of(found), base, strata, size=found.size, seed=seed_of(found.id), base_sd=doubt
    )
    for n in chosen.tolist():
        session.add(
            CalibrationTask(
                release_id=found.id,
                task_id=rows[n].id,
                organisation_id=found.organisation_id,
                domain=domains[n],
                level=int(level[n]),
                base=float(base[n]),
                base_sd=float(doubt[n]),
            )
        )
    ids = [rows[n].id for n in chosen.tolist()]
    session.execute(
        update(Task).where(Task.id.in_(ids)).values(target_model_id=found.target_model_id)
    )
    return _moved(
        session,
        found,
        "calibrate",
        Event.RELEASE_CALIBRATING,
        at,
        note,
        actor_id,
        {"tasks": len(ids)},
    )


def _settle(
    session: Session, found: ModelRelease, at: datetime, note: str | None, actor_id: UUID | None
) -> ModelRelease:
    said = answers(session, found.id)
    if len(said) < FEWEST:
        raise CalibrationTooFew(len(said), "decided")
    belief = prior_of(found).seen(said.base, said.fooled, said.level, base_sd=said.base_sd)
    found.mean, found.sd = belief.mean, belief.sd
    # One row of the log: whoever predicts has learned it at the next look.
    tell_release(
        session,
        found.target_model_id,
        effect=-belief.mean,
        variance=belief.sd**2,
        version=CALIBRATED,
        at=at,
    )
    _unmark(session, found)
    return _moved(
        session,
        found,
        "settle",
        Event.RELEASE_CALIBRATED,
        at,
        note,
        actor_id,
        {
            "decided": len(said),
            "ability": {"before": found.prior_mean, "after": found.mean},
            "sd": {"before": found.prior_sd, "after": found.sd},
        },
    )


def _adopt(
    session: Session, found: ModelRelease, at: datetime, note: str | None, actor_id: UUID | None
) -> ModelRelease:
    changed = retarget_projects(
        session, found.earlier_model_id, found.target_model_id, at=at, actor_id=actor_id
    )
    told: Json = {"projects": [str(one) for one in changed]}
    return _moved(session, found, "adopt", Event.RELEASE_ADOPTED, at, note, actor_id, told)


def _withdraw(
    session: Session, found: ModelRelease, at: datetime, note: str | None, actor_id: UUID | None
) -> ModelRelease:
    _unmark(session, found)
    return _moved(session, found, "withdraw", Event.RELEASE_WITHDRAWN, at, note, actor_id, {})


_Move = Callable[[Session, ModelRelease, datetime, str | None, UUID | None], ModelRelease]
_MOVES: dict[str, _Move] = {
    "calibrate": _calibrate,
    "settle": _settle,
    "adopt": _adopt,
    "withdraw": _withdraw,
}


def _moved(
    session: Session,
    found: ModelRelease,
    action: str,
    event: Event,
    at: datetime,
    note: str | None,
    actor_id: UUID | None,
    data: Json,
) -> ModelRelease:
    change_state(
        session,
        RELEASE,
        found,
        action,
        at=at,
        event=event,
        organisation_id=found.organisation_id,
        actor_id=actor_id,
        note=note,
        data={"target_model_id": str(found.target_model_id), **data},
    )
    return found


def _unmark(session: Session, found: ModelRelease) -> None:
    """Give tasks that nobody has begun back to the model of their project."""
    begun = exists().where(TaskSlot.task_id == Task.id, TaskSlot.state != "open")
    session.execute(
        update(Task)
        .where(
            Task.id.in_(
                select(CalibrationTask.task_id).where(CalibrationTask.release_id == found.id)
            ),
            Task.target_model_id == found.target_model_id,
            ~begun,
        )
        .values(target_model_id=None)
    )
