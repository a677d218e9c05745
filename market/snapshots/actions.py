"""How accepted work is delivered."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import exists, func, insert, select, update
from sqlalchemy.orm import Session

from market.events import Changes, Event, emit
from market.fixes.models import SubmissionFix
from market.fixes.queries import stands_for
from market.golds.models import GoldCheck
from market.projects.queries import project
from market.snapshots.models import Snapshot, SnapshotAnswer
from market.snapshots.rules import MAX_TASKS, NothingToDeliver
from market.submissions.models import Submission
from market.tasks.models import Task
from market.tasks.rules import TASK
from market.verdicts.models import Verdict


def take_snapshot(
    session: Session, project_id: UUID, *, at: datetime, actor_id: UUID | None = None
) -> Snapshot:
    """Deliver a project's accepted tasks: their answers are in the snapshot, as they stand now.

    It runs as the platform; the caller has made sure whose project it is.

    Raises:
        ProjectNotFound, NothingToDeliver.
    """
    # Locked, so that of two at once none delivers what the other did.
    found = project(session, project_id, lock=True)
    tasks = list(
        session.scalars(
            select(Task.id)
            .where(Task.project_id == found.id, Task.state == "accepted")
            # What was put to check somebody is no answer that the lab lacked.
            .where(~exists().where(GoldCheck.task_id == Task.id))
            .order_by(Task.id)
            .limit(MAX_TASKS)
            .with_for_update(key_share=True)
        )
    )
    if not tasks:
        raise NothingToDeliver()
    answers = session.execute(
        select(Submission.id, Verdict.share, Verdict.is_stump, SubmissionFix.id)
        .join(Verdict, Verdict.submission_id == Submission.id)
        .outerjoin(SubmissionFix, stands_for(Submission.id))
        .where(
            Submission.task_id.in_(tasks),
            Submission.state.in_(("accepted", "partially_accepted")),
        )
    ).all()
    last = session.scalar(select(func.max(Snapshot.number)).where(Snapshot.project_id == found.id))
    made = Snapshot(
        organisation_id=found.organisation_id,
        project_id=found.id,
        number=(last or 0) + 1,
        tasks=len(tasks),
        answers=len(answers),
        taken_at=at,
        taken_by=actor_id,
    )
    session.add(made)
    session.flush()
    if answers:
        session.execute(
            insert(SnapshotAnswer),
            [
                {
                    "snapshot_id": made.id,
                    "submission_id": submission_id,
                    "organisation_id": found.organisation_id,
                    "share": share,
                    "is_stump": is_stump,
                    "fix_id": fix_id,
                }
                for submission_id, share, is_stump, fix_id in answers
            ],
        )
    changes = Changes(at, actor_id)
    for task_id in tasks:
        changes.move(TASK, task_id, "accepted", "deliver")
    session.execute(
        update(Task)
        .where(Task.id.in_(tasks))
        .values(state="delivered", version=Task.version + 1)
        .execution_options(synchronize_session=False)
    )
    changes.write(session)
    emit(
        session,
        Event.SNAPSHOT_TAKEN,
        made.id,
        at=at,
        organisation_id=made.organisation_id,
        actor_id=actor_id,
        data={"project_id": str(found.id), "tasks": made.tasks, "answers": made.answers},
    )
    return made
