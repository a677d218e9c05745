"""What items are worth, and what follows for those who made them."""

from datetime import datetime
from uuid import UUID

import numpy as np
from sqlalchemy import ARRAY, Double, Uuid, bindparam, select, text
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.orm import Session

from market.alarms.models import SpreadAlarm
from market.alarms.queries import open_spreads
from market.db import Json, new_id
from market.events import Event, emit
from market.fixes.queries import standing_fix
from market.http import wire_id, wire_ids
from market.impact.models import ExpertImpact, ImpactState, ItemCredit
from market.impact.queries import (
    belief_of,
    credits_of,
    credits_of_domain,
    project_spread,
    signatures_before,
    totals,
)
from market.impact.rules import MOST, SetSpread, level_weight
from market.lifts.queries import lifts_of, lifts_of_study
from market.lifts.rules import lift_in_credit
from market.projects.models import Project
from market.quality.queries import Standing, standing
from market.verdicts.models import Verdict
from matching.credit import MEMORIES, ExpertRate, item_credit, places
from matching.duplicates import ALIKE, shingles, signatures

COMPARED = 5_000
"""Earlier items of a project and domain with which a new one is compared."""

_LIFTED = text(
    """
    update market.item_credit c set lift = n.lift,
        credit = c.validity * c.novelty * c.level_weight * (1 + n.lift) * (1 - c.edited_share)
    from unnest(:ids, :lifts) n(submission_id, lift) where c.submission_id = n.submission_id
    """
).bindparams(bindparam("ids", type_=ARRAY(Uuid())), bindparam("lifts", type_=ARRAY(Double())))


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
    measured = lifts_of(session, [submission_id]).get(submission_id)
    lift = 0.0 if measured is None else lift_in_credit(measured.relative)
    credit = item_credit(
        np.array([validity]), np.array([novelty]), np.array([weight]), np.array([lift])
    )
    fix = standing_fix(session, submission_id)
    edited_share = 0.0 if fix is None else fix.edited_share
    # What a reviewer put in the place of the author's words is the reviewer's part.
    worth = float(credit[0]) * (1 - edited_share)
    values: Json = {
        "expert_id": found.expert_id,
        "project_id": found.project_id,
        "domain": found.domain,
        "validity": validity,
        "novelty": novelty,
        "level_weight": weight,
        "lift": lift,
        "edited_share": edited_share,
        "credit": worth,
        "like_submission_id": like,
        "decided_at": decided_at,
        "signature": signature.tobytes(),
    }
    # Locked first, so that every item of a domain is counted once, one after the other.
    state = _locked(session, found.domain)
    before = session.scalar(
        select(ItemCredit.credit).where(ItemCredit.submission_id == submission_id)
    )
    session.execute(
        insert_or(ItemCredit)
        .values(submission_id=submission_id, **values)
        .on_conflict_do_update(index_elements=["submission_id"], set_=values)
    )
    if before is None and state.state:
        _count_item(session, state, found.expert_id, worth, at=at)
    elif before != worth:
        # What was counted cannot be taken out again, nor can what was never begun be gone on with.
        _follow_domain(session, state, at=at, is_placed=False)
    return True


def credit_lift(session: Session, study_id: UUID, *, at: datetime) -> int:
    """Let what a lab measured of training on items enter their credit, and their experts' rates;
    how many items it changed.
    """
    lifts = lifts_of_study(session, study_id)
    changed: dict[str, list[tuple[UUID, float]]] = {}
    for which, domain, lift in credits_of(session, list(lifts)):
        new = lift_in_credit(lifts[which])
        if lift != new:
            changed.setdefault(domain, []).append((which, new))
    for domain, items in sorted(changed.items()):
        state = _locked(session, domain)
        session.execute(
            _LIFTED, {"ids": [which for which, _ in items], "lifts": [lift for _, lift in items]}
        )
        _follow_domain(session, state, at=at, is_placed=False)
    return sum(map(len, changed.values()))


def place_experts(session: Session, domain: str, *, at: datetime) -> int:
    """Follow every expert of a domain over all items, and say who is probably at the top."""
    return _follow_domain(session, _locked(session, domain), at=at, is_placed=True)


def watch_spread(session: Session, project_id: UUID, *, at: datetime) -> int:
    """Tell ops, the lab and the expert, once for each crossing, that a project's set or an expert's
    part of it is one item many times; note when it is so no more. How many it told of.

    Runs as the platform.
    """
    found = project_spread(session, project_id)
    flagged: dict[UUID | None, SetSpread] = {
        whose: part for whose, part in ((None, found.whole), *found.experts) if part.flags
    }
    known = open_spreads(session, project_id)
    for whose, row in known.items():
        if whose not in flagged:
            row.ended_at = at
    session.flush()
    project = session.get_one(Project, project_id)
    told = [
        _tell_spread(session, project, whose, part, at=at)
        for whose, part in flagged.items()
        if whose not in known
    ]
    return sum(told)


