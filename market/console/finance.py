"""Pages of finance: the books, payout runs, and what waits and why."""

from datetime import date, timedelta
from typing import Any

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Stream, Template
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from market.books.actions import open_check
from market.books.queries import (
    EVERY_INVARIANT,
    check_under_way,
    newest_check,
    proofs,
    sentence_of,
)
from market.console.bank import MONEY, OPEN_DISPUTES
from market.console.charts import Chart, line
from market.console.forms import Form
from market.console.frame import HEADERS, back_to, page
from market.console.visitors import OPS, FormUnreadable, my_id
from market.db import database, now
from market.earnings.models import Earning
from market.earnings.rules import week_of
from market.http import page_of, read_id, wire_id
from market.pay_rates.queries import pay_rates
from market.payout_runs.actions import cancel_run, request_payout_run
from market.payout_runs.models import PayoutRun
from market.payout_runs.queries import payout_run, payout_runs
from market.payroll.routes import By, payroll_file
from market.people.queries import names_of
from market.treasury.actions import (
    approve_again,
    bring_back,
    end_hold,
    hold_policy,
    pay_again,
    take_out,
)
from market.treasury.queries import at_stripe, calls, holds_of, payout, payouts
from market.treasury.rules import EXTRA_REASONS
from payouts.bank_models import CardDispute
from payouts.conversions import changes_in_words
from payouts.ledger import trial_balance
from payouts.models import ExternalCall, Payout, PayoutHold, PayoutMove
from payouts.proof_models import Break

PAGE = 50
WEEKS = 12


def _number(session: Session, model: Any, *conditions: Any) -> int:
    return session.scalar(select(func.count()).select_from(model).where(*conditions)) or 0


@get("/money", guards=OPS, sync_to_thread=True)
def get_money(request: Request[Any, Any, Any], said: FromQuery[str | None] = None) -> Template:
    """The books: whether they hold, what they come to, and what waits for somebody."""
    del said
    with database.begin() as session:
        books = trial_balance(session)
        waiting = {
            "holds": _number(session, PayoutHold, PayoutHold.cleared_at.is_(None)),
            "breaks": _number(session, Break, Break.resolved_at.is_(None)),
            "disputes": _number(session, CardDispute, CardDispute.state.in_(OPEN_DISPUTES)),
            "unknown": _number(session, ExternalCall, ExternalCall.state == "unknown"),
        }
        return page(
            request,
            "ops/money.html",
            books={
                currency: [row for row in books if row.currency == currency]
                for currency in sorted({row.currency for row in books})
            },
            check=newest_check(session),
            is_checking=check_under_way(session, at=now()) is not None,
            invariants={name: sentence_of(name) for name in EVERY_INVARIANT},
            waiting=waiting,
            newest=next(iter(proofs(session, before=None, limit=1)), None),
            at_stripe=at_stripe(session),
            paid=pay_by_week(session),
            rates=pay_rates(session, "domain", first=week_of(now()) - timedelta(weeks=WEEKS)),
        )


@post("/money/checks", guards=OPS, sync_to_thread=True, status_code=303)
def post_check(request: Request[Any, Any, Any]) -> Redirect:
    """Look at every invariant now, over all the books."""
    with database.begin() as session:
        open_check(session, by=my_id(request), at=now())
    return back_to(MONEY, "books-checking")


def pay_by_week(session: Session, currency: str = "USD") -> Chart:
    """What experts earned, week by week."""
    rows = session.execute(
        select(Earning.week, func.sum(Earning.pay_minor), func.sum(Earning.fee_minor))
        .where(Earning.currency == currency)
        .group_by(Earning.week)
        .order_by(Earning.week.desc())
        .limit(WEEKS)
    ).all()[::-1]
    # A picture is in whole units; what counts to the cent is the ledger.
    pay = [(float(n), float(row[1]) / 100) for n, row in enumerate(rows)]
    fee = [(float(n), float(row[2]) / 100) for n, row in enumerate(rows)]
    return Chart(
        "Pay by week of work",
        f"What experts earned, and our fee on top, in {currency}; the ledger has the cents.",
        "Week of",
        currency,
        (line("Pay", pay, "bars"), line("Fee", fee, "bars")) if rows else (),
        x_names=tuple(f"{row[0]:%-d %b}" for row in rows),
        y_unit="count",
    )


