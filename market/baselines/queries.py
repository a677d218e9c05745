"""Reads of evaluation sets and of how people and models stand at them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from sqlalchemy import Select, any_, exists, func, select
from sqlalchemy.orm import Session

from market.baselines.models import BaselineResult, EvalAnswer, EvalItem, EvalSet
from market.baselines.rules import EvalSetNotFound
from market.events import StateChange
from market.projects.models import Project
from market.qualifications.models import Qualification
from matching.problem import Float64


def eval_set(session: Session, set_id: UUID, *, lock: bool = False) -> EvalSet:
    """One set.

    Raises:
        EvalSetNotFound.
    """
    found = session.get(EvalSet, set_id, with_for_update=lock or None, populate_existing=lock)
    if found is None:
        raise EvalSetNotFound(set_id)
    return found


def eval_sets(project_id: UUID) -> Select[EvalSet]:
    """The sets of a project, as a statement to page through."""
    return select(EvalSet).where(EvalSet.project_id == project_id)


def items_of(session: Session, set_id: UUID) -> Sequence[EvalItem]:
    """The items of a set, by number."""
    return session.scalars(
        select(EvalItem).where(EvalItem.set_id == set_id).order_by(EvalItem.number)
    ).all()


def answers_of(session: Session, set_id: UUID, person_id: UUID | None) -> dict[UUID, EvalAnswer]:
    """What one expert, or the model, was put of a set, by item."""
    rows = session.scalars(
        select(EvalAnswer).where(
            EvalAnswer.set_id == set_id, EvalAnswer.person_id.is_not_distinct_from(person_id)
        )
    )
    return {row.item_id: row for row in rows}


def people_begun(session: Session, set_id: UUID) -> int:
    """How many experts were put any item of a set."""
    statement = select(func.count(EvalAnswer.person_id.distinct())).where(
        EvalAnswer.set_id == set_id
    )
    return session.scalar(statement) or 0


def is_qualified_in(session: Session, person_id: UUID, domain: str) -> bool:
    """Whether somebody's qualification in a domain is in force."""
    return bool(
        session.scalar(
            select(
                exists().where(
                    Qualification.person_id == person_id,
                    Qualification.domain == domain,
                    Qualification.state == "granted",
                )
            )
        )
    )


def open_sets(person_id: UUID) -> Select[EvalSet]:
    """Sets in the domains that somebody is qualified in, as a statement to page through."""
    granted = exists().where(
        Qualification.person_id == person_id,
        Qualification.domain == EvalSet.domain,
        Qualification.state == "granted",
    )
    begun = (
        select(func.count(EvalAnswer.person_id.distinct()))
        .where(EvalAnswer.set_id == EvalSet.id, EvalAnswer.person_id != person_id)
        .scalar_subquery()
    )
    return select(EvalSet).where(granted, begun < EvalSet.experts)


@dataclass(frozen=True, slots=True, eq=False)
class Board:
    """Who answered what of a set.

    Shapes: right (people, items), model (items,): 1 right, 0 wrong, NaN not closed yet.
    """

    people: tuple[UUID, ...]
    right: Float64
    model: Float64


def board(session: Session, found: EvalSet) -> Board:
    """Every closed answer to the items of a set."""
    rows = session.execute(
        select(EvalAnswer.person_id, EvalItem.number, EvalAnswer.is_right)
        .join(EvalItem, EvalItem.id == EvalAnswer.item_id)
        .where(EvalAnswer.set_id == found.id, EvalAnswer.closed_at.is_not(None))
    ).all()
    people = tuple(sorted({person for person, _, _ in rows if person is not None}))
    place = {person: n for n, person in enumerate(people)}
    right, model = np.full((len(people), found.items), np.nan), np.full(found.items, np.nan)
    for person, number, is_right in rows:
        if person is None:
            model[number - 1] = float(bool(is_right))
        else:
            right[place[person], number - 1] = float(bool(is_right))
    return Board(people, right, model)


def results_of(session: Session, set_id: UUID) -> Sequence[BaselineResult]:
    """How a set stood, the latest first."""
    return session.scalars(
        select(BaselineResult)
        .where(BaselineResult.set_id == set_id)
        .order_by(BaselineResult.id.desc())
    ).all()


def was_saturated(session: Session, found: EvalSet) -> bool:
    """Whether the last result of a domain and target model, of any set, was that it is saturated.

    Thin results say nothing either way.
    """
    last = session.scalar(
        select(BaselineResult.standing)
        .join(EvalSet, EvalSet.id == BaselineResult.set_id)
        .where(
            EvalSet.domain == found.domain,
            EvalSet.target_model_id == found.target_model_id,
            BaselineResult.standing != "thin",
        )
        .order_by(BaselineResult.id.desc())
        .limit(1)
    )
    return last == "saturated"


def projects_against(
    session: Session, domain: str, target_model_id: UUID, state: str
) -> Sequence[UUID]:
    """Projects in a state that test a model in a domain."""
    return session.scalars(
        select(Project.id)
        .where(
            Project.state == state,
            Project.target_model_id == target_model_id,
            any_(Project.domains) == domain,
        )
        .order_by(Project.id)
    ).all()


def is_paused_as_saturated(session: Session, project_id: UUID) -> bool:
    """Whether a project that is paused was paused because nobody is above its model."""
    reason = session.scalar(
        select(StateChange.reason_code)
        .where(StateChange.subject_id == project_id, StateChange.to_state == "paused")
        .order_by(StateChange.id.desc())
        .limit(1)
    )
    return reason == "saturated"
