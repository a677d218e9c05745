"""Sittings over HTTP: sit down, take the next item, answer, read what it came to and why."""

from datetime import datetime
from typing import Annotated

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import Meta

from market.auth import Part, Principal
from market.db import PLATFORM, database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    get,
    listed,
    post,
    read_id,
    read_ids,
    wire_id,
    wire_ids,
)
from market.item_banks.queries import item
from market.sittings.actions import answer_item, challenge_item, put_item, start_sitting
from market.sittings.models import Sitting
from market.sittings.queries import (
    prospects_of,
    rechosen,
    sitting,
    sittings,
    topics_of,
)


class SittingOut(Wire):
    """A sitting, and once it is over what it came to.

    Units: `score` and its 90 % interval in per cent of the bank's items that one gets right; `mean`
        and `sd` in standard deviations of ability; `chance_passed` the chance that ability is above
        what `pass_score` asks.
    """

    id: str
    qualification_id: str
    person_id: str
    domain: str | None
    number: int
    state: str
    is_pilot: bool
    begun_at: datetime
    ends_at: datetime
    ended_at: datetime | None
    stopped: str | None
    result: str | None
    pass_score: int
    score: int | None
    score_low: int | None
    score_high: int | None
    mean: float | None
    sd: float | None
    chance_passed: float | None
    scored: int


class TopicOut(Wire):
    """How much of a topic was put, and how much of it was right."""

    topic: str
    put: int
    right: int


class ProspectsOut(Wire):
    """What would change a result, in words and as facts."""

    text: str
    sittings_left: int
    again_at: datetime | None
    can_appeal: bool


class SittingReportOut(Wire):
    """A sitting with its parts, and what would change it."""

    sitting: SittingOut
    topics: list[TopicOut]
    what_would_change_it: ProspectsOut | None


class OpenItemOut(Wire):
    """The item to answer now; `is_over` says that there is none any more."""

    is_over: bool
    step: int | None = None
    prompt: str | None = None
    choices: tuple[str, ...] = ()
    asked_at: datetime | None = None
    due_at: datetime | None = None


class ItemAnswerIn(Wire):
    """An answer: a choice word for word, or words; null says that one does not know."""

    step: Annotated[int, Meta(ge=1, le=1000)]
    answer: Annotated[str, Meta(max_length=2000)] | None


class ChallengeIn(Wire):
    """Why the key of an item is wrong."""

    step: Annotated[int, Meta(ge=1, le=1000)]
    note: Annotated[str, Meta(max_length=2000)]


class RechosenOut(Wire):
    """The item of a step, and whether the record leads to the same one again."""

    step: int
    item_id: str
    again_item_id: str | None
    is_equal: bool


class ReplayOut(Wire):
    """A sitting chosen again from its record."""

    is_equal: bool
    steps: list[RechosenOut]


@post(
    "/qualifications/{qualification_id:str}/sittings",
    scope="qualification:write",
    status_code=HTTP_201_CREATED,
    tags=["Qualifications"],
)
def post_sitting(
    qualification_id: FromPath[str], principal: NamedDependency[Principal]
) -> SittingOut:
    """Sit down to a test that you were asked to; the items come one by one."""
    # As the platform, which alone reads banks; the action takes only the caller's own.
    with database.begin(PLATFORM) as session:
        row = start_sitting(
            session, read_id("qua", qualification_id), person_id=principal.person_id, at=now()
        )
        return _out(row)


@post(
    "/sittings/{sitting_id:str}/next-item",
    scope="qualification:write",
    status_code=HTTP_200_OK,
    tags=["Qualifications"],
)
def post_next_item(sitting_id: FromPath[str], principal: NamedDependency[Principal]) -> OpenItemOut:
    """The item to answer now, chosen by what you have answered; asking again gives the same."""
    with database.begin(PLATFORM) as session:
        put = put_item(session, read_id("sit", sitting_id), person_id=principal.person_id, at=now())
        if put is None:
            return OpenItemOut(is_over=True)
        asked = item(session, put.item_id)
        return OpenItemOut(
            is_over=False,
            step=put.step,
            prompt=asked.prompt,
            choices=tuple(asked.choices),
            asked_at=put.asked_at,
            due_at=put.due_at,
        )


