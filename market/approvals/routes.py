"""Lines of pay on their way, over HTTP: a lab's approval, an expert's minutes and its calendar."""

from datetime import UTC, date, datetime
from typing import Annotated
from uuid import UUID
from zoneinfo import ZoneInfo

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta
from sqlalchemy.orm import Session

from market.approvals.actions import approve_lines
from market.approvals.queries import (
    lines_to_approve,
    owners_of_lines,
    time_of_line,
    time_of_sitting,
)
from market.approvals.rules import what_next
from market.auth import Principal, tell_of
from market.db import PLATFORM, database, now
from market.earnings.models import Earning
from market.earnings.queries import line_of_pay, payout_states
from market.earnings.rules import LineNotFound, Period, week_of
from market.experts.models import Expert
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
from market.work.queries import end_of, start_of


class MomentOut(Wire):
    """One moment, by UTC and on the expert's own clock."""

    utc: datetime
    local: str


class PeriodOut(Wire):
    """One pay week and what happens when; its edges are Mondays by UTC, wherever you are."""

    week: date
    timezone: str
    starts: MomentOut
    ends: MomentOut
    locks: MomentOut
    review_ends: MomentOut
    paid: MomentOut


class MinutesOut(Wire):
    """A stretch of recorded time under a line of pay, or the time before one item of a test, which
    has no id of its own.
    """

    id: str | None
    starts: MomentOut
    ends: MomentOut
    seconds: int
    paid_s: int
    source: str
    state: str


class LineOut(Wire):
    """A line of your pay, minute by minute, and what happens to it next."""

    id: str
    kind: str
    week: date
    project_id: str
    offer_id: str | None
    seconds: int
    rate_minor_per_hour: int
    pay_minor: int
    currency: str
    state: str
    payout_id: str | None
    dispute_id: str | None
    note: str | None
    review_until: MomentOut | None
    what_next: str
    minutes: list[MinutesOut]


class WaitingOut(Wire):
    """A line of pay as its lab looks at it: silence approves it at `review_until`."""

    id: str
    project_id: str
    offer_id: str | None
    expert_id: str
    kind: str
    week: date
    seconds: int
    rate_minor_per_hour: int
    pay_minor: int
    fee_minor: int
    currency: str
    state: str
    review_until: datetime | None
    approved_at: datetime | None
    dispute_id: str | None
    version: int


class ApprovalIn(Wire):
    """Lines of pay to approve now."""

    line_ids: Annotated[list[str], Meta(min_length=1, max_length=1000)]


class ApprovalOut(Wire):
    """The lines that this approved; those that did not wait any more are not among them."""

    approved: list[str]


