"""Payout runs, over HTTP."""

from datetime import date, datetime

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_202_ACCEPTED

from market.auth import Principal
from market.db import database, now
from market.http import Cursor, Limit, Page, Wire, get, listed, post, read_id, wire_id
from market.payout_runs.actions import OpenedRun, cancel_run, request_payout_run
from market.payout_runs.models import PayoutRun
from market.payout_runs.queries import payout_run, payout_runs
from market.treasury.routes import NoteIn


class PayoutRunIn(Wire):
    """Pay what was earned until a Monday."""

    period_end: date


class PayoutRunOut(Wire):
    """A round of payouts; `held` of them wait for something."""

    id: str
    period_end: date
    state: str
    requested_at: datetime
    ended_at: datetime | None
    payouts: int
    held: int
    operation_id: str | None


@post(
    "/payout-runs",
    scope="pay:write",
    keyed="required",
    status_code=HTTP_202_ACCEPTED,
    tags=["Payouts"],
)
def post_payout_run(
    data: JSONBody[PayoutRunIn], principal: NamedDependency[Principal]
) -> Response[PayoutRunOut]:
    """Pay everybody who is owed something; follow it under its operation."""
    with database.begin() as session:
        opened = request_payout_run(
            session, period_end=data.period_end, requested_by=principal.person_id, at=now()
        )
        # Only the clock is told that it has asked before.
        assert opened is not None
        return _accepted(opened)


@get("/payout-runs", scope="pay:read", tags=["Payouts"])
def get_payout_runs(limit: Limit = 50, cursor: Cursor = None) -> Page[PayoutRunOut]:
    """Rounds of payouts, newest first."""
    with database.begin() as session:
        return listed(
            session,
            payout_runs(),
            PayoutRun.id,
            _run_out,
            limit=limit,
            cursor=cursor,
            filters="payout_runs",
        )


@get("/payout-runs/{run_id:str}", scope="pay:read", tags=["Payouts"])
def get_payout_run(run_id: FromPath[str]) -> PayoutRunOut:
    """One round of payouts."""
    with database.begin() as session:
        return _run_out(payout_run(session, read_id("prn", run_id)))


@post(
    "/payout-runs/{run_id:str}/cancel",
    scope="pay:write",
    status_code=HTTP_202_ACCEPTED,
    tags=["Payouts"],
)
def post_run_cancel(
    run_id: FromPath[str], data: JSONBody[NoteIn], principal: NamedDependency[Principal]
) -> Response[PayoutRunOut]:
    """Stop a round of payouts and take out what it has not sent, which its operation follows;
    another round pays it again.
    """
    with database.begin() as session:
        stopped = cancel_run(
            session, read_id("prn", run_id), by=principal.person_id, note=data.note, at=now()
        )
        return _accepted(stopped)


def _accepted(opened: OpenedRun) -> Response[PayoutRunOut]:
    operation_id = wire_id("opn", opened.operation.id)
    return Response(
        _run_out(opened.run, operation_id),
        status_code=HTTP_202_ACCEPTED,
        headers={"Location": f"/v1/operations/{operation_id}"},
    )


def _run_out(run: PayoutRun, operation_id: str | None = None) -> PayoutRunOut:
    return PayoutRunOut(
        id=wire_id("prn", run.id),
        period_end=run.period_end,
        state=run.state,
        requested_at=run.requested_at,
        ended_at=run.ended_at,
        payouts=run.payouts,
        held=run.held,
        operation_id=operation_id,
    )


ROUTES: list[HTTPRouteHandler] = [
    post_payout_run,
    get_payout_runs,
    get_payout_run,
    post_run_cancel,
]
