"""What became of work that was handed in: its verdict, its reasons, an appeal; and of its pay."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import select

from market.appeals.actions import file_appeal
from market.appeals.models import Appeal
from market.appeals.rules import APPEAL_WITHIN, MIN_NOTE
from market.approvals.queries import time_of_line
from market.approvals.routes import sitting_of_line
from market.approvals.rules import what_next
from market.attempts.models import Attempt
from market.console.expert import zone_of
from market.console.forms import Form, field, tried
from market.console.frame import HEADERS, Notice, page
from market.console.threads import talk_on
from market.console.visitors import EXPERT, my_id
from market.db import PLATFORM, database, now
from market.earnings.models import Earning
from market.earnings.queries import (
    line_of_pay,
    payout_states,
    statement_conversions,
    statement_lines,
    statement_totals,
)
from market.earnings.routes import statement
from market.earnings.rules import LineNotFound
from market.fixes.models import SubmissionFix
from market.fixes.queries import changes_of, fix_to_tell, settled_fix
from market.frauds.models import FraudCase
from market.frauds.queries import fraud_cases
from market.http import read_id, wire_id
from market.offers.models import Offer
from market.stumps.queries import evidence
from market.submissions.models import Submission
from market.submissions.queries import submission
from market.submissions.rules import SubmissionNotFound
from market.tasks.models import Task
from market.treasury.queries import holds_of
from market.verdicts.queries import verdict
from market.votes.queries import votes
from payouts.conversions import conversion_in_words
from payouts.models import Payout

APPEALABLE = ("rejected", "partially_accepted")
DECIDED = ("accepted", "partially_accepted", "rejected", "rejected_final", "appealed", "voided")


def _may_appeal(row: Submission, appeal: Appeal | None, at: datetime) -> bool:
    since = timedelta(0) if row.decided_at is None else at - row.decided_at
    return row.state in APPEALABLE and appeal is None and since <= APPEAL_WITHIN


def _may_appeal_fix(fix: SubmissionFix, at: datetime) -> bool:
    since = timedelta(0) if fix.settled_at is None else at - fix.settled_at
    return fix.state == "standing" and since <= APPEAL_WITHIN


def _sent(
    request: Request[Any, Any, Any],
    submission_id: UUID,
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    at, talk = now(), talk_on(request, submission_id)
    with database.begin() as session:
        row = submission(session, submission_id)
        if row.expert_id != my_id(request):
            raise SubmissionNotFound(submission_id)
        fix = fix_to_tell(session, row.id)
        of = [row.id] if fix is None else [row.id, fix.id]
        appeals = {
            one.kind: one
            for one in session.scalars(select(Appeal).where(Appeal.subject_id.in_(of)))
        }
        appeal, fix_appeal = appeals.get("submission"), appeals.get("fix")
        attempt = session.get(Attempt, row.attempt_id) if row.attempt_id else None
        decided = verdict(session, row.id)
        said = votes(session, [row.id])[row.id] if decided or row.state in DECIDED else []
        lines = session.scalars(
            select(Earning).where(Earning.offer_id == row.offer_id).order_by(Earning.id)
        ).all()
        return page(
            request,
            "expert/submission.html",
            status=status,
            notice=notice,
            row=row,
            talk=talk,
            task=session.get(Task, row.task_id),
            offer=session.get(Offer, row.offer_id),
            attempt=attempt,
            responses=evidence(session, [attempt.id])[attempt.id] if attempt else [],
            verdict=decided,
            votes=said,
            appeal=appeal,
            may_appeal=_may_appeal(row, appeal, at),
            fix=fix,
            fixed=changes_of(fix, row) if fix else [],
            fix_appeal=fix_appeal,
            may_appeal_fix=fix is not None and _may_appeal_fix(fix, at),
            appeal_until=row.decided_at + APPEAL_WITHIN if row.decided_at else None,
            least=MIN_NOTE,
            # The newest, were there a second after one that came to nothing.
            case=session.scalars(
                fraud_cases()
                .where(FraudCase.submission_id == row.id)
                .order_by(FraudCase.id.desc())
                .limit(1)
            ).one_or_none(),
            lines=lines,
            paid_as=payout_states(session, lines),
            typed=typed or {},
            zone=zone_of(session, row.expert_id),
        )


@get("/submissions/{submission_id:str}", guards=EXPERT, sync_to_thread=True)
def get_submission(request: Request[Any, Any, Any], submission_id: FromPath[str]) -> Template:
    """One submission: what was sent, what was decided, why, and what can be done about it."""
    return _sent(request, read_id("sub", submission_id))


@post("/submissions/{submission_id:str}/appeal", guards=EXPERT, sync_to_thread=True)
def post_appeal(
    request: Request[Any, Any, Any], submission_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Appeal a verdict; somebody who had no part in it decides."""
    found = read_id("sub", submission_id)
    return _appeal(request, found, "submission", found, data)


