"""Pages of finance against the bank: differences with Stripe, proofs, and disputed payments."""

from typing import Any

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import select

from market.books.actions import BY_HAND, end_break, request_reconciliation, take_break
from market.books.queries import breaks, proof, proofs
from market.chargebacks.actions import answer_dispute
from market.chargebacks.queries import card_disputes
from market.console.forms import Form
from market.console.frame import back_to, page
from market.console.visitors import OPS, FormUnreadable, my_id
from market.db import database, now
from market.http import page_of, read_id
from market.people.models import Organisation
from market.people.queries import names_of
from payouts.bank_models import CardDispute
from payouts.proof_models import Break

PAGE = 50
MONEY = "/console/ops/money"
OPEN_DISPUTES = ("inquiry", "open")


@get("/money/reconciliation", guards=OPS, sync_to_thread=True)
def get_reconciliation(
    request: Request[Any, Any, Any],
    ended: FromQuery[bool] = False,
    cursor: FromQuery[str | None] = None,
    said: FromQuery[str | None] = None,
) -> Template:
    """What Stripe and the books say differently, and the proofs that were published."""
    del said
    with database.begin() as session:
        rows, following = page_of(
            session,
            breaks(is_open=not ended),
            Break.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"breaks {ended}",
        )
        people = {row.assigned_to for row in rows} | {row.resolved_by for row in rows}
        return page(
            request,
            "ops/reconciliation.html",
            breaks=rows,
            ended=ended,
            following=following,
            proofs=proofs(session, before=None, limit=12),
            names=names_of(session, people),
            ways=[str(way) for way in BY_HAND],
        )


@post("/money/reconciliation", guards=OPS, sync_to_thread=True, status_code=303)
def post_reconciliation(request: Request[Any, Any, Any]) -> Redirect:
    """Match Stripe with the books now, and publish the proof."""
    with database.begin() as session:
        request_reconciliation(session, by=my_id(request), at=now())
    return back_to(f"{MONEY}/reconciliation", "reconciling")


@post("/money/breaks/{break_id:str}/{move:str}", guards=OPS, sync_to_thread=True, status_code=303)
def post_break(
    request: Request[Any, Any, Any], break_id: FromPath[str], move: FromPath[str], data: Form
) -> Redirect:
    """Look into a difference, or end it by a decision."""
    found_id = read_id("brk", break_id)
    with database.begin() as session:
        if move == "take":
            take_break(session, found_id, by=my_id(request))
        elif move == "end":
            end_break(
                session,
                found_id,
                how=data.get("how", ""),
                note=data.get("note", ""),
                by=my_id(request),
                at=now(),
            )
        else:
            raise FormUnreadable("a difference is taken or ended")
    return back_to(f"{MONEY}/reconciliation", f"break-{move}")


@get("/money/proofs/{number:int}", guards=OPS, sync_to_thread=True)
def get_proof(request: Request[Any, Any, Any], number: FromPath[int]) -> Template:
    """One published proof, word for word."""
    with database.begin() as session:
        return page(request, "ops/proof.html", proof=proof(session, number))


@get("/money/disputes", guards=OPS, sync_to_thread=True)
def get_disputes(
    request: Request[Any, Any, Any],
    cursor: FromQuery[str | None] = None,
    said: FromQuery[str | None] = None,
) -> Template:
    """Payments that a lab's bank took back or asks about, and our answer."""
    del said
    with database.begin() as session:
        rows, following = page_of(
            session,
            card_disputes(),
            CardDispute.id,
            limit=PAGE,
            cursor=cursor,
            filters="card disputes",
        )
        labs = session.execute(
            select(Organisation.id, Organisation.name).where(
                Organisation.id.in_([row.lab_id for row in rows])
            )
        )
        return page(
            request,
            "ops/card_disputes.html",
            rows=rows,
            labs=dict(labs.all()),
            following=following,
            open_states=OPEN_DISPUTES,
        )


@post("/money/disputes/{dispute_id:str}", guards=OPS, sync_to_thread=True, status_code=303)
def post_evidence(
    request: Request[Any, Any, Any], dispute_id: FromPath[str], data: Form
) -> Redirect:
    """Send the bank what was agreed and what the money paid for."""
    with database.begin() as session:
        answer_dispute(
            session,
            read_id("cdp", dispute_id),
            note=data.get("note", ""),
            by=my_id(request),
            at=now(),
        )
    return back_to(f"{MONEY}/disputes", "evidence")


ROUTES: list[HTTPRouteHandler] = [
    get_reconciliation,
    post_reconciliation,
    post_break,
    get_proof,
    get_disputes,
    post_evidence,
]
