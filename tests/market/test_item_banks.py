"""Item banks: uploads row by row, items that are never edited, what looks wrong, who decides."""

from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import new_id
from market.events import Event, EventRow
from market.imports import ImportRow
from market.item_banks.actions import decide_item, import_items, raise_flag
from market.item_banks.jobs import calibrate_banks
from market.item_banks.models import BankItem, ItemFlag, ItemKey
from market.item_banks.queries import (
    bank_states,
    calibrated,
    item,
    key_of,
    newest_calibration,
    stale_banks,
)
from market.item_banks.rules import (
    Answered,
    Basis,
    ItemNotFound,
    ItemUnfit,
    Known,
    fit_bank,
    is_right,
)
from market.moves import unfolded
from market.states import StateConflict
from tests.factories import AT, make_caller, make_expert
from tests.market.banked import BANK, CHOICES, bank_rows, calibrate, make_bank, upload

NOTE = "Two specialists looked at it, and both came to the same answer."


def verdicts(db: Session, import_id: UUID) -> list[tuple[str, str | None]]:
    """What became of each row, and why."""
    rows = db.execute(
        select(ImportRow.verdict, ImportRow.code)
        .where(ImportRow.import_id == import_id)
        .order_by(ImportRow.line)
    )
    return [(row.verdict, row.code) for row in rows]


def take(db: Session, *rows: dict[str, object]) -> list[tuple[str, str | None]]:
    """Upload rows, and say what became of each."""
    return verdicts(db, import_items(db, upload(list(rows)), now=lambda: AT).id)


def test_every_row_of_an_upload_gets_a_verdict(db: Session) -> None:
    [good] = bank_rows(1)
    faults: list[tuple[dict[str, object], str]] = [
        ({"bank": "Not A Domain"}, "domain_invalid"),
        ({"prompt": " "}, "blank"),
        ({"choices": ["one"]}, "out_of_range"),
        ({"choices": ["Red", "red ", "blue"], "key": ["blue"]}, "out_of_range"),
        ({"key": ["violet"]}, "key_unfit"),
        ({"key": []}, "key_unfit"),
        ({"ease": None}, "calibration_part"),
        ({"level": 11}, "out_of_range"),
        ({"version": 3}, "version_skipped"),
        ({"prompt": "a\x00b"}, "nul_character"),
        ({"colour": "red"}, "unknown_field"),
    ]
    rows = [good, good]
    rows += [{**good, "external_id": f"x{n}", **fault} for n, (fault, _) in enumerate(faults)]
    assert take(db, *rows) == [
        ("created", None),
        ("rejected", "duplicate_in_file"),
        *(("rejected", code) for _, code in faults),
    ]
    assert take(db, good) == [("unchanged", None)]


def test_an_item_is_never_edited_and_its_next_version_takes_its_place(db: Session) -> None:
    [first] = bank_rows(1)
    changed = {**first, "prompt": "Which colour has the other solution?"}
    take(db, first)
    assert take(db, changed) == [("conflict", "content_differs")]
    assert take(db, {**changed, "version": 2}) == [("created", None)]
    assert take(
        db,
        {**changed, "version": 2},
    ) == [("unchanged", None)]
    assert take(db, first) == [("unchanged", None)]
    rows = db.scalars(select(BankItem).order_by(BankItem.item_version)).all()
    assert [(one.item_version, one.state) for one in rows] == [(1, "retired"), (2, "active")]
    assert unfolded(db) == []


def test_answers_are_compared_without_regard_to_case_and_gaps() -> None:
    assert is_right("  Acetic   ACID", ["acetic acid", "ethanoic acid"])
    assert not is_right("acetic", ["acetic acid"])


def basis(persons: int, items: int, wrong: set[int], *, seed: int = 3) -> Basis:
    """Answers by ability, where some keys are wrong: who knows the item is marked down."""
    rng = np.random.default_rng(seed)
    known = tuple(Known(new_id(), 5, "", None, None, 0) for _ in range(items))
    people = [new_id() for _ in range(persons)]
    ability, ease = rng.normal(size=persons), rng.normal(size=items)
    told = []
    for who in range(persons):
        for n in rng.permutation(items)[:15].tolist():
            chance = 1 / (1 + np.exp(-(1.5 * ability[who] + ease[n])))
            right = bool(rng.random() < chance)
            told.append(
                Answered(people[who], known[n].id, AT, float(chance), right != (n in wrong))
            )
    return Basis(new_id(), known, tuple(told), {})