# Payout runs --------------------------------------------------------------------------------------


@get("/money/runs", guards=OPS, sync_to_thread=True)
def get_runs(
    request: Request[Any, Any, Any],
    cursor: FromQuery[str | None] = None,
    said: FromQuery[str | None] = None,
) -> Template:
    """Rounds of payouts, and the way to ask for one."""
    del said
    with database.begin() as session:
        runs, following = page_of(
            session, payout_runs(), PayoutRun.id, limit=PAGE, cursor=cursor, filters="payout_runs"
        )
        latest = week_of(now())
        return page(
            request,
            "ops/payout_runs.html",
            runs=runs,
            following=following,
            names=names_of(session, [run.requested_by for run in runs]),
            periods=[latest - timedelta(weeks=n) for n in range(4)],
            weeks=[latest - timedelta(weeks=n) for n in range(WEEKS)],
        )


@get("/money/payroll.csv", guards=OPS, sync_to_thread=True)
def get_payroll(
    first: FromQuery[date], by: FromQuery[By] = "expert", last: FromQuery[date | None] = None
) -> Stream:
    """Everybody's pay of a week as a file."""
    return payroll_file(first, last, by, HEADERS)


@post("/money/runs", guards=OPS, sync_to_thread=True, status_code=303)
def post_run(request: Request[Any, Any, Any], data: Form) -> Redirect:
    """Pay everybody who is owed something."""
    period_end = _day(data.get("period_end", ""))
    with database.begin() as session:
        opened = request_payout_run(
            session, period_end=period_end, requested_by=my_id(request), at=now()
        )
        # Only the clock is told that it has asked before.
        assert opened is not None
        path = f"{MONEY}/runs/{wire_id('prn', opened.run.id)}"
    return back_to(path, "payrun")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise FormUnreadable("the end of the period is a day, such as 2026-11-16") from None


@get("/money/runs/{run_id:str}", guards=OPS, sync_to_thread=True)
def get_run(
    request: Request[Any, Any, Any],
    run_id: FromPath[str],
    cursor: FromQuery[str | None] = None,
    said: FromQuery[str | None] = None,
) -> Template:
    """One round: how far it is, and every payout of it."""
    del said
    with database.begin() as session:
        run = payout_run(session, read_id("prn", run_id))
        mine = Payout.run_id == run.id
        rows, following = page_of(
            session,
            payouts().where(mine),
            Payout.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"run {run.id}",
        )
        return page(
            request,
            "ops/payout_run.html",
            run=run,
            states=dict(
                session.execute(
                    select(Payout.state, func.count()).where(mine).group_by(Payout.state)
                ).all()
            ),
            sums=session.execute(
                select(Payout.currency, func.sum(Payout.amount_minor))
                .where(mine, Payout.state != "cancelled")
                .group_by(Payout.currency)
            ).all(),
            rows=rows,
            holds=holds_of(session, [row.id for row in rows]),
            names=names_of(session, {row.owner_id for row in rows}),
            following=following,
        )


@post("/money/runs/{run_id:str}/cancel", guards=OPS, sync_to_thread=True, status_code=303)
def post_cancel(request: Request[Any, Any, Any], run_id: FromPath[str], data: Form) -> Redirect:
    """Stop a round, and take out what it has not sent."""
    with database.begin() as session:
        cancel_run(
            session, read_id("prn", run_id), by=my_id(request), note=data.get("note", ""), at=now()
        )
    return back_to(f"{MONEY}/runs/{run_id}", "payrun-stopped")


