"""Reads about bonuses."""

from uuid import UUID

from sqlalchemy import Select, String, and_, cast, exists, func, literal, select
from sqlalchemy.orm import Session

from market.bonuses.models import Bonus
from market.bonuses.rules import MIN_DISSENT
from market.offers.models import Offer
from market.offers.rules import HELD
from market.reviews.models import Review
from market.verdicts.models import Verdict
from market.votes.queries import VOTED


def bonuses(project_id: UUID) -> Select[Bonus]:
    """Bonuses of a project that the caller may see, as a statement to page through."""
    return select(Bonus).where(Bonus.project_id == project_id)


def bonus_by_reference(session: Session, project_id: UUID, reference: str) -> Bonus | None:
    """The bonus that a reference gave before."""
    return session.scalar(
        select(Bonus).where(Bonus.project_id == project_id, Bonus.reference == reference)
    )


DISSENT = "dissent:"
"""Before the id of a review, the reference of its reward: a vote is rewarded once."""


def dissents(project_id: UUID) -> Select[Review, Verdict, Bonus]:
    """Votes on questions of judgement that are not as was decided and say why, with the verdict
    and the reward, where there was one; as a statement to page through.

    A claim that a model failed is true or not: votes on it are held against what is known of it.
    """
    accepts = Review.verdict.in_(("accept", "accept_share"))
    return (
        select(Review, Verdict, Bonus)
        .join(Verdict, Verdict.submission_id == Review.submission_id)
        .outerjoin(
            Bonus,
            and_(
                Bonus.project_id == Review.project_id,
                Bonus.reference == literal(DISSENT) + cast(Review.id, String),
            ),
        )
        .where(
            Review.project_id == project_id,
            Review.kind == "vote",
            Review.state.in_(VOTED),
            ~Review.has_attempt,
            accepts != Verdict.is_accepted,
            func.length(func.btrim(Review.note)) >= MIN_DISSENT,
        )
    )


def has_worked(session: Session, project_id: UUID, expert_id: UUID) -> bool:
    """Whether an expert took any work of a project, whatever came of it."""
    worked = exists().where(
        Offer.project_id == project_id,
        Offer.expert_id == expert_id,
        Offer.state.in_((*HELD, "released", "abandoned")),
    )
    return bool(session.scalar(select(worked)))
