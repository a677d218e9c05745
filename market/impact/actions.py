"""What items are worth, and what follows for those who made them."""

from datetime import datetime
from uuid import UUID

import numpy as np
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.orm import Session

from market.db import Json
from market.impact.models import ExpertImpact, ItemCredit
from market.impact.queries import (
    belief_of,
    credits_of_domain,
    signatures_before,
    totals,
)
from market.impact.rules import MOST, RECENT, level_weight
from market.quality.queries import Standing, standing
from market.verdicts.models import Verdict
from matching.credit import ExpertRate, item_credit, places
from matching.duplicates import ALIKE, shingles, signatures

COMPARED = 5_000
"""Earlier items of a project and domain with which a new one is compared."""


def credit_item(session: Session, submission_id: UUID, *, at: datetime) -> bool:
    """Write what a decided submission was worth, and its expert's rate as it is now.

    Done twice, it writes the same. The base is what holds: a model's failing alone is worth nought.
    """
    found = standing(session, submission_id)
    if found is None:
        return False
    decided_at = session.get_one(Verdict, submission_id).decided_at
    validity = _validity(found, belief_of(session, submission_id))
    signature = signatures([shingles(found.text)])[0]
    like, likeness = _nearest(session, found, submission_id, signature)
    novelty = 1 - likeness
    weight = level_weight(found.complexity)
    credit = item_credit(np.array([validity]), np.array([novelty]), np.array([weight]))
    values: Json = {
        "expert_id": found.expert_id,
        "project_id": found.project_id,
        "domain": found.domain,
        "validity": validity,
        "novelty": novelty,
        "level_weight": weight,
        "lift": 0.0,
        "credit": float(credit[0]),
        "like_submission_id": like,
        "decided_at": decided_at,
        "signature": signature.tobytes(),
    }
    session.execute(
        insert_or(ItemCredit)
        .values(submission_id=submission_id, **values)
        .on_conflict_do_update(index_elements=["submission_id"], set_=values)
    )
    _rate(session, found.domain, [found.expert_id], at=at, limit=RECENT)
    return True


def place_experts(session: Session, domain: str, *, at: datetime) -> int:
    """Follow every expert of a domain over all items, and say who is probably at the top."""
    return _rate(session, domain, None, at=at, limit=None)


def _rate(
    session: Session,
    domain: str,
    only: list[UUID] | None,
    *,
    at: datetime,
    limit: int | None,
) -> int:
    rows = credits_of_domain(session, domain, limit=limit)
    number = {one: n for n, one in enumerate(dict.fromkeys(expert for expert, _ in rows))}
    if not number:
        return 0
    followed = ExpertRate(len(number), most=MOST)
    followed.fit(
        np.array([number[expert] for expert, _ in rows], np.int64),
        np.array([credit for _, credit in rows], np.float64),
    )
    rates = followed.rates()
    placed = None if only is not None else places(followed.draw(seed=len(rows)))
    known = totals(session, domain, only)
    for expert, n in number.items():
        if only is not None and expert not in only:
            continue
        items, total = known[expert]
        values: Json = {
            "items": items,
            "total": total,
            "rate": float(rates.mean[n]),
            "sd": float(rates.sd[n]),
            "at": at,
        }
        if placed is not None:
            values |= {
                "top": float(placed.top[n]),
                "expected_rank": float(placed.expected_rank[n]),
                "call": placed.calls[n].value,
            }
        session.execute(
            insert_or(ExpertImpact)
            .values(expert_id=expert, domain=domain, **values)
            .on_conflict_do_update(index_elements=["expert_id", "domain"], set_=values)
        )
    return len(number)


def _validity(found: Standing, belief: float | None) -> float:
    if not found.is_tested:
        return found.share / 100 if found.is_accepted else 0.0
    if not found.is_stump:
        return 0.0
    return 1.0 if belief is None else belief


def _nearest(
    session: Session,
    found: Standing,
    submission_id: UUID,
    signature: "np.ndarray[tuple[int], np.dtype[np.uint64]]",
) -> tuple[UUID | None, float]:
    """The earlier item that a text is most like, and how like, where that is too much."""
    rows = signatures_before(session, found.project_id, found.domain, submission_id, limit=COMPARED)
    if not rows:
        return None, 0.0
    table = np.frombuffer(b"".join(row.signature for row in rows), np.uint64)
    likeness = (table.reshape(len(rows), -1) == signature).mean(axis=1)
    best = int(likeness.argmax())
    if likeness[best] < ALIKE:
        return None, 0.0
    return rows[best].submission_id, float(likeness[best])
