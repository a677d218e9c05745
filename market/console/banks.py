"""Pages of ops about tests: item banks, items that are odd, and what sittings came to."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import exists, select

from market.console.forms import Form, field, lines, tried
from market.console.frame import Notice, page
from market.console.visitors import OPS, my_id
from market.db import database, now
from market.http import NotFound, page_of, read_id, wire_id
from market.item_banks.actions import decide_item
from market.item_banks.models import BankItem, ItemBank, ItemFlag
from market.item_banks.queries import (
    bank_states,
    banks_found,
    banks_of,
    flags_of,
    item,
    items_found,
    key_of,
    newest_parameters,
)
from market.item_banks.rules import DECISIONS, ITEM, MIN_NOTE, READY
from market.people.queries import names_of
from market.sittings.models import Sitting, SittingItem
from market.sittings.queries import sitting, sittings, steps_of, topics_of
from market.sittings.rules import RESULTS

PAGE = 25
HOME = "/console/ops/experts/tests"


@get("/experts/tests", guards=OPS, sync_to_thread=True)
def get_banks(request: Request[Any, Any, Any], cursor: FromQuery[str | None] = None) -> Template:
    """Every bank, how far it is calibrated, and the items that wait for somebody to look."""
    with database.begin() as session:
        rows, following = page_of(
            session, banks_found(), ItemBank.id, limit=PAGE, cursor=cursor, filters="banks"
        )
        # What a taker doubts is still put to others, and waits for somebody all the same.
        waits = exists().where(ItemFlag.item_id == BankItem.id, ItemFlag.decided_at.is_(None))
        odd = session.scalars(
            items_found().where(waits).order_by(BankItem.id.desc()).limit(PAGE)
        ).all()
        return page(
            request,
            "ops/banks.html",
            rows=rows,
            following=following,
            states=bank_states(session, [row.id for row in rows]),
            ready=READY,
            odd=odd,
            banks=banks_of(session, {one.bank_id for one in odd}),
            flags=flags_of(session, [one.id for one in odd]),
        )


@get("/experts/tests/banks/{name:str}", guards=OPS, sync_to_thread=True)
def get_items(
    request: Request[Any, Any, Any],
    name: FromPath[str],
    of: FromQuery[str | None] = None,
    cursor: FromQuery[str | None] = None,
) -> Template:
    """The items of a bank: how hard each is, how well it tells, and to how many it was put."""
    with database.begin() as session:
        bank = session.scalar(select(ItemBank).where(ItemBank.name == name))
        if bank is None:
            raise NotFound("item bank", name[:64])
        rows, following = page_of(
            session,
            items_found(bank=name, state=of),
            BankItem.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"items {name} {of}",
        )
        return page(
            request,
            "ops/bank_items.html",
            bank=bank,
            told=bank_states(session, [bank.id])[bank.id],
            ready=READY,
            rows=rows,
            following=following,
            parameters=newest_parameters(session, [row.id for row in rows]),
            of=of,
            states=ITEM.states,
        )


@get("/experts/tests/items/{item_id:str}", guards=OPS, sync_to_thread=True)
def get_item(
    request: Request[Any, Any, Any],
    item_id: FromPath[str],
    said: FromQuery[str | None] = None,
) -> Template:
    """One item with its key, why it is to be looked at, and what was decided of it."""
    del said
    return _item(request, item_id)


def _item(
    request: Request[Any, Any, Any],
    item_id: str,
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    with database.begin() as session:
        row = item(session, read_id("itm", item_id))
        flags = flags_of(session, [row.id])[row.id]
        people = {one.person_id for one in flags} | {one.decided_by for one in flags}
        return page(
            request,
            "ops/bank_item.html",
            status=status,
            notice=notice,
            item=row,
            bank=banks_of(session, [row.bank_id])[row.bank_id],
            key=key_of(session, row.id),
            told=newest_parameters(session, [row.id]).get(row.id),
            flags=flags,
            names=names_of(session, people),
            decisions=_open_to(row, is_doubted=any(one.decision is None for one in flags)),
            least=MIN_NOTE,
            typed=typed or {},
        )


def _open_to(row: BankItem, *, is_doubted: bool) -> list[str]:
    """The decisions that an item can take in its state: a new key in any but the last, and to be
    kept wherever something is said against it.
    """
    moves = ITEM.allowed(row.state)
    more = {"rekey": bool(moves), "keep": is_doubted and bool(moves)}
    return [one for one in DECISIONS if one in moves or more.get(one, False)]


@post("/experts/tests/items/{item_id:str}", guards=OPS, sync_to_thread=True, status_code=303)
def post_decision(
    request: Request[Any, Any, Any], item_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Keep an item, give it the right key, or put it to nobody any more."""
    me = my_id(request)

    def act() -> str:
        with database.begin() as session:
            decide_item(
                session,
                read_id("itm", item_id),
                field(data, "decision"),
                note=field(data, "note"),
                key=lines(data, "key"),
                at=now(),
                actor_id=me,
            )
        return f"{HOME}/items/{wire_id('itm', read_id('itm', item_id))}?said=item-decided"

    return tried(data, act, partial(_item, request, item_id, typed=data))


@get("/experts/tests/sittings", guards=OPS, sync_to_thread=True)
def get_sittings(
    request: Request[Any, Any, Any],
    of: FromQuery[str | None] = None,
    cursor: FromQuery[str | None] = None,
) -> Template:
    """What people came to in tests, newest first; by result."""
    with database.begin() as session:
        rows, following = page_of(
            session,
            sittings(result=of),
            Sitting.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"sittings {of}",
        )
        return page(
            request,
            "ops/sittings.html",
            rows=rows,
            following=following,
            names=names_of(session, {row.person_id for row in rows}),
            of=of,
            results=RESULTS,
        )


@get("/experts/tests/sittings/{sitting_id:str}", guards=OPS, sync_to_thread=True)
def get_sitting(request: Request[Any, Any, Any], sitting_id: FromPath[str]) -> Template:
    """One sitting step by step: what was put, what was expected, and what was answered."""
    with database.begin() as session:
        row = sitting(session, read_id("sit", sitting_id))
        steps = steps_of(session, row.id)
        asked = session.scalars(
            select(BankItem)
            .join(SittingItem, SittingItem.item_id == BankItem.id)
            .where(SittingItem.sitting_id == row.id)
        )
        return page(
            request,
            "ops/sitting.html",
            sitting=row,
            steps=steps,
            items={one.id: one for one in asked},
            topics=topics_of(session, row.id),
            name=names_of(session, {row.person_id}).get(row.person_id, "Somebody"),
        )


ROUTES: list[HTTPRouteHandler] = [
    get_banks,
    get_items,
    get_item,
    post_decision,
    get_sittings,
    get_sitting,
]
