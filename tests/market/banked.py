"""Item banks for tests: uploaded as ops upload them, and people who answer by their ability."""

import io
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import numpy as np
from sqlalchemy.orm import Session

from market.db import new_id
from market.imports import BulkImport
from market.item_banks.actions import import_items, keep_calibration
from market.item_banks.models import BankItem
from market.item_banks.queries import bank_named, basis_of, item, key_of
from market.item_banks.rules import fit_bank
from market.qualifications.actions import invite_to_qualify
from market.sittings.actions import answer_item, put_item, start_sitting
from market.sittings.models import Sitting
from market.uploads import Upload
from tests.factories import AT, make_expert

BANK = "chemistry.organic"
CHOICES = ["red", "green", "blue", "grey"]


def upload(rows: list[dict[str, object]]) -> Upload:
    """Rows as a file of JSON lines on disk."""
    body = b"\n".join(msgspec.json.encode(row) for row in rows)
    return Upload(io.BytesIO(body), "jsonl", "utf-8", len(body), new_id().bytes)


def bank_rows(items: int = 60, *, calibrated: bool = True) -> list[dict[str, object]]:
    """Items of two topics, from easy to hard; the right choice moves with the number."""
    rows: list[dict[str, object]] = []
    for n in range(items):
        row: dict[str, object] = {
            "bank": BANK,
            "external_id": f"q{n}",
            "prompt": f"Which colour has solution {n}?",
            "choices": CHOICES,
            "key": [CHOICES[n % 4]],
            "level": 1 + n % 10,
            "topic": ("reactions", "structure")[n % 2],
        }
        if calibrated:
            row |= {"slope": 1.4, "ease": 1.5 - 3 * ((n * 7) % items) / items, "answers": 200}
        rows.append(row)
    return rows


def calibrate(db: Session, *, at: datetime = AT) -> None:
    """Calibrate the bank as the job does."""
    bank = bank_named(db, BANK)
    assert bank is not None
    keep_calibration(db, fit_bank(basis_of(db, bank.id)), at=at)


def make_bank(db: Session, items: int = 60, *, calibrated: bool = True) -> BulkImport:
    """A bank of items, uploaded and calibrated."""
    done = import_items(db, upload(bank_rows(items, calibrated=calibrated)), now=lambda: AT)
    calibrate(db)
    return done


def seat(
    db: Session, *, person_id: UUID | None = None, pass_score: int = 70, at: datetime = AT
) -> Sitting:
    """A person who sits down to the bank."""
    person_id = person_id or make_expert(db).id
    asked = invite_to_qualify(db, person_id, domain=BANK, pass_score=pass_score, at=at)
    return start_sitting(db, asked.id, person_id=person_id, at=at)


def other_choice(asked: BankItem, right: list[str]) -> str:
    """A choice that is wrong."""
    return next(one for one in asked.choices if one not in right)


def knows(ability: float, *, seed: int = 0) -> Callable[[BankItem], bool]:
    """Whether somebody of an ability knows an item, as the bank's own scale has it."""
    rng = np.random.default_rng(seed)

    def is_known(asked: BankItem) -> bool:
        slope, ease = asked.slope or 1.0, asked.ease or 0.0
        return bool(rng.random() < 1 / (1 + np.exp(-(slope * ability + ease))))

    return is_known


def sit(
    db: Session,
    row: Sitting,
    is_known: Callable[[BankItem], bool],
    *,
    at: datetime = AT,
    most: int = 100,
) -> int:
    """Answer items until the sitting is over, or so many; how many were answered."""
    for n in range(most):
        put = put_item(db, row.id, person_id=row.person_id, at=at)
        if put is None:
            return n
        asked = item(db, put.item_id)
        right = key_of(db, asked.id).key
        said = right[0] if is_known(asked) else other_choice(asked, right)
        at += timedelta(seconds=20)
        answer_item(db, row.id, put.step, said, person_id=row.person_id, at=at)
    return most
