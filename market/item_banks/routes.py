"""Item banks over HTTP, for ops: upload items, look at them, decide on those that look wrong."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from litestar import Response
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import Meta
from sqlalchemy.orm import Session

from market.auth import Principal
from market.db import database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    get,
    page,
    page_of,
    post,
    read_id,
    wire_id,
    wire_ids,
)
from market.imports import ImportOut, import_out, take_in
from market.item_banks.actions import decide_item, import_items
from market.item_banks.models import BankItem, ItemBank, ItemFlag
from market.item_banks.queries import (
    bank_states,
    banks_found,
    banks_of,
    flags_of,
    item,
    items_found,
    keys_of,
    newest_parameters,
)
from market.uploads import MAX_UPLOAD_BYTES, Upload, UploadOperation, spool_upload


class BankOut(Wire):
    """An item bank: its items by state, who sat down to it, and when it was calibrated last.

    `is_ready` says that its sittings give verdicts; before that they are pilots.
    """

    id: str
    name: str
    takers: int
    items: dict[str, int]
    calibrated_items: int
    is_ready: bool
    calibrated_at: datetime | None
    answers: int


class FlagOut(Wire):
    """Why an item is to be looked at, and what was decided."""

    reason: str
    detail: str
    at: datetime
    answers: int
    person_id: str | None
    decision: str | None
    decided_at: datetime | None
    decided_by: str | None
    note: str | None


class ItemOut(Wire):
    """An item with its key, its newest calibration and its flags.

    Units: `slope` and `ease` in logits, `exposure` a share of takers.
    """

    id: str
    bank: str
    external_id: str
    version: int
    state: str
    prompt: str
    choices: list[str]
    key: list[str]
    key_number: int
    level: int
    topic: str
    limit_s: int
    shown: int
    exposure: float
    slope: float | None
    ease: float | None
    answers: int
    share_right: float | None
    chance_negative: float | None
    created_at: datetime
    flags: list[FlagOut]


class ItemDecisionIn(Wire):
    """What becomes of an item; `key`, the right answers, with `rekey` only."""

    decision: Literal["keep", "rekey", "retire", "withdraw"]
    note: Annotated[str, Meta(max_length=10_000)]
    key: Annotated[tuple[Annotated[str, Meta(max_length=200)], ...], Meta(max_length=20)] = ()


@post(
    "/items:import",
    scope="qualification:grade",
    keyed="required",
    streamed=True,
    status_code=HTTP_201_CREATED,
    request_max_body_size=MAX_UPLOAD_BYTES,
    operation_class=UploadOperation,
    dependencies={"upload": Provide(spool_upload)},
    tags=["Qualifications"],
)
def post_items_import(upload: NamedDependency[Upload]) -> Response[bytes]:
    """Upload items of tests as JSON lines, CSV or Parquet: every row gets a verdict.

    A row has `bank` (a domain), `external_id`, `prompt`, `key` and `level` (1 to 10), and may have
    `choices`, `topic`, `limit_s`, `version` and a calibration (`slope`, `ease`, `answers`).
    `choices` and `key` are lists (JSON text in CSV). An item is never edited: send other content as
    the next version, which takes its place.
    """

    def act() -> ImportOut:
        with database.begin() as session:
            return import_out(session, import_items(session, upload, now=now))

    return take_in(upload, act)


@get("/item-banks", scope="qualification:grade", tags=["Qualifications"])
def get_item_banks(limit: Limit = 50, cursor: Cursor = None) -> Page[BankOut]:
    """Item banks, the newest first."""
    with database.begin() as session:
        rows, following = page_of(
            session, banks_found(), ItemBank.id, limit=limit, cursor=cursor, filters="item-banks"
        )
        states = bank_states(session, [row.id for row in rows])
        return page(
            [
                BankOut(
                    id=wire_id("bnk", row.id),
                    name=row.name,
                    takers=row.takers,
                    items=states[row.id].items,
                    calibrated_items=states[row.id].calibrated,
                    is_ready=states[row.id].is_ready,
                    calibrated_at=states[row.id].fitted_at,
                    answers=states[row.id].answers,
                )
                for row in rows
            ],
            following,
        )


@get("/items", scope="qualification:grade", tags=["Qualifications"])
def get_items(
    bank: FromQuery[str | None] = None,
    in_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ItemOut]:
    """Items with their keys, newest first: of a bank, or in a state such as `flagged`."""
    with database.begin() as session:
        rows, following = page_of(
            session,
            items_found(bank=bank, state=in_state),
            BankItem.id,
            limit=limit,
            cursor=cursor,
            filters=f"items|{bank}|{in_state}",
        )
        return page(_out(session, rows), following)


@get("/items/{item_id:str}", scope="qualification:grade", tags=["Qualifications"])
def get_item(item_id: FromPath[str]) -> ItemOut:
    """One item."""
    with database.begin() as session:
        return _out(session, [item(session, read_id("itm", item_id))])[0]


@post(
    "/items/{item_id:str}/decisions",
    scope="qualification:grade",
    status_code=HTTP_200_OK,
    tags=["Qualifications"],
)
def post_item_decision(
    item_id: FromPath[str],
    data: JSONBody[ItemDecisionIn],
    principal: NamedDependency[Principal],
) -> ItemOut:
    """Keep an item, give it the right key, or put it to nobody any more; a note says what was
    found. Sittings that had it are graded again where its key changes or it is withdrawn.
    """
    with database.begin() as session:
        row = decide_item(
            session,
            read_id("itm", item_id),
            data.decision,
            note=data.note,
            key=data.key,
            at=now(),
            actor_id=principal.person_id,
        )
        return _out(session, [row])[0]


def _flag(row: ItemFlag) -> FlagOut:
    return FlagOut(
        reason=row.reason,
        detail=row.detail,
        at=row.at,
        answers=row.answers,
        person_id=wire_ids("per", row.person_id),
        decision=row.decision,
        decided_at=row.decided_at,
        decided_by=wire_ids("per", row.decided_by),
        note=row.note,
    )


def _out(session: Session, rows: Sequence[BankItem]) -> list[ItemOut]:
    ids = [row.id for row in rows]
    keys, flags = keys_of(session, ids), flags_of(session, ids)
    said = newest_parameters(session, ids)
    banks = banks_of(session, {row.bank_id for row in rows})
    return [
        ItemOut(
            id=wire_id("itm", row.id),
            bank=banks[row.bank_id].name,
            external_id=row.external_id,
            version=row.item_version,
            state=row.state,
            prompt=row.prompt,
            choices=row.choices,
            key=keys[row.id].key,
            key_number=keys[row.id].number,
            level=row.level,
            topic=row.topic,
            limit_s=row.limit_s,
            shown=row.shown,
            exposure=row.shown / max(banks[row.bank_id].takers, 1),
            slope=said[row.id].slope if row.id in said else row.slope,
            ease=said[row.id].ease if row.id in said else row.ease,
            answers=said[row.id].answers if row.id in said else row.answers,
            share_right=said[row.id].share_right if row.id in said else None,
            chance_negative=said[row.id].chance_negative if row.id in said else None,
            created_at=row.created_at,
            flags=[_flag(one) for one in flags[row.id]],
        )
        for row in rows
    ]


ROUTES: list[HTTPRouteHandler] = [
    post_items_import,
    get_item_banks,
    get_items,
    get_item,
    post_item_decision,
]