def test_planted_wrong_keys_are_flagged_and_hardly_any_right_one() -> None:
    made = basis(150, 40, {4, 20, 33})
    found = {one.item_id: one for one in fit_bank(made).odd}
    assert {made.items[n].id for n in (4, 20, 33)} <= found.keys()
    assert len(found) <= 5
    assert all(one.answers >= 20 for one in found.values())


def test_what_ops_have_looked_at_is_not_flagged_again_for_the_same_answers() -> None:
    made = basis(150, 40, {4, 20, 33})
    odd = fit_bank(made).odd
    looked = {one.item_id: (AT, one.answers) for one in odd}
    again = fit_bank(Basis(made.bank_id, made.items, made.told, looked))
    assert again.odd == ()


def test_a_leaked_item_is_noticed() -> None:
    made = basis(40, 20, set())
    leaked = made.items[0]
    more = tuple(Answered(new_id(), leaked.id, AT, 0.4, True) for _ in range(40))
    found = fit_bank(Basis(made.bank_id, made.items, made.told + more, {})).odd
    assert [one.reason for one in found if one.item_id == leaked.id] == ["easier"]


def test_an_item_begins_from_its_upload_or_its_level_and_moves_with_its_answers() -> None:
    told, easy, hard = (
        Known(new_id(), 5, "", 1.2, 0.7, 300),
        Known(new_id(), 2, "", None, None, 0),
        Known(new_id(), 9, "", None, None, 0),
    )
    empty = fit_bank(Basis(new_id(), (told, easy, hard), (), {}))
    assert (empty.slope[0], empty.ease[0], empty.answers.tolist()) == (1.2, 0.7, [300, 0, 0])
    assert empty.ease[1] > 0 > empty.ease[2]
    right = tuple(
        Answered(new_id(), one.id, AT, 0.5, True) for one in (told, hard) for _ in range(12)
    )
    moved = fit_bank(Basis(new_id(), (told, easy, hard), right, {}))
    assert moved.answers.tolist() == [312, 0, 12]
    assert 0 < moved.ease[0] - 0.7 < 0.5 < moved.ease[2] - empty.ease[2]
    assert np.isnan(moved.share_right[1])


def test_a_bank_is_calibrated_when_something_is_new(db: Session) -> None:
    import_items(db, upload(bank_rows(30)), now=lambda: AT)
    [stale] = stale_banks(db)
    calibrate_banks("2026-01-01T00:00:00+00:00")
    assert stale_banks(db) == []
    state = bank_states(db, [stale])[stale]
    assert (state.items, state.calibrated, state.is_ready) == ({"active": 30}, 30, True)
    found = newest_calibration(db, stale)
    assert found is not None
    assert calibrated(db, found.id) is calibrated(db, found.id)
    one = db.scalars(select(BankItem).limit(1)).one()
    decide_item(db, one.id, "withdraw", note=NOTE, at=found.fitted_at)
    assert stale_banks(db) == [stale]
    calibrate_banks("2026-01-02T00:00:00+00:00")
    assert bank_states(db, [stale])[stale].calibrated == 29


def test_what_answers_say_takes_an_item_out_and_what_one_taker_says_does_not(db: Session) -> None:
    make_bank(db, 4)
    odd, said, _, _ = db.scalars(select(BankItem).order_by(BankItem.id)).all()
    person = make_expert(db).id
    flag = partial(raise_flag, db, answers=30, at=AT)
    assert flag(odd.id, "harder", "harder than calibrated")
    assert not flag(odd.id, "discriminates_wrongly", "again")
    assert flag(said.id, "challenged", "It is green.", person_id=person)
    assert not flag(said.id, "challenged", "It is green!", person_id=person)
    assert [odd.state, said.state] == ["flagged", "active"]
    told = db.scalars(select(EventRow).where(EventRow.type == Event.ITEM_FLAGGED)).all()
    assert [one.person_id for one in told] == [None, None]
    decide_item(db, odd.id, "keep", note=NOTE, at=AT)
    decide_item(db, said.id, "keep", note=NOTE, at=AT)
    assert [odd.state, said.state] == ["active", "active"]
    decisions = db.scalars(select(ItemFlag.decision)).all()
    assert decisions == ["keep", "keep"]
    with pytest.raises(StateConflict):
        decide_item(db, said.id, "keep", note=NOTE, at=AT)
    assert unfolded(db) == []