def _tell_spread(
    session: Session, project: Project, expert_id: UUID | None, part: SetSpread, *, at: datetime
) -> bool:
    alarm_id = session.scalar(
        insert_or(SpreadAlarm)
        .values(
            id=new_id(),
            organisation_id=project.organisation_id,
            project_id=project.id,
            expert_id=expert_id,
            flags=[flag.value for flag in part.flags],
            items=part.items,
            copies=0 if part.copies is None else part.copies.part,
            spread=part.spread,
            reason=part.reason,
            at=at,
        )
        .on_conflict_do_nothing()
        .returning(SpreadAlarm.id)
    )
    if alarm_id is None:
        return False
    told: Json = {
        "kind": "spread",
        "project_id": wire_id("prj", project.id),
        "expert_id": wire_ids("per", expert_id),
        "reason": part.reason,
    }
    emit(
        session,
        Event.QUALITY_ALERT,
        alarm_id,
        at=at,
        organisation_id=project.organisation_id,
        person_id=expert_id,
        data={name: value for name, value in told.items() if value is not None},
    )
    return True


def _locked(session: Session, domain: str) -> ImpactState:
    session.execute(
        insert_or(ImpactState).values(domain=domain, state=[], items=0).on_conflict_do_nothing()
    )
    return session.get_one(ImpactState, domain, with_for_update=True, populate_existing=True)


def _count_item(
    session: Session, state: ImpactState, expert_id: UUID, credit: float, *, at: datetime
) -> None:
    """Go on from what is known of a domain and of one expert: the same work for any record."""
    row = session.get(ExpertImpact, (expert_id, state.domain), populate_existing=True)
    memory = np.array(row.memory if row is not None and row.memory else np.zeros(MEMORIES))
    followed = ExpertRate.resumed(np.array(state.state), memory[None, :], most=MOST)
    followed.observe(0, credit)
    rates = followed.rates()
    items, total = (0, 0.0) if row is None else (row.items, row.total)
    values: Json = {
        "items": items + 1,
        "total": total + credit,
        "rate": float(rates.mean[0]),
        "sd": float(rates.sd[0]),
        "at": at,
        "memory": followed.memory()[0].tolist(),
    }
    _write(session, state.domain, [{"expert_id": expert_id, **values}])
    state.state, state.items = followed.state().tolist(), state.items + 1
    session.flush()


def _follow_domain(session: Session, state: ImpactState, *, at: datetime, is_placed: bool) -> int:
    """Follow all of a domain's items anew, in the order of their time."""
    rows = credits_of_domain(session, state.domain)
    number = {one: n for n, one in enumerate(dict.fromkeys(expert for expert, _ in rows))}
    followed = ExpertRate(len(number), most=MOST)
    followed.fit(
        np.array([number[expert] for expert, _ in rows], np.int64),
        np.array([credit for _, credit in rows], np.float64),
    )
    state.state, state.items = followed.state().tolist(), len(rows)
    session.flush()
    if not number:
        return 0
    rates, memory = followed.rates(), followed.memory()
    placed = places(followed.draw(seed=len(rows))) if is_placed else None
    known = totals(session, state.domain)
    written: list[Json] = []
    for expert_id, n in number.items():
        items, total = known[expert_id]
        values: Json = {
            "expert_id": expert_id,
            "items": items,
            "total": total,
            "rate": float(rates.mean[n]),
            "sd": float(rates.sd[n]),
            "at": at,
            "memory": memory[n].tolist(),
        }
        if placed is not None:
            values |= {
                "top": float(placed.top[n]),
                "expected_rank": float(placed.expected_rank[n]),
                "call": placed.calls[n].value,
            }
        written.append(values)
    _write(session, state.domain, written)
    return len(number)


def _write(session: Session, domain: str, rows: list[Json]) -> None:
    """Write what is believed of experts, all in one statement for each thousand."""
    for start in range(0, len(rows), 1000):
        some = insert_or(ExpertImpact).values(
            [{"domain": domain, **row} for row in rows[start : start + 1000]]
        )
        session.execute(
            some.on_conflict_do_update(
                index_elements=["expert_id", "domain"],
                set_={name: some.excluded[name] for name in rows[0] if name != "expert_id"},
            )
        )


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
