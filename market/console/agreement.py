"""The page of ops about agreement: of reviewers, of the automatic judge, and where they differ."""

from datetime import timedelta
from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.response import Template
from sqlalchemy import select

from market.agreements.queries import agreement_by_field, readings
from market.agreements.rules import LEAST_AGREEMENT, differing, standings_of
from market.console.frame import page
from market.console.visitors import OPS
from market.db import database, now
from market.submissions.models import Submission
from market.tasks.models import Task

LATELY = timedelta(days=90)
QUESTIONS = {
    "model_failed": "Did the model fail?",
    "attempt_fair": "Was the question fair?",
    "accepted": "Is the work accepted?",
}
SHOWN = 50


@get("/signals/agreement", guards=OPS, sync_to_thread=True)
def get_agreement(request: Request[Any, Any, Any]) -> Template:
    """How far people agree, how the judge stands beside them, and claims on which they differ."""
    at = now()
    with database.begin() as session:
        read = readings(session, since=at - LATELY)
        differ = differing(read)[:SHOWN]
        tasks = session.execute(
            select(Submission.id, Task.external_id)
            .join(Task, Task.id == Submission.task_id)
            .where(Submission.id.in_([one.submission_id for one in differ]))
        ).all()
        return page(
            request,
            "ops/agreement.html",
            fields=agreement_by_field(session, since=at - LATELY, until=at),
            questions=QUESTIONS,
            judge=standings_of(read),
            least=LEAST_AGREEMENT,
            differ=differ,
            tasks=dict(tasks),
        )


ROUTES: list[HTTPRouteHandler] = [get_agreement]
