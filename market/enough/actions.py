"""Deciding a claim by the votes that are in, and keeping the next look for whom it serves best."""

from datetime import datetime, timedelta
from uuid import UUID

import numpy as np
from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from market.enough.queries import free_reviewers
from market.quality.actions import believed, weighed_queue
from market.quality.queries import ballots_of
from market.review_plans.queries import plan_over
from market.review_plans.rules import draw
from market.reviews.models import Review
from market.reviews.rules import SOON
from market.submissions.models import Submission
from market.tasks.models import Task
from market.votes.actions import decide_early

FEWEST_TO_STOP = 2
"""Votes before anybody may be sure of a claim."""

KEPT = timedelta(minutes=15)
"""How long a look is kept for whom it serves best, before anybody may take it."""

WORTH_KEEPING = 0.002
"""How much more than somebody who comes by chance the best is to save, for a look to be kept; of
the expected squared distance from the truth."""


def stop_if_sure(session: Session, submission_id: UUID, *, at: datetime) -> bool:
    """Decide a claim by the votes that are in, where they say the same and are surely right, each
    weighed by its reviewer's record; whether it was decided.

    Where it was not, the next look is kept for the reviewer at work whose vote is expected to tell
    the most. Not so in the control group, whose votes come from whoever comes.
    """
    # Loads scipy, which only the jobs that weigh need.
    from matching.asking import Move, Panel, best_to_ask, expected_savings
    from matching.votes import UNKNOWN

    handed = session.get_one(Submission, submission_id)
    plan = plan_over(session, handed)
    ballots = [one for one in ballots_of(session, submission_id) if one.round == handed.round]
    if plan.stop_at is None or len(ballots) < FEWEST_TO_STOP:
        return False
    domain = session.get_one(Task, handed.task_id).domain
    model, people = weighed_queue(session, ballots, domain, is_open=False, at=at)
    belief = believed(model, people, ballots)
    posterior = np.array([1 - belief, belief])
    label = np.array([int(one.says_yes) for one in ballots], np.int64)
    # One more than there are is the usual number: whoever differs is never overruled by a weight.
    panel = Panel(
        least=FEWEST_TO_STOP,
        usual=len(ballots) + 1,
        most=len(ballots) + 1,
        sure=plan.stop_at,
        control_share=plan.control_rate,
    )
    drawn = draw(submission_id, handed.round, 1, 0, "stop")
    is_sure = panel.next_move(posterior, label, draw=drawn) is Move.DECIDE
    if is_sure and (belief > 0.5) == bool(label[0]):
        return decide_early(session, submission_id, votes=len(ballots), at=at) is not None
    free = free_reviewers(session, handed, at=at) if drawn >= plan.control_rate else []
    if free:
        who = np.array([people.get(one, UNKNOWN) for one in free], np.int64)
        chance = model.next_vote(who, len(ballots))
        # Whoever comes by chance costs no waiting: only what is saved beyond that is worth any.
        by_chance = float(expected_savings(posterior, chance).mean())
        best = best_to_ask(posterior, chance, stake=1.0, cost=by_chance + WORTH_KEEPING)
        if best is not None and best.is_worth_it:
            keep_look(session, handed, free[best.reviewer], at=at)
    return False


def keep_look(session: Session, handed: Submission, reviewer_id: UUID, *, at: datetime) -> bool:
    """Keep the next look at a submission for one reviewer, for a while; whether it was kept.

    One look at a time, each once, and none that silence would soon decide.
    """
    session.execute(select(Submission.id).where(Submission.id == handed.id).with_for_update())
    waiting = session.scalars(
        select(Review)
        .where(
            Review.submission_id == handed.id,
            Review.round == handed.round,
            Review.level == 1,
            Review.kind == "vote",
            Review.state == "queued",
            or_(Review.due_at.is_(None), Review.due_at > at + SOON),
        )
        .order_by(Review.number)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    if any(one.reserved_until is not None and one.reserved_until > at for one in waiting):
        return False
    fresh = next((one.id for one in waiting if one.reserved_until is None), None)
    if fresh is None:
        return False
    session.execute(
        update(Review)
        .where(Review.id == fresh)
        .values(reserved_for=reviewer_id, reserved_until=at + KEPT, version=Review.version + 1)
    )
    return True
