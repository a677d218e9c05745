"""Reads of impact."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import numpy as np
from sqlalchemy import ARRAY, Row, Uuid, any_, exists, func, literal, select
from sqlalchemy.orm import Session

from market.filters import narrowed
from market.fixes.models import SubmissionFix
from market.impact.models import ExpertImpact, ItemCredit
from market.impact.rules import MOST_OF_SET, CreditedItem, ProjectSpread, spread_of
from market.projects.models import Project
from market.quality.models import ItemBelief
from market.verdicts.models import Verdict
from matching.problem import Float64


@dataclass(frozen=True, slots=True)
class Corrected:
    """What a fix made of an item was worth: the edited share of the item's whole credit."""

    submission_id: UUID
    domain: str
    edited_share: float
    credit: float
    decided_at: datetime


def belief_of(session: Session, submission_id: UUID) -> float | None:
    """How surely a submission holds, if anybody voted on it."""
    return session.scalar(
        select(ItemBelief.belief).where(ItemBelief.submission_id == submission_id)
    )


def signatures_before(
    session: Session, project_id: UUID, domain: str, submission_id: UUID, *, limit: int
) -> Sequence[Row[UUID, bytes]]:
    """The texts' signatures of valid items that came before one in its project and domain."""
    return session.execute(
        select(ItemCredit.submission_id, ItemCredit.signature)
        .where(
            ItemCredit.project_id == project_id,
            ItemCredit.domain == domain,
            ItemCredit.validity > 0,
            ItemCredit.submission_id < submission_id,
        )
        .order_by(ItemCredit.decided_at.desc())
        .limit(limit)
    ).all()


def project_spread(session: Session, project_id: UUID) -> ProjectSpread:
    """How unlike the accepted items of a project are, in all and expert by expert; the latest ones.

    Runs as the platform: what an item was credited is its author's to read.
    """
    rows = session.execute(
        select(ItemCredit.submission_id, ItemCredit.expert_id, ItemCredit.signature)
        .join(Verdict, Verdict.submission_id == ItemCredit.submission_id)
        .where(ItemCredit.project_id == project_id, Verdict.is_accepted)
        .order_by(ItemCredit.decided_at.desc(), ItemCredit.submission_id.desc())
        .limit(MOST_OF_SET)
    ).all()
    return spread_of([CreditedItem(*row) for row in reversed(rows)])


def projects_credited(session: Session, *, since: datetime) -> Sequence[UUID]:
    """Projects of which anything was decided and credited since a time."""
    lately = exists().where(ItemCredit.project_id == Project.id, ItemCredit.decided_at > since)
    return session.scalars(select(Project.id).where(lately).order_by(Project.id)).all()


def credits_of_domain(session: Session, domain: str) -> list[tuple[UUID, float]]:
    """Expert and credit of a domain's items, in the order of their time."""
    statement = (
        select(ItemCredit.expert_id, ItemCredit.credit)
        .where(ItemCredit.domain == domain)
        .order_by(ItemCredit.decided_at, ItemCredit.submission_id)
    )
    return [(row.expert_id, row.credit) for row in session.execute(statement)]


def credits_of(session: Session, submission_ids: Sequence[UUID]) -> Sequence[Row[UUID, str, float]]:
    """Domain and lift of some items, of those that were credited."""
    wanted = literal(list(submission_ids), ARRAY(Uuid()))
    return session.execute(
        select(ItemCredit.submission_id, ItemCredit.domain, ItemCredit.lift)
        .where(ItemCredit.submission_id == any_(wanted))
        .order_by(ItemCredit.submission_id)
    ).all()


def domains_of_credit(session: Session) -> list[str]:
    """Domains in which anything was credited."""
    return list(session.scalars(select(ItemCredit.domain).distinct().order_by(ItemCredit.domain)))


def totals(session: Session, domain: str) -> dict[UUID, tuple[int, float]]:
    """Items and credit of each expert of a domain."""
    rows = session.execute(
        select(ItemCredit.expert_id, func.count(), func.sum(ItemCredit.credit))
        .where(ItemCredit.domain == domain)
        .group_by(ItemCredit.expert_id)
    )
    return {expert: (items, float(total)) for expert, items, total in rows}


def impacts(
    session: Session, *, expert_id: UUID | None = None, domain: str | None = None, limit: int = 200
) -> Sequence[ExpertImpact]:
    """Experts' impact, the highest rate first."""
    statement = narrowed(
        select(ExpertImpact), (ExpertImpact.expert_id, expert_id), (ExpertImpact.domain, domain)
    )
    return session.scalars(
        statement.order_by(ExpertImpact.rate.desc(), ExpertImpact.expert_id).limit(limit)
    ).all()


def latest_credits(session: Session, expert_id: UUID, *, limit: int = 20) -> Sequence[ItemCredit]:
    """What an expert's latest items were worth, in parts."""
    return session.scalars(
        select(ItemCredit)
        .where(ItemCredit.expert_id == expert_id)
        .order_by(ItemCredit.decided_at.desc())
        .limit(limit)
    ).all()


def corrected(session: Session, person_id: UUID, *, limit: int = 20) -> list[Corrected]:
    """A corrector's part of what the latest items that it fixed were worth."""
    rows = session.execute(
        select(ItemCredit, SubmissionFix)
        .join(SubmissionFix, SubmissionFix.submission_id == ItemCredit.submission_id)
        .where(SubmissionFix.corrector_id == person_id, SubmissionFix.state == "standing")
        .order_by(SubmissionFix.id.desc())
        .limit(limit)
    )
    return [
        Corrected(
            item.submission_id,
            item.domain,
            fix.edited_share,
            # The author's part is what is kept of the item: 1 less the edited share.
            item.credit / (1 - item.edited_share) * fix.edited_share,
            item.decided_at,
        )
        for item, fix in rows
    ]


def volumes(session: Session, *, since: datetime) -> tuple[Float64, Float64, Float64]:
    """Each expert's credit, credit an item, and items that are worth any, since a time."""
    rows = session.execute(
        select(
            func.sum(ItemCredit.credit),
            func.avg(ItemCredit.credit),
            func.count().filter(ItemCredit.credit > 0),
        )
        .where(ItemCredit.decided_at > since)
        .group_by(ItemCredit.expert_id)
        .order_by(ItemCredit.expert_id)
    ).all()
    return (
        np.array([float(total) for total, _, _ in rows], np.float64),
        np.array([float(rate) for _, rate, _ in rows], np.float64),
        np.array([float(items) for _, _, items in rows], np.float64),
    )