@post(
    "/sittings/{sitting_id:str}/answers",
    scope="qualification:write",
    status_code=HTTP_200_OK,
    tags=["Qualifications"],
)
def post_answer(
    sitting_id: FromPath[str], data: JSONBody[ItemAnswerIn], principal: NamedDependency[Principal]
) -> SittingOut:
    """Answer the open item; the same answer sent twice is one. Whether it was right is not said,
    because others are asked it too.
    """
    with database.begin(PLATFORM) as session:
        row = answer_item(
            session,
            read_id("sit", sitting_id),
            data.step,
            data.answer,
            person_id=principal.person_id,
            at=now(),
        )
        return _out(row)


@post(
    "/sittings/{sitting_id:str}/challenges",
    scope="qualification:write",
    status_code=HTTP_200_OK,
    tags=["Qualifications"],
)
def post_challenge(
    sitting_id: FromPath[str], data: JSONBody[ChallengeIn], principal: NamedDependency[Principal]
) -> SittingOut:
    """Say that the key of an item you had is wrong; ops look, and a wrong key is repaired for
    everybody who had the item.
    """
    found = read_id("sit", sitting_id)
    with database.begin(PLATFORM) as session:
        challenge_item(
            session, found, data.step, data.note, person_id=principal.person_id, at=now()
        )
        return _out(sitting(session, found))


@get("/sittings", scope="qualification:read", tags=["Qualifications"])
def get_sittings(
    principal: NamedDependency[Principal],
    person_id: FromQuery[str | None] = None,
    qualification_id: FromQuery[str | None] = None,
    result: FromQuery[str | None] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[SittingOut]:
    """Sittings, newest first: your own, or as ops those of anyone."""
    whose = read_ids("per", person_id)
    if principal.part is not Part.OPS:
        whose = principal.person_id
    which = read_ids("qua", qualification_id)
    with database.begin() as session:
        return listed(
            session,
            sittings(person_id=whose, qualification_id=which, result=result),
            Sitting.id,
            _out,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|sittings|{whose}|{which}|{result}",
        )


@get("/sittings/{sitting_id:str}", scope="qualification:read", tags=["Qualifications"])
def get_sitting(sitting_id: FromPath[str]) -> SittingReportOut:
    """One sitting: its score with an interval, its topics, and what would change it."""
    found = read_id("sit", sitting_id)
    with database.begin() as session:
        row = sitting(session, found)
        told = _out(row)
    is_over = row.state != "open"
    # As the platform, which alone reads items; whose sitting it is was seen above.
    with database.begin(PLATFORM) as session:
        topics = topics_of(session, found) if is_over else []
        ahead = prospects_of(session, sitting(session, found))
    return SittingReportOut(
        sitting=told,
        topics=[TopicOut(topic=one.topic, put=one.put, right=one.right) for one in topics],
        what_would_change_it=None
        if ahead is None
        else ProspectsOut(
            text=ahead.text,
            sittings_left=ahead.sittings_left,
            again_at=ahead.again_at,
            can_appeal=ahead.can_appeal,
        ),
    )


@get("/sittings/{sitting_id:str}/replay", scope="qualification:grade", tags=["Qualifications"])
def get_sitting_replay(sitting_id: FromPath[str]) -> ReplayOut:
    """Choose every item of a sitting again from its record; each must come to the same."""
    with database.begin() as session:
        steps = rechosen(session, sitting(session, read_id("sit", sitting_id)))
    return ReplayOut(
        is_equal=all(one.item_id == one.again for one in steps),
        steps=[
            RechosenOut(
                step=one.step,
                item_id=wire_id("itm", one.item_id),
                again_item_id=wire_ids("itm", one.again),
                is_equal=one.item_id == one.again,
            )
            for one in steps
        ],
    )


def _out(row: Sitting) -> SittingOut:
    return SittingOut(
        id=wire_id("sit", row.id),
        qualification_id=wire_id("qua", row.qualification_id),
        person_id=wire_id("per", row.person_id),
        domain=row.domain,
        number=row.number,
        state=row.state,
        is_pilot=row.is_pilot,
        begun_at=row.begun_at,
        ends_at=row.ends_at,
        ended_at=row.ended_at,
        stopped=row.stopped,
        result=row.result,
        pass_score=row.pass_score,
        score=row.score,
        score_low=row.score_low,
        score_high=row.score_high,
        mean=row.mean,
        sd=row.sd,
        chance_passed=row.chance_above,
        scored=row.scored,
    )


ROUTES: list[HTTPRouteHandler] = [
    post_sitting,
    post_next_item,
    post_answer,
    post_challenge,
    get_sittings,
    get_sitting,
    get_sitting_replay,
]