@get("/hours", scope="work:read", tags=["Earnings"])
def get_hours(
    principal: NamedDependency[Principal],
    project_id: FromQuery[str | None] = None,
    line_state: FromQuery[str] = "accrued",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[WaitingOut]:
    """Lines of pay on your projects that wait for you, newest first, or those in another state."""
    project = read_ids("prj", project_id)
    with database.begin() as session:
        return listed(
            session,
            lines_to_approve(project_id=project, state=line_state),
            Earning.id,
            _waiting_out,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|hours|{project}|{line_state}",
        )


@post("/hours/approve", scope="fund:write", status_code=HTTP_200_OK, tags=["Earnings"])
def post_approval(data: JSONBody[ApprovalIn], principal: NamedDependency[Principal]) -> ApprovalOut:
    """Approve lines of pay before your silence would; they go out with the next payout."""
    wanted = [read_id("ear", one) for one in data.line_ids]
    with database.begin() as session:
        # Only lines of the caller's own projects are seen by it.
        owners = owners_of_lines(session, wanted)
    seen = {line_id for lines in owners.values() for line_id in lines}
    for line_id in wanted:
        if line_id not in seen:
            raise LineNotFound(line_id)
    approved: list[Earning] = []
    for expert_id, line_ids in sorted(owners.items()):
        # A transaction each, so that nobody waits for the accounts of two experts at once.
        with database.begin(PLATFORM) as session:
            approved += approve_lines(
                session, expert_id, line_ids, at=now(), actor_id=principal.person_id
            )
    return ApprovalOut(approved=[wire_id("ear", line.id) for line in approved])


def sitting_of_line(line_id: UUID) -> list[tuple[datetime, datetime]]:
    """When each item was open of the test that a line of the caller's pays for.

    Raises:
        LineNotFound.
    """
    with database.begin() as session:
        # Whether it is the caller's.
        line = line_of_pay(session, line_id)
    if line.kind != "sitting":
        return []
    # As the platform, since the items of a test are its own alone.
    with database.begin(PLATFORM) as session:
        return time_of_sitting(session, line)


@get("/earnings/{earning_id:str}", scope="earning:read", tags=["Earnings"])
def get_earning(earning_id: FromPath[str]) -> LineOut:
    """One line of your pay, minute by minute: why it stands where it does, and what comes next."""
    which = read_id("ear", earning_id)
    sat = sitting_of_line(which)
    with database.begin() as session:
        line = line_of_pay(session, which)
        tell_of(line.expert_id)
        zone = _zone_of(session, line.expert_id)
        state = payout_states(session, [line]).get(line.payout_id) if line.payout_id else None
        return LineOut(
            id=wire_id("ear", line.id),
            kind=line.kind,
            week=line.week,
            project_id=wire_id("prj", line.project_id),
            offer_id=wire_ids("ofr", line.offer_id),
            seconds=line.seconds,
            rate_minor_per_hour=line.rate_minor_per_hour,
            pay_minor=line.pay_minor,
            currency=line.currency,
            state=state or line.state,
            payout_id=wire_ids("pay", line.payout_id),
            dispute_id=wire_ids("dsp", line.dispute_id),
            note=line.note,
            review_until=None if line.review_until is None else _moment(line.review_until, zone),
            what_next=what_next(line.state, line.review_until, state, at=now()),
            minutes=[
                MinutesOut(
                    id=wire_id("tim", entry.id),
                    starts=_moment(start_of(entry.during), zone),
                    ends=_moment(end_of(entry.during), zone),
                    seconds=entry.seconds,
                    paid_s=entry.paid_s,
                    source=entry.source,
                    state=entry.state,
                )
                for entry in time_of_line(session, line)
            ]
            + [
                MinutesOut(
                    id=None,
                    starts=_moment(begins, zone),
                    ends=_moment(ends, zone),
                    seconds=(spent := round((ends - begins).total_seconds())),
                    paid_s=spent,
                    source="server clock",
                    state=line.state,
                )
                for begins, ends in sat
            ],
        )


@get("/pay-calendar", scope="earning:read", tags=["Earnings"])
def get_pay_calendar(
    principal: NamedDependency[Principal], day: FromQuery[date | None] = None
) -> PeriodOut:
    """The pay week that a day, or now, belongs to: its edges by UTC and on your clock."""
    with database.begin() as session:
        zone = _zone_of(session, principal.person_id)
    week = week_of(now()) if day is None else week_of(Period(day).starts_at)
    period = Period(week)
    return PeriodOut(
        week=week,
        timezone=zone.key,
        starts=_moment(period.starts_at, zone),
        ends=_moment(period.ends_at, zone),
        locks=_moment(period.locks_at, zone),
        review_ends=_moment(period.review_ends_at, zone),
        paid=_moment(period.paid_at, zone),
    )


def _zone_of(session: Session, expert_id: UUID) -> ZoneInfo:
    # Whoever has no profile, as ops have none, reads by UTC.
    found = session.get(Expert, expert_id)
    return ZoneInfo("UTC" if found is None else found.timezone)


def _moment(at: datetime, zone: ZoneInfo) -> MomentOut:
    utc = at.astimezone(UTC)
    return MomentOut(utc=utc, local=utc.astimezone(zone).isoformat())


def _waiting_out(line: Earning) -> WaitingOut:
    return WaitingOut(
        id=wire_id("ear", line.id),
        project_id=wire_id("prj", line.project_id),
        offer_id=wire_ids("ofr", line.offer_id),
        expert_id=wire_id("per", line.expert_id),
        kind=line.kind,
        week=line.week,
        seconds=line.seconds,
        rate_minor_per_hour=line.rate_minor_per_hour,
        pay_minor=line.pay_minor,
        fee_minor=line.fee_minor,
        currency=line.currency,
        state=line.state,
        review_until=line.review_until,
        approved_at=line.approved_at,
        dispute_id=wire_ids("dsp", line.dispute_id),
        version=line.version,
    )


ROUTES: list[HTTPRouteHandler] = [get_hours, post_approval, get_earning, get_pay_calendar]
