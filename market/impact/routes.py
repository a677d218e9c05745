"""Impact, over HTTP: an expert's own, everybody's for ops, and how much the few make."""

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, QueryParameter
from sqlalchemy.orm import Session

from market.auth import Principal
from market.db import PLATFORM, database, now
from market.http import Limit, Wire, get, read_ids, wire_id
from market.impact.models import ExpertImpact
from market.impact.queries import corrected, impacts, latest_credits, volumes
from market.impact.rules import what_would_change
from market.lifts.queries import lift_words, lifts_of

Days = Annotated[int, QueryParameter(ge=1, le=3660, description="How far to look back, days.")]


class ImpactOut(Wire):
    """An expert's rate of credit in a domain; `top` the probability to be among the top tenth.

    `rate` and `sd` are credit an item: validity times novelty times the weight of its level.
    """

    expert_id: str
    domain: str
    items: int
    total: float
    rate: float
    sd: float
    top: float | None
    expected_rank: float | None
    call: str | None
    at: datetime
    what_would_change_it: str


class CreditOut(Wire):
    """What one submission was worth to you: the product of its parts, of 1 plus its lift, and of 1
    less the share that a reviewer fixed; why the lift is what it is, where the lab measured it.
    """

    submission_id: str
    domain: str
    credit: float
    validity: float
    novelty: float
    level_weight: float
    lift: float
    edited_share: float
    lift_reason: str | None
    is_like_earlier: bool
    decided_at: datetime


class CorrectedOut(Wire):
    """Your part of what an item was worth that you fixed: its edited share. It enters no rate."""

    submission_id: str
    domain: str
    edited_share: float
    credit: float
    decided_at: datetime


class OwnImpactOut(Wire):
    """Your impact by domain, the latest items that it rests on, and those that you fixed."""

    impacts: list[ImpactOut]
    items: list[CreditOut]
    corrected: list[CorrectedOut]


class ShareOut(Wire):
    """A share of the whole with a 90 % interval."""

    value: float
    low: float
    high: float


class ConcentrationOut(Wire):
    """How much the few make: of volume, and of rate."""

    experts: int
    sentence: str
    volume_top_tenth: ShareOut | None
    rate_top_tenth: ShareOut | None
    volume_gini: ShareOut | None


@get("/impact/me", scope="profile:read", tags=["Quality"])
def get_own_impact(principal: NamedDependency[Principal]) -> OwnImpactOut:
    """What your accepted work was worth, in parts, and what would change it."""
    # As the platform, because what an item is worth is compared with others' items; only your own.
    with database.begin(PLATFORM) as session:
        rows = latest_credits(session, principal.person_id)
        lifts = lifts_of(session, [row.submission_id for row in rows])
        return OwnImpactOut(
            impacts=[_out(row) for row in impacts(session, expert_id=principal.person_id)],
            items=[
                CreditOut(
                    submission_id=wire_id("sub", row.submission_id),
                    domain=row.domain,
                    credit=row.credit,
                    validity=row.validity,
                    novelty=row.novelty,
                    level_weight=row.level_weight,
                    lift=row.lift,
                    edited_share=row.edited_share,
                    lift_reason=lift_words(lifts.get(row.submission_id)),
                    is_like_earlier=row.like_submission_id is not None,
                    decided_at=row.decided_at,
                )
                for row in rows
            ],
            corrected=_corrected(session, principal.person_id),
        )


@get("/impact/corrected", scope="review:read", tags=["Quality"])
def get_corrected(principal: NamedDependency[Principal]) -> list[CorrectedOut]:
    """Your part of what the latest items were worth that you fixed as a reviewer."""
    # As the platform, because what an item is worth is its author's to read; only your own part.
    with database.begin(PLATFORM) as session:
        return _corrected(session, principal.person_id)


@get("/impact", scope="expert:read", tags=["Quality"])
def get_impact(
    domain: FromQuery[str | None] = None,
    expert_id: FromQuery[str | None] = None,
    limit: Limit = 50,
) -> list[ImpactOut]:
    """Experts by their rate of credit, the highest first."""
    wanted = read_ids("per", expert_id)
    with database.begin() as session:
        return [_out(row) for row in impacts(session, expert_id=wanted, domain=domain, limit=limit)]


@get("/impact/concentration", scope="expert:read", tags=["Quality"])
def get_concentration(days: Days = 365) -> ConcentrationOut:
    """How much of what was validated the top tenth made, of volume and of rate apart."""
    # Loads scipy, which no other address needs.
    from matching.concentration import Estimate, concentration

    def share(one: Estimate) -> ShareOut | None:
        if one.value is None or one.low is None or one.high is None:
            return None
        return ShareOut(value=one.value, low=one.low, high=one.high)

    with database.begin() as session:
        volume, rate = volumes(session, since=now() - timedelta(days=days))
    of_volume, of_rate = concentration(volume), concentration(rate)
    return ConcentrationOut(
        experts=len(volume),
        sentence=of_volume.sentence("credit"),
        volume_top_tenth=share(of_volume.top_10),
        rate_top_tenth=share(of_rate.top_10),
        volume_gini=share(of_volume.gini),
    )


def _corrected(session: Session, person_id: UUID) -> list[CorrectedOut]:
    return [
        CorrectedOut(
            submission_id=wire_id("sub", one.submission_id),
            domain=one.domain,
            edited_share=one.edited_share,
            credit=one.credit,
            decided_at=one.decided_at,
        )
        for one in corrected(session, person_id)
    ]


def _out(row: ExpertImpact) -> ImpactOut:
    return ImpactOut(
        expert_id=wire_id("per", row.expert_id),
        domain=row.domain,
        items=row.items,
        total=row.total,
        rate=row.rate,
        sd=row.sd,
        top=row.top,
        expected_rank=row.expected_rank,
        call=row.call,
        at=row.at,
        what_would_change_it=what_would_change(row.items, row.sd),
    )


ROUTES: list[HTTPRouteHandler] = [get_own_impact, get_corrected, get_impact, get_concentration]