def test_a_key_is_replaced_with_a_reason_and_the_old_one_is_kept(db: Session) -> None:
    make_bank(db, 3)
    first, second, third = db.scalars(select(BankItem).order_by(BankItem.id)).all()
    raise_flag(db, first.id, "harder", "harder than calibrated", answers=30, at=AT)
    decide_item(db, first.id, "rekey", key=["green", "blue"], note=NOTE, at=AT)
    assert (first.state, key_of(db, first.id).number) == ("active", 2)
    assert sorted(key_of(db, first.id).key) == ["blue", "green"]
    assert len(db.scalars(select(ItemKey).where(ItemKey.item_id == first.id)).all()) == 2
    refused: list[tuple[UUID, str, dict[str, Any]]] = [
        (second.id, "rekey", {"key": []}),
        (second.id, "rekey", {"key": ["violet"]}),
        (second.id, "rekey", {"key": key_of(db, second.id).key}),
        (second.id, "keep", {"key": ["red"]}),
        (second.id, "retire", {"note": "bad"}),
        (second.id, "forget", {}),
    ]
    for which, decision, given in refused:
        with pytest.raises(ItemUnfit):
            decide_item(db, which, decision, **{"note": NOTE, **given}, at=AT)
    with pytest.raises(ItemNotFound):
        item(db, new_id())
    decide_item(db, second.id, "retire", note=NOTE, at=AT)
    decide_item(db, third.id, "withdraw", note=NOTE, at=AT)
    with pytest.raises(StateConflict):
        decide_item(db, third.id, "rekey", key=["red"], note=NOTE, at=AT)
    with pytest.raises(DBAPIError, match="permission denied"), db.begin_nested():
        db.execute(text("update market.item_key set number = 9"))


def test_ops_upload_and_decide_over_http_and_nobody_else_sees_items(
    db: Session, web: TestClient[Any]
) -> None:
    ops, expert = (make_caller(db, web, part) for part in (Part.OPS, Part.EXPERT))
    body = upload(bank_rows(3)).file.read()
    headers = {"content-type": "application/x-ndjson", "idempotency-key": "bank-1"}
    assert expert.post("/v1/items:import", content=body, headers=headers).status_code == 403
    done = ops.post("/v1/items:import", content=body, headers=headers)
    assert (done.status_code, done.json()["created"]) == (201, 3)
    again = ops.post("/v1/items:import", content=body, headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    for path in ("/v1/items", "/v1/item-banks"):
        assert expert.get(path).json()["code"] == "scope_missing"
    [bank] = ops.get("/v1/item-banks").json()["items"]
    assert (bank["name"], bank["items"], bank["is_ready"]) == (BANK, {"active": 3}, False)
    calibrate(db)
    items = ops.get("/v1/items", params={"bank": BANK}).json()["items"]
    assert sorted(one["external_id"] for one in items) == ["q0", "q1", "q2"]
    address = f"/v1/items/{items[0]['id']}"
    other = next(one for one in CHOICES if one not in items[0]["key"])
    move = {"decision": "rekey", "key": [other], "note": NOTE}
    assert ops.post(f"{address}/decisions", json=move).json()["key"] == [other]
    unfit = ops.post(f"{address}/decisions", json=move)
    assert (unfit.status_code, unfit.json()["code"]) == (422, "item_unfit")
    assert ops.get(address).json()["key_number"] == 2
    assert ops.get(f"/v1/items/itm_{new_id().hex}").status_code == 404
    assert ops.get("/v1/items", params={"state": "flagged"}).json()["items"] == []
