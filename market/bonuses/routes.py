"""Bonuses over HTTP: many at once, tried first if you wish."""

from datetime import datetime
from typing import Annotated

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta

from market.auth import Principal
from market.bonuses.actions import give_bonus, reward_dissent
from market.bonuses.models import Bonus
from market.bonuses.queries import bonuses, dissents
from market.bonuses.rules import MAX_ROWS, Ahead, Verdict, Wanted
from market.db import PLATFORM, database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    get,
    listed,
    page,
    page_of,
    post,
    read_id,
    wire_id,
    wire_ids,
)
from market.projects.queries import project
from market.reviews.models import Review
from market.reviews.queries import review


class BonusIn(Wire):
    """One bonus: to whom, how much, under which reference of yours, and why."""

    expert_id: str
    amount_minor: int
    reference: Annotated[str, Meta(max_length=200)]
    reason: Annotated[str, Meta(max_length=2000)]
    is_for_impact: bool = False


class BonusesIn(Wire):
    """Bonuses of one project; a dry run gives none and says what each would cost."""

    rows: Annotated[tuple[BonusIn, ...], Meta(min_length=1, max_length=MAX_ROWS)]
    dry_run: bool = False


class BonusVerdictOut(Wire):
    """What became of one row, by its place; the fee is on top."""

    row: int
    reference: str
    verdict: str
    amount_minor: int
    fee_minor: int
    code: str | None
    detail: str | None
    earning_id: str | None


class BonusesOut(Wire):
    """A verdict for each row, and what was given in all, with fees."""

    given: int
    unchanged: int
    refused: int
    amount_minor: int
    fee_minor: int
    currency: str
    rows: list[BonusVerdictOut]


class RewardIn(Wire):
    """What the reason that a dissenting vote gave was worth to you; its reviewer reads it."""

    reason: Annotated[str, Meta(max_length=2000)]


class DissentOut(Wire):
    """A vote that is not as was decided, with its reason; and its reward, where it got one."""

    review_id: str
    submission_id: str
    verdict: str | None
    share: int | None
    note: str | None
    voted_at: datetime | None
    is_accepted: bool
    decided_share: int
    rewarded_minor: int | None
    rewarded_at: datetime | None


class BonusOut(Wire):
    """A bonus that was given."""

    id: str
    expert_id: str
    amount_minor: int
    fee_minor: int
    currency: str
    reference: str
    reason: str
    is_for_impact: bool
    given_at: datetime


@post(
    "/projects/{project_id:str}/bonuses",
    scope="fund:write",
    status_code=HTTP_200_OK,
    keyed="required",
    tags=["Earnings"],
)
def post_bonuses(
    project_id: FromPath[str], data: JSONBody[BonusesIn], principal: NamedDependency[Principal]
) -> BonusesOut:
    """Give bonuses from a project's free budget, each row on its own; a reference pays once."""
    with database.begin() as session:
        # Whether it is the caller's; the money is moved as the platform.
        owner = project(session, read_id("prj", project_id))
    found = []
    # What a dry run would have given so far counts against the rows that follow.
    ahead = Ahead() if data.dry_run else None
    for row in data.rows:
        wanted = Wanted(
            read_id("per", row.expert_id),
            row.amount_minor,
            row.reference,
            row.reason,
            row.is_for_impact,
        )
        # A transaction each, so that a row that is refused keeps none of the others back.
        with database.begin(PLATFORM) as session:
            verdict = give_bonus(
                session,
                owner,
                wanted,
                by=principal.person_id,
                at=now(),
                ahead=ahead,
            )
        found.append((row, verdict))
    paid = [one for _, one in found if one.verdict in ("given", "would_give")]
    return BonusesOut(
        given=sum(one.verdict == "given" for _, one in found),
        unchanged=sum(one.verdict == "unchanged" for _, one in found),
        refused=sum(one.verdict == "refused" for _, one in found),
        amount_minor=sum(one.amount_minor for one in paid),
        fee_minor=sum(one.fee_minor for one in paid),
        currency=owner.currency,
        rows=[
            _told(number, row.reference, one) for number, (row, one) in enumerate(found, start=1)
        ],
    )


def _told(number: int, reference: str, one: Verdict) -> BonusVerdictOut:
    return BonusVerdictOut(
        row=number,
        reference=reference,
        verdict=one.verdict,
        amount_minor=one.amount_minor,
        fee_minor=one.fee_minor,
        code=one.code,
        detail=one.detail,
        earning_id=wire_ids("ear", one.earning_id),
    )


@get("/projects/{project_id:str}/dissents", scope="project:read", tags=["Reviews"])
def get_dissents(
    project_id: FromPath[str],
    principal: NamedDependency[Principal],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[DissentOut]:
    """Votes on questions of judgement that are not as was decided and say why, newest first."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        rows, following = page_of(
            session,
            dissents(found.id),
            Review.id,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|dissents|{found.id}",
        )
        return page(
            [
                DissentOut(
                    review_id=wire_id("rev", vote.id),
                    submission_id=wire_id("sub", vote.submission_id),
                    verdict=vote.verdict,
                    share=vote.share,
                    note=vote.note,
                    voted_at=vote.voted_at,
                    is_accepted=decided.is_accepted,
                    decided_share=decided.share,
                    rewarded_minor=None if reward is None else reward.amount_minor,
                    rewarded_at=None if reward is None else reward.given_at,
                )
                for vote, decided, reward in rows
            ],
            following,
        )


@post(
    "/reviews/{review_id:str}/reward",
    scope="fund:write",
    status_code=HTTP_200_OK,
    keyed="required",
    tags=["Reviews"],
)
def post_reward(
    review_id: FromPath[str], data: JSONBody[RewardIn], principal: NamedDependency[Principal]
) -> BonusVerdictOut:
    """Reward a dissent for its reason, once, by what the review plan promised; nothing is decided
    anew by it.
    """
    with database.begin() as session:
        # Whether it is the caller's; the money is moved as the platform.
        vote = review(session, read_id("rev", review_id))
        owner = project(session, vote.project_id)
    with database.begin(PLATFORM) as session:
        found = reward_dissent(
            session, owner, vote.id, reason=data.reason, by=principal.person_id, at=now()
        )
    return _told(1, review_id, found)


@get("/projects/{project_id:str}/bonuses", scope="fund:read", tags=["Earnings"])
def get_bonuses(
    project_id: FromPath[str],
    principal: NamedDependency[Principal],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[BonusOut]:
    """Bonuses given on a project, newest first."""
    wanted = read_id("prj", project_id)
    with database.begin() as session:
        return listed(
            session,
            bonuses(wanted),
            Bonus.id,
            lambda row: BonusOut(
                id=wire_id("bon", row.id),
                expert_id=wire_id("per", row.expert_id),
                amount_minor=row.amount_minor,
                fee_minor=row.fee_minor,
                currency=row.currency,
                reference=row.reference,
                reason=row.reason,
                is_for_impact=row.is_for_impact,
                given_at=row.given_at,
            ),
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|bonuses|{wanted}",
        )


ROUTES: list[HTTPRouteHandler] = [post_bonuses, get_bonuses, get_dissents, post_reward]
