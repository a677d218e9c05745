"""Impact, over HTTP: an expert's own, everybody's for ops, and how much the few make."""

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter
from sqlalchemy.orm import Session

from market.alarms.queries import open_spreads
from market.auth import Principal
from market.db import PLATFORM, database, now
from market.http import Limit, Wire, get, read_id, read_ids, wire_id
from market.impact.models import ExpertImpact
from market.impact.queries import corrected, impacts, latest_credits, project_spread, volumes
from market.impact.rules import SetFlag, SetSpread, what_would_change
from market.lifts.queries import lift_words, lifts_of
from market.projects.queries import project
from market.verdicts.routes import ShareOut, share_out

Days = Annotated[int, QueryParameter(ge=1, le=3660, description="How far to look back, days.")]


GROUPS_TOLD = 50
GROUP_TOLD = 20
"""Groups of near-copies that are told, the largest first, and items of each."""


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


class EstimateOut(Wire):
    """A share of the whole with a 90 % interval."""

    value: float
    low: float
    high: float


class TailOut(Wire):
    """Whether the items of those who make the most follow a power law: `too few`, `power law`,
    `log-normal` or `undecided`, from how many items on, of how many people, and how steep.

    Where it is one with an exponent below 3, the intervals of the shares are too narrow.
    """

    verdict: str
    sentence: str
    people: int
    start: int | None
    exponent: float | None
    exponent_sd: float | None
    p_value: float | None


class ConcentrationOut(Wire):
    """How much the few make: of volume, and of rate; and what the tail of the most looks like."""

    experts: int
    sentence: str
    volume_top_tenth: EstimateOut | None
    rate_top_tenth: EstimateOut | None
    volume_gini: EstimateOut | None
    tail: TailOut


class GroupOut(Wire):
    """Items that are near-copies of each other: how many, and the first twenty."""

    items: int
    submission_ids: list[str]


class SetSpreadOut(Wire):
    """How unlike the items of a set are, 1 all different to 0 all the same, by their words.

    `spread` and `copies` are null under ten items. `flags`: `alike`, any two items share half of
    what they are made of; `near_copies`, surely more than a tenth repeat an earlier item.
    `alarmed_at`: since when an alarm stands, of which you were told; sets are watched each hour.
    """

    items: int
    spread: float | None
    copies: ShareOut | None
    flags: list[SetFlag]
    reason: str
    alarmed_at: datetime | None


class ExpertSpreadOut(SetSpreadOut):
    """The part of a set that one expert made."""

    expert_id: str


class ProjectSpreadOut(SetSpreadOut):
    """A project's accepted items as a set, its groups of near-copies, and expert by expert."""

    groups: list[GroupOut]
    experts: list[ExpertSpreadOut]


@get("/projects/{project_id:str}/spread", scope="project:read", tags=["Quality"])
def get_spread(project_id: FromPath[str]) -> ProjectSpreadOut:
    """How unlike the latest 2,000 accepted items are, whether or not each of them passed."""
    with database.begin() as session:
        which = project(session, read_id("prj", project_id)).id
    # As the platform, since what an item was credited is its author's; what the set is is not.
    with database.begin(PLATFORM) as session:
        found = project_spread(session, which)
        since = {whose: row.at for whose, row in open_spreads(session, which).items()}
    whole = found.whole
    return ProjectSpreadOut(
        items=whole.items,
        spread=whole.spread,
        copies=_copies(whole),
        flags=list(whole.flags),
        reason=whole.reason,
        alarmed_at=since.get(None),
        groups=[
            GroupOut(
                items=len(group), submission_ids=[wire_id("sub", one) for one in group[:GROUP_TOLD]]
            )
            for group in whole.groups[:GROUPS_TOLD]
        ],
        experts=[
            ExpertSpreadOut(
                items=part.items,
                spread=part.spread,
                copies=_copies(part),
                flags=list(part.flags),
                reason=part.reason,
                alarmed_at=since.get(expert_id),
                expert_id=wire_id("per", expert_id),
            )
            for expert_id, part in found.experts
        ],
    )


def _copies(found: SetSpread) -> ShareOut | None:
    return None if found.copies is None else share_out(found.copies)


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
    from matching.tail import fit_tail

    def share(one: Estimate) -> EstimateOut | None:
        if one.value is None or one.low is None or one.high is None:
            return None
        return EstimateOut(value=one.value, low=one.low, high=one.high)

    with database.begin() as session:
        volume, rate, items = volumes(session, since=now() - timedelta(days=days))
    of_volume, of_rate, tail = concentration(volume), concentration(rate), fit_tail(items)
    return ConcentrationOut(
        experts=len(volume),
        sentence=of_volume.sentence("credit"),
        volume_top_tenth=share(of_volume.top_10),
        rate_top_tenth=share(of_rate.top_10),
        volume_gini=share(of_volume.gini),
        tail=TailOut(
            verdict=tail.verdict,
            sentence=tail.sentence("credited items"),
            people=tail.in_tail,
            start=tail.start,
            exponent=tail.exponent,
            exponent_sd=tail.exponent_sd,
            p_value=tail.p_value,
        ),
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


ROUTES: list[HTTPRouteHandler] = [
    get_own_impact,
    get_corrected,
    get_impact,
    get_concentration,
    get_spread,
]
