"""How a study is drawn, what is reported of it, and what it comes to; all as the platform."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import numpy as np
from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from market.db import Json, new_id
from market.events import Event, emit
from market.lifts.models import LiftBatch, LiftEffect, LiftItem, LiftReport, LiftStudy
from market.lifts.queries import batches_of, dealt, delivered, latest_reports, lift_study
from market.lifts.rules import (
    LEAST_BATCHES,
    MOST_BATCHES,
    MOST_ITEMS,
    LiftStudyUnfit,
    Reported,
    RowVerdict,
    judged,
)
from market.projects.models import Project
from matching.problem import Float64


def draw_lift_study(
    session: Session,
    project: Project,
    *,
    metric: str,
    is_higher_better: bool,
    batches: int,
    again: bool,
    by: UUID,
    at: datetime,
) -> LiftStudy:
    """Deal a project's accepted items into batches at random, and record where each went.

    Each contributor's items go into about half of the batches, so that contributors are mixed
    differently in each and can be told apart by what the batches do.

    Raises:
        LiftStudyUnfit.
    """
    # Loads scipy, which a process that draws nothing can do without.
    from matching.lift_shared import deal_items

    if not LEAST_BATCHES <= batches <= MOST_BATCHES:
        raise LiftStudyUnfit("batches", f"{LEAST_BATCHES} to {MOST_BATCHES}")
    if not 1 <= len(metric.strip()) <= 200 or "\x00" in metric:
        raise LiftStudyUnfit("metric", "1 to 200 characters")
    rows = delivered(session, project.id, again=again, limit=MOST_ITEMS)
    if len(rows) < 2 * batches:
        kind = "accepted items" if again else "accepted items that no study has had"
        raise LiftStudyUnfit(
            "batches", f"at most {len(rows) // 2}: there are {len(rows)} {kind}, two a batch"
        )
    study_id = new_id()
    # The random half of the id, which nobody knows before the items are counted.
    seed = int.from_bytes(study_id.bytes[8:], "big") >> 1
    people = {one: n for n, one in enumerate(dict.fromkeys(expert for _, expert, _, _ in rows))}
    place = deal_items(
        np.array([people[expert] for _, expert, _, _ in rows], np.int64), batches, seed=seed
    )
    sizes = np.bincount(place, minlength=batches)
    made = LiftStudy(
        id=study_id,
        organisation_id=project.organisation_id,
        project_id=project.id,
        metric=metric.strip(),
        is_higher_better=is_higher_better,
        seed=seed,
        batches=batches,
        items=len(rows),
        drawn_at=at,
        drawn_by=by,
    )
    session.add(made)
    session.flush()
    own = {"organisation_id": project.organisation_id, "study_id": study_id}
    drawn: list[Json] = [
        {"id": new_id(), "number": n, "items": size, **own}
        for n, size in enumerate([0, *sizes.tolist()])
    ]
    session.execute(insert(LiftBatch), drawn)
    session.execute(
        insert(LiftItem),
        [
            {
                "batch_id": drawn[n + 1]["id"],
                "submission_id": submission_id,
                "expert_id": expert_id,
                "domain": domain,
                "fix_id": fix_id,
                **own,
            }
            for (submission_id, expert_id, domain, fix_id), n in zip(
                rows, place.tolist(), strict=True
            )
        ],
    )
    emit(
        session,
        Event.LIFT_DRAWN,
        study_id,
        at=at,
        organisation_id=project.organisation_id,
        actor_id=by,
        data={"batches": batches, "items": len(rows)},
    )
    return made


def report_lift(
    session: Session, study_id: UUID, rows: Sequence[Reported], *, by: UUID, at: datetime
) -> list[RowVerdict]:
    """Take in what a lab found with batches, with a verdict on each row; the same twice is one.

    Raises:
        LiftStudyNotFound.
    """
    study = lift_study(session, study_id, lock=True)
    known = {one.id for one in batches_of(session, study_id)}
    before = latest_reports(session, study_id)
    said = {batch_id: (row.number, row.value) for batch_id, row in before.items()}
    found = []
    for row in rows:
        number, value = said.get(row.batch_id, (0, None))
        verdict = judged(row, value, is_known=row.batch_id in known)
        found.append(verdict)
        if verdict.verdict in ("created", "corrected"):
            said[row.batch_id] = (number + 1, row.value)
            session.add(
                LiftReport(
                    batch_id=row.batch_id,
                    number=number + 1,
                    organisation_id=study.organisation_id,
                    value=row.value,
                    reported_at=at,
                    reported_by=by,
                )
            )
    taken = sum(one.verdict in ("created", "corrected") for one in found)
    if taken:
        study.reports = len(said)
        study.version += 1
        session.flush()
        emit(
            session,
            Event.LIFT_REPORTED,
            study_id,
            at=at,
            organisation_id=study.organisation_id,
            actor_id=by,
            data={"batches": taken},
        )
    return found


def estimate_lift(session: Session, study_id: UUID, *, at: datetime) -> bool:
    """Write what each contributor's and each domain's items added, from all that was reported;
    whether that could be told.
    """
    study = lift_study(session, study_id, lock=True)
    reports = latest_reports(session, study_id)
    order = [one.id for one in batches_of(session, study_id) if one.id in reports]
    sign = 1.0 if study.is_higher_better else -1.0
    metric = np.array([sign * reports[one].value for one in order], np.float64)
    counts = dealt(session, study_id)
    people, common = _effects(study, [(b, e, n) for b, e, _, n in counts], order, metric)
    if common is None:
        return False
    domains, _ = _effects(study, [(b, d, n) for b, _, d, n in counts], order, metric)
    session.execute(delete(LiftEffect).where(LiftEffect.study_id == study_id))
    session.execute(insert(LiftEffect), [*people, *domains])
    study.common, study.common_sd, study.noise = common
    study.estimated_at = at
    study.version += 1
    session.flush()
    emit(session, Event.LIFT_ESTIMATED, study_id, at=at, organisation_id=study.organisation_id)
    return True


def _effects(
    study: LiftStudy,
    counts: Sequence[tuple[UUID, UUID | str, int]],
    order: Sequence[UUID],
    metric: Float64,
) -> tuple[list[Json], tuple[float, float, float] | None]:
    """What each of a kind's items added, as rows, and what an item adds on the average with its
    standard deviation and the noise of a batch; nothing where it cannot be told.
    """
    # Loads scipy, which only the job that estimates needs.
    from matching.lift import LiftNotIdentified
    from matching.lift_shared import SharedLift

    groups = sorted({group for _, group, _ in counts}, key=str)
    place = {group: n for n, group in enumerate(groups)}
    row = {batch_id: n for n, batch_id in enumerate(order)}
    design, items = np.zeros((len(order), len(groups))), np.zeros(len(groups), np.int64)
    for batch_id, group, number in counts:
        items[place[group]] += number
        if batch_id in row:
            design[row[batch_id], place[group]] += number
    try:
        found = SharedLift().fit(design, metric)
    except LiftNotIdentified:
        return [], None
    sign = 1.0 if study.is_higher_better else -1.0
    rows: list[Json] = [
        {
            "id": new_id(),
            "organisation_id": study.organisation_id,
            "study_id": study.id,
            "expert_id": group if isinstance(group, UUID) else None,
            "domain": group if isinstance(group, str) else None,
            "items": int(items[n]),
            "batches": int((design[:, n] > 0).sum()),
            "added": sign * float(found.added_[n]),
            "added_sd": float(found.added_sd_[n]),
            "relative": float(found.relative_[n]),
            "low": float(found.low_[n]),
            "high": float(found.high_[n]),
        }
        for n, group in enumerate(groups)
    ]
    return rows, (sign * found.common_, found.common_sd_, found.noise_)
