"""The stump model learns of each model of a panel what became of the question put to it."""

from collections.abc import Callable
from datetime import timedelta

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.attempts.actions import claim_stump, submit_attempt
from market.attempts.models import Attempt
from market.attempts.queries import beside
from market.events import Changes
from market.predictions.models import Ability, Difficulty, Observation
from market.predictions.queries import present
from market.predictions.rules import pairs_at
from market.projects.models import Project
from market.quality.actions import catch_up
from market.quality.jobs import learn_verdict
from market.quality.queries import evidence_of_ability, outcomes_beside
from market.reviews.actions import open_reviews
from market.submissions.models import Submission
from market.tasks.models import Task
from market.verdicts.actions import correct_verdict
from market.verdicts.rules import Correction
from tests.factories import AT
from tests.market.reviewed import LATER, RIGHT, cast
from tests.market.test_panels import answer, decided, handed_in, make_panel, put_question

React = Callable[[], list[str]]

SECOND = {"target-1": True, "second": True, "third": False}


def learned(db: Session) -> dict[str, float | None]:
    """What is in force of each model beside the target, by the model's name."""
    rows = db.execute(
        select(Attempt.parameters, Observation.fooled)
        .join(Attempt, Attempt.id == Observation.subject_id)
        .where(Observation.kind == "panel", Observation.replaced_at.is_(None))
    )
    return {str(row.parameters["model"]): row.fooled for row in rows}


def chances(db: Session, handed: Submission) -> dict[str, float]:
    """How likely each model of a piece of work's panel is led astray by somebody unknown."""
    head = db.get_one(Attempt, handed.attempt_id)
    asked = [head, *beside(db, head)]
    task = db.get_one(Task, handed.task_id)
    said = present(db).predict(
        pairs_at(
            [None] * len(asked),
            [task.domain] * len(asked),
            [one.target_model_id for one in asked],
            [task.complexity - 1] * len(asked),
            np.full((len(asked), 3), np.nan),
            at=LATER,
        )
    )
    names = [str(one.parameters["model"]) for one in asked]
    return dict(zip(names, said.fooled.mean.tolist(), strict=True))


def test_what_a_panel_shows_of_another_model_moves_what_is_believed_of_it(
    db: Session, react: React
) -> None:
    handed = handed_in(db, make_panel(db, "second", "third"))
    decided(db, handed, SECOND)
    react()
    assert learned(db) == {"second": 1.0, "third": 0.0}
    said = chances(db, handed)
    assert said["second"] > said["third"] + 0.05
    # The expert's standing against each of them is written down as well.
    head = db.get_one(Attempt, handed.attempt_id)
    abilities = db.scalars(select(Ability).where(Ability.expert_id == handed.expert_id)).all()
    models = {one.target_model_id for one in (head, *beside(db, head))}
    assert {one.target_model_id for one in abilities} == models


def test_a_question_to_a_panel_is_one_piece_of_work_however_many_models_answered(
    db: Session, react: React
) -> None:
    handed = handed_in(db, make_panel(db, "second", "third"))
    decided(db, handed, SECOND)
    react()
    learn_verdict(str(handed.id))  # A queue may deliver twice.
    assert catch_up(db, at=LATER) == 0
    rows = db.scalars(select(Observation)).all()
    assert sorted(one.kind for one in rows) == ["panel", "panel", "verdict"]
    # That somebody began and that the work holds is said once, and once it was predicted.
    for told in ("start", "valid", "predicted_stump"):
        assert [one.kind for one in rows if getattr(one, told) is not None] == ["verdict"]
    assert db.get_one(Difficulty, handed.task_id).outcomes == 1
    assert len(evidence_of_ability(db, handed.expert_id)) == 1


def test_a_verdict_that_is_corrected_takes_back_what_was_learned_of_each_model(
    db: Session, react: React
) -> None:
    handed = handed_in(db, make_panel(db, "second"))
    decided(db, handed, {"target-1": True, "second": False})
    react()
    before = chances(db, handed)["second"]
    changes = Changes(LATER)
    correction = Correction(
        action="void", share=0, basis="case", reason_code="case", is_validated=False
    )
    correct_verdict(db, db.get_one(Submission, handed.id), correction, changes)
    changes.write(db)
    db.flush()
    react()
    rows = db.scalars(select(Observation).where(Observation.kind == "panel")).all()
    assert sorted((one.version, one.replaced_at is None) for one in rows) == [(1, False), (2, True)]
    assert abs(chances(db, handed)["second"] - before) < 0.1


def test_what_no_job_taught_is_caught_up_with_of_every_model(db: Session) -> None:
    handed = handed_in(db, make_panel(db, "second", "third"))
    decided(db, handed, SECOND)
    assert catch_up(db, at=LATER) == 3
    assert catch_up(db, at=LATER) == 0
    assert learned(db) == {"second": 1.0, "third": 0.0}


def conceded(db: Session, project: Project) -> Submission:
    """Work of somebody who says that no model was stumped."""
    head = put_question(db, project)
    answer(db, head, *beside(db, head), says="Answer: 4")
    claim_stump(db, head.id, expert_id=head.expert_id, claims_stump=False, at=AT)
    ends = AT + timedelta(seconds=60)
    handed = submit_attempt(
        db, head.offer_id, head.id, expert_id=head.expert_id, payload={"why": "it adds"}, at=ends
    )
    open_reviews(db, handed.id, at=ends)
    db.flush()
    return handed


def test_who_concedes_says_something_of_other_models_only_where_any_would_have_done(
    db: Session,
) -> None:
    for rule, wanted in (("any", [0.0]), ("target", []), ("all", [])):
        handed = conceded(db, make_panel(db, "second", rule=rule))
        assert cast(db, handed, *[RIGHT] * 3) is not None
        assert [one.fooled for one in outcomes_beside(db, handed.id)] == wanted
