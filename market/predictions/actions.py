"""How the stump model learns, and how a new version takes the place of an old one.

Everything here runs as the platform. The row that says which version is in force is locked first,
so that outcomes are learned one after the other, in the order of their numbers.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.orm import Session

from market.db import Json, new_id
from market.events import Event, emit
from market.operations import Operation, cancel_operation, end_operation, open_operation
from market.predictions.models import (
    Ability,
    Difficulty,
    Observation,
    StumpFit,
    StumpPresent,
    StumpVersion,
)
from market.predictions.queries import Present, abilities_now, difficulty_now, present, readable
from market.predictions.rules import BESIDE, FIT_LEASE, FitHeld, Outcome, attempts_of

if TYPE_CHECKING:
    from matching.ability import StumpModel


def learn_outcomes(session: Session, outcomes: Sequence[Outcome], *, at: datetime) -> int:
    """Write outcomes into what the model learns from, each with what was expected of it before.

    An outcome is written once, however often it is told. One that corrects an earlier one takes
    its place. Only a single outcome is predicted, because an earlier one of several would not be
    learned before the next is looked at; those of a panel, which come with it, are not.
    """
    held = lock_present(session, at=at)
    written = 0
    is_single = sum(one.kind != BESIDE for one in outcomes) == 1
    for outcome in outcomes:
        values: Json = asdict(outcome)
        known = readable(session) if is_single and outcome.kind != BESIDE else None
        if known is not None:
            values |= _predicted(known, outcome)
        made = session.scalar(
            insert_or(Observation)
            .values(**values, observed_at=at, epoch=held.epoch)
            .on_conflict_do_nothing()
            .returning(Observation.seq)
        )
        if made is None:
            continue
        written += 1
        replaced = session.execute(
            update(Observation)
            .where(
                Observation.kind == outcome.kind,
                Observation.subject_id == outcome.subject_id,
                Observation.version < outcome.version,
                Observation.replaced_at.is_(None),
            )
            .values(replaced_at=at)
            .returning(Observation.seq)
        ).all()
        if replaced:
            held.epoch += 1
    session.flush()
    return written


def tell_release(
    session: Session,
    target_model_id: UUID,
    *,
    effect: float,
    variance: float,
    version: int,
    at: datetime,
) -> bool:
    """Write what was found of a new target model into what the model learns from, once."""
    held = lock_present(session, at=at)
    made = session.scalar(
        insert_or(Observation)
        .values(
            kind="release",
            subject_id=target_model_id,
            target_model_id=target_model_id,
            version=version,
            at=at,
            observed_at=at,
            level=0,
            valid_weight=1.0,
            epoch=held.epoch,
            effect=effect,
            variance=variance,
        )
        .on_conflict_do_nothing()
        .returning(Observation.seq)
    )
    return made is not None


def lock_present(session: Session, *, at: datetime) -> StumpPresent:
    """The row that says which version is in force, locked; the first one knows nothing yet."""
    held = session.scalar(select(StumpPresent).with_for_update())
    if held is not None:
        return held
    # Loads scipy, which a process that never predicts can do without.
    from matching.ability import StumpModel

    empty = StumpModel().fit(attempts_of(()))
    version = _keep(session, empty, rows=0, through=0, seconds=0.0, at=at)
    session.execute(
        insert_or(StumpPresent)
        .values(id=1, version_id=version.id, since=at, epoch=0)
        .on_conflict_do_nothing()
    )
    return session.scalars(select(StumpPresent).with_for_update()).one()


def tell_abilities(session: Session, outcome: Outcome, *, at: datetime) -> None:
    """Write what is now believed of the expert and the task that an outcome was about."""
    lock_present(session, at=at)
    now_known = readable(session)
    if now_known is None:
        # The next refit learns the outcome and writes what is believed then.
        return
    write_abilities(session, abilities_now(session, now_known, [outcome.expert_id], at=at))
    found = difficulty_now(session, now_known, outcome.task_id, at=at)
    if found is not None:
        session.execute(
            insert_or(Difficulty)
            .values(task_id=outcome.task_id, **found)
            .on_conflict_do_update(index_elements=["task_id"], set_=found)
        )


def write_abilities(session: Session, rows: Sequence[Json]) -> None:
    """Put what is believed of experts in the place of what was."""
    for begin in range(0, len(rows), 1000):
        statement = insert_or(Ability).values(
            [{"id": new_id(), **row} for row in rows[begin : begin + 1000]]
        )
        kept = ("id", "expert_id", "domain", "target_model_id")
        changed = {c.name: c for c in statement.excluded if c.name not in kept}
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["expert_id", "domain", "target_model_id"], set_=changed
            )
        )


# Refits -------------------------------------------------------------------------------------------


def request_refit(session: Session, *, at: datetime) -> Operation:
    """Ask for a refit; while one is under way, that one is the answer."""
    stale = session.scalars(
        select(StumpFit).where(
            StumpFit.ended_at.is_(None),
            StumpFit.requested_at < at - 4 * FIT_LEASE,
            (StumpFit.leased_until.is_(None)) | (StumpFit.leased_until < at),
        )
    ).one_or_none()
    if stale is not None:
        fail_refit(session, stale.id, detail="its worker was lost", at=at)
    fit_id: UUID | None = session.scalar(
        insert_or(StumpFit)
        .values(id=new_id(), requested_at=at, state="waiting")
        .on_conflict_do_nothing()
        .returning(StumpFit.id)
    )
    if fit_id is None:
        running = session.scalars(select(StumpFit.id).where(StumpFit.ended_at.is_(None))).one()
        return session.scalars(select(Operation).where(Operation.subject_id == running)).one()
    operation = open_operation(session, "refit", fit_id, at=at, organisation_id=None)
    emit(session, Event.REFIT_REQUESTED, fit_id, at=at)
    return operation


def take_refit(session: Session, fit_id: UUID, *, at: datetime) -> bool:
    """The sole right to refit, for a while; whether there is anything to do.

    Raises:
        FitHeld.
    """
    row = session.scalar(select(StumpFit).where(StumpFit.id == fit_id).with_for_update())
    if row is None or row.ended_at is not None:
        return False
    if row.leased_until is not None and row.leased_until > at:
        raise FitHeld(fit_id)
    row.state = "running"
    row.leased_until = at + FIT_LEASE
    return True


def fail_refit(session: Session, fit_id: UUID, *, detail: str, at: datetime) -> None:
    """End a refit that came to nothing; the old version stays in force."""
    row = session.get_one(StumpFit, fit_id, with_for_update=True)
    row.state, row.ended_at = "failed", at
    problem = {"code": "refit_failed", "detail": detail}
    end_operation(session, fit_id, at=at, problem=problem)


def cancel_refit(session: Session, fit_id: UUID, *, at: datetime) -> None:
    """Stop a refit; the old version stays in force. One that has ended stays as it ended."""
    row = session.get_one(StumpFit, fit_id, with_for_update=True)
    if row.ended_at is None:
        row.state, row.ended_at = "failed", at
        cancel_operation(session, fit_id, at=at)


def swap_version(
    session: Session,
    fit_id: UUID,
    model: "StumpModel",
    *,
    rows: int,
    through: int,
    seconds: float,
    at: datetime,
) -> StumpVersion | None:
    """Put a fit into force: one row changes, and what came since is learned by whoever reads it.

    Nothing happens when the refit has ended already.
    """
    held = lock_present(session, at=at)
    fit = session.get_one(StumpFit, fit_id, with_for_update=True)
    if fit.ended_at is not None:
        return None
    version = _keep(session, model, rows=rows, through=through, seconds=seconds, at=at)
    held.version_id, held.since = version.id, at
    fit.state, fit.ended_at, fit.version_id = "succeeded", at, version.id
    session.flush()
    known = present(session)
    everyone = list(session.scalars(text("select distinct expert_id from market.ability")))
    for begin in range(0, len(everyone), 500):
        write_abilities(
            session, abilities_now(session, known, everyone[begin : begin + 500], at=at)
        )
    result: Json = {"version": version.digest.hex(), "rows": rows, "seconds": round(seconds, 2)}
    end_operation(session, fit_id, at=at, result=result)
    emit(session, Event.MODEL_REFITTED, version.id, at=at, data=result)
    return version


def _keep(
    session: Session, model: "StumpModel", *, rows: int, through: int, seconds: float, at: datetime
) -> StumpVersion:
    content = model.to_bytes()
    version = StumpVersion(
        fitted_at=at,
        rows=rows,
        through=through,
        seconds=seconds,
        content=content,
        digest=hashlib.sha256(content).digest(),
    )
    session.execute(
        insert(StumpVersion),
        {
            "id": version.id,
            "fitted_at": at,
            "rows": rows,
            "through": through,
            "seconds": seconds,
            "content": content,
            "digest": version.digest,
        },
    )
    return session.get_one(StumpVersion, version.id)


def _predicted(known: Present, outcome: Outcome) -> Json:
    said = known.predict(attempts_of([outcome]))
    return {
        "version_id": known.version_id,
        "predicted_start": float(said.start.mean[0]),
        "predicted_fooled": float(said.fooled.mean[0]),
        "predicted_valid": float(said.valid.mean[0]),
        "predicted_stump": float(said.stump.mean[0]),
        "predicted_sd": float(said.stump.logit_sd[0]),
    }
