"""Reads of panels and of what reviewers said of each model."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from market.panels.models import PanelModel
from market.projects.models import TargetModel

_SAID = text(
    """
    select p.attempt_id, count(*) filter (where p.model_failed) as failed, count(*) as votes
    from market.review r join market.panel_vote p on p.review_id = r.id
    where r.submission_id = :submission_id and r.round = :round and r.state <> 'recused'
        and r.level = :level and r.kind = :kind
    group by p.attempt_id
    """
)

_LAST = text(
    """
    select r.round, r.level, r.kind from market.review r
    where r.submission_id = :submission_id and r.verdict is not null and r.state <> 'recused'
    order by r.round desc, r.level desc limit 1
    """
)


def panel(session: Session, project_id: UUID) -> Sequence[TargetModel]:
    """The models that a project asks beside its target model, in the order they were made."""
    return session.scalars(
        select(TargetModel)
        .join(PanelModel, PanelModel.target_model_id == TargetModel.id)
        .where(PanelModel.project_id == project_id)
        .order_by(TargetModel.id)
    ).all()


def models_failed(
    session: Session,
    submission_id: UUID,
    round_: int,
    *,
    level: int = 1,
    kind: str = "vote",
    needed: int = 0,
) -> dict[UUID, bool]:
    """Of each attempt of a panel that was voted on: whether a majority says that its model failed.

    A majority is strictly more than half of the `needed`, or of those in where that is less.
    """
    given = {"submission_id": submission_id, "round": round_, "level": level, "kind": kind}
    return {
        row.attempt_id: 2 * row.failed > max(needed, row.votes)
        for row in session.execute(_SAID, given)
    }


def models_failed_last(session: Session, submission_id: UUID) -> dict[UUID, bool]:
    """The same by the last votes on a submission, at their highest level."""
    last = session.execute(_LAST, {"submission_id": submission_id}).one_or_none()
    if last is None:
        return {}
    return models_failed(session, submission_id, last.round, level=last.level, kind=last.kind)