@get("/money/payouts/{payout_id:str}", guards=OPS, sync_to_thread=True)
def get_payout(
    request: Request[Any, Any, Any], payout_id: FromPath[str], said: FromQuery[str | None] = None
) -> Template:
    """One payout: what it waits for, every step it took, and what can be done."""
    del said
    found_id = read_id("pay", payout_id)
    with database.begin() as session:
        found = payout(session, found_id)
        moves = session.scalars(
            select(PayoutMove).where(PayoutMove.payout_id == found.id).order_by(PayoutMove.number)
        ).all()
        lines = session.scalars(
            select(Earning).where(Earning.payout_id == found.id).order_by(Earning.week, Earning.id)
        ).all()
        people = {found.owner_id} | {move.actor_id for move in moves if move.actor_id}
        return page(
            request,
            "ops/payout.html",
            payout=found,
            holds=holds_of(session, [found.id])[found.id],
            changed=changes_in_words(session, [found.id]).get(found.id),
            moves=moves,
            lines=lines,
            names=names_of(session, people),
            reasons=EXTRA_REASONS,
        )


@post("/money/payouts/{payout_id:str}/{move:str}", guards=OPS, sync_to_thread=True, status_code=303)
def post_payout(
    request: Request[Any, Any, Any], payout_id: FromPath[str], move: FromPath[str], data: Form
) -> Redirect:
    """Take a payout out, ask for it back, or pay its expert once more in the period."""
    found_id, note, at = read_id("pay", payout_id), data.get("note", ""), now()
    with database.begin() as session:
        if move == "withdraw":
            take_out(session, found_id, by=my_id(request), note=note, at=at)
        elif move == "recall":
            bring_back(session, found_id, by=my_id(request), note=note, at=at)
        elif move == "again":
            first = payout(session, found_id)
            second = pay_again(
                session,
                first.owner_id,
                first.currency,
                period_end=first.period_end,
                reason_code=data.get("reason", ""),
                at=at,
                policy=hold_policy(),
            )
            payout_id = wire_id("pay", second.id)
        else:
            raise FormUnreadable("a payout is withdrawn, recalled or paid again")
    return back_to(f"{MONEY}/payouts/{payout_id}", f"payout-{move}")


# What waits ---------------------------------------------------------------------------------------


@get("/money/holds", guards=OPS, sync_to_thread=True)
def get_holds(
    request: Request[Any, Any, Any],
    cursor: FromQuery[str | None] = None,
    said: FromQuery[str | None] = None,
) -> Template:
    """Payouts that wait: why, for whom, and until when; writes whose outcome nobody knows."""
    del said
    with database.begin() as session:
        rows, following = page_of(
            session,
            select(PayoutHold).where(PayoutHold.cleared_at.is_(None)),
            PayoutHold.id,
            limit=PAGE,
            cursor=cursor,
            filters="holds",
        )
        found = {
            row.id: row
            for row in session.scalars(
                select(Payout).where(Payout.id.in_([hold.payout_id for hold in rows]))
            )
        }
        unknown = session.scalars(
            calls(state="unknown").order_by(ExternalCall.id.desc()).limit(PAGE)
        ).all()
        return page(
            request,
            "ops/holds.html",
            holds=rows,
            payouts=found,
            unknown=unknown,
            names=names_of(session, {hold.owner_id for hold in rows}),
            following=following,
        )


@post("/money/holds/{hold_id:str}/end", guards=OPS, sync_to_thread=True, status_code=303)
def post_hold(request: Request[Any, Any, Any], hold_id: FromPath[str], data: Form) -> Redirect:
    """Let a payout go on."""
    with database.begin() as session:
        end_hold(
            session,
            read_id("hld", hold_id),
            by=my_id(request),
            note=data.get("note", ""),
            at=now(),
            policy=hold_policy(),
        )
    return back_to(f"{MONEY}/holds", "hold-ended")


@post("/money/calls/{call_id:str}/approve", guards=OPS, sync_to_thread=True, status_code=303)
def post_call(request: Request[Any, Any, Any], call_id: FromPath[str], data: Form) -> Redirect:
    """Decide that a write of unknown outcome never happened."""
    with database.begin() as session:
        approve_again(
            session,
            read_id("cal", call_id),
            by=my_id(request),
            note=data.get("note", ""),
            at=now(),
            policy=hold_policy(),
        )
    return back_to(f"{MONEY}/holds", "call-approved")


ROUTES: list[HTTPRouteHandler] = [
    get_money,
    post_check,
    get_runs,
    get_payroll,
    post_run,
    get_run,
    post_cancel,
    get_payout,
    post_payout,
    get_holds,
    post_hold,
    post_call,
]