@post("/submissions/{submission_id:str}/fix/appeal", guards=EXPERT, sync_to_thread=True)
def post_fix_appeal(
    request: Request[Any, Any, Any], submission_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Appeal against a fix; won, the author's own version stands again."""
    found = read_id("sub", submission_id)
    with database.begin() as session:
        fix_id = settled_fix(session, found).id
    return _appeal(request, found, "fix", fix_id, data)


def _appeal(
    request: Request[Any, Any, Any], found: UUID, kind: str, subject_id: UUID, data: Form
) -> Redirect | Template:
    def act() -> str:
        # As the platform, because what is appealed moves; the action takes only one's own.
        with database.begin(PLATFORM) as session:
            file_appeal(
                session,
                kind,
                subject_id,
                person_id=my_id(request),
                note=field(data, "note"),
                evidence=[one for one in field(data, "evidence").split("\n") if one.strip()],
                at=now(),
            )
        return f"/console/expert/submissions/{wire_id('sub', found)}?said=appealed"

    return tried(data, act, partial(_sent, request, found, typed=data))


@get("/earnings/{earning_id:str}", guards=EXPERT, sync_to_thread=True)
def get_line(request: Request[Any, Any, Any], earning_id: FromPath[str]) -> Template:
    """One line of pay, minute by minute: why it stands where it does, and what comes next."""
    found, at = read_id("ear", earning_id), now()
    sat = sitting_of_line(found)
    with database.begin() as session:
        line = line_of_pay(session, found)
        if line.expert_id != my_id(request):
            raise LineNotFound(found)
        paid = payout_states(session, [line]).get(line.payout_id) if line.payout_id else None
        payout = session.get(Payout, line.payout_id) if line.payout_id else None
        offer = session.get(Offer, line.offer_id) if line.offer_id else None
        return page(
            request,
            "expert/line.html",
            line=line,
            state=paid or line.state,
            next=what_next(line.state, line.review_until, paid, at=at),
            minutes=time_of_line(session, line),
            sat=sat,
            offer=offer,
            task=session.get(Task, offer.task_id) if offer else None,
            holds=holds_of(session, [payout.id])[payout.id] if payout else [],
            zone=zone_of(session, line.expert_id),
        )


@get("/statement", guards=EXPERT, sync_to_thread=True)
def get_printed_statement(
    request: Request[Any, Any, Any],
    first: FromQuery[date | None] = None,
    last: FromQuery[date | None] = None,
) -> Template:
    """What the expert earned in some weeks, on a page to print."""
    with database.begin() as session:
        lines = statement_lines(session, my_id(request), first=first, last=last)
        return page(
            request,
            "expert/statement.html",
            first=first,
            last=last,
            lines=lines,
            totals=statement_totals(lines),
            changed=[conversion_in_words(one) for one in statement_conversions(session, lines)],
        )


@get("/statement.csv", guards=EXPERT, sync_to_thread=True)
def get_statement(
    request: Request[Any, Any, Any],
    first: FromQuery[date | None] = None,
    last: FromQuery[date | None] = None,
) -> Response[str]:
    """Every line of the visitor's pay as a table to keep."""
    with database.begin() as session:
        text = statement(session, my_id(request), first=first, last=last)
    name = wire_id("per", my_id(request))
    return Response(
        text,
        media_type="text/csv",
        headers={**HEADERS, "Content-Disposition": f'attachment; filename="earnings-{name}.csv"'},
    )


ROUTES: list[HTTPRouteHandler] = [
    get_submission,
    post_appeal,
    post_fix_appeal,
    get_line,
    get_printed_statement,
    get_statement,
]
