"""Taking gold in, putting it as checks, grading them, and retiring what is known.

Putting and grading run as the platform: who is checked is neither the lab's to choose nor the
expert's to see.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from market.db import new_id
from market.events import Event, emit
from market.experts.rules import domain_within, is_domain
from market.golds.models import Gold, GoldCheck
from market.golds.queries import gold, gold_candidates, record_of
from market.golds.rules import (
    KEPT,
    MAX_ANSWERS,
    MAX_ROWS,
    MOST_EXPOSURES,
    GoldRow,
    GoldUnfit,
    GoldUnproven,
    RowVerdict,
    is_due,
    is_leaked,
    is_right,
    named_like,
    share_for,
)
from market.offers.models import Offer
from market.projects.models import Project
from market.projects.queries import project
from market.reviews.models import Review
from market.submissions.models import Submission
from market.submissions.queries import submission
from market.tasks.actions import move_task
from market.tasks.models import Task, TaskSlot


def add_golds(
    session: Session, project_id: UUID, rows: Sequence[GoldRow], *, at: datetime
) -> list[RowVerdict]:
    """Take gold in, row by row; a row that is there already with the same content changes nothing.

    Raises:
        ProjectNotFound, GoldUnfit.
    """
    found = project(session, project_id)
    if not 1 <= len(rows) <= MAX_ROWS:
        raise GoldUnfit("items", f"1 to {MAX_ROWS} rows at once")
    verdicts = []
    for row in rows:
        refused = _refused(row, found)
        if refused is not None:
            verdicts.append(refused)
            continue
        made = session.scalar(
            insert(Gold)
            .values(
                id=new_id(),
                organisation_id=found.organisation_id,
                project_id=found.id,
                external_id=row.external_id,
                domain=row.domain,
                payload=dict(row.payload),
                field=row.field,
                answers=list(row.answers),
                complexity=row.complexity,
                expected_s=row.expected_s,
                created_at=at,
                state="active",
                exposures=0,
            )
            .on_conflict_do_nothing(index_elements=["project_id", "external_id"])
            .returning(Gold.id)
        )
        if made is not None:
            verdicts.append(RowVerdict(row.external_id, "created"))
            continue
        kept = session.scalars(
            select(Gold).where(Gold.project_id == found.id, Gold.external_id == row.external_id)
        ).one()
        is_same = (kept.domain, kept.payload, kept.field, kept.answers, kept.complexity) == (
            row.domain,
            dict(row.payload),
            row.field,
            list(row.answers),
            row.complexity,
        ) and kept.expected_s == row.expected_s
        verdicts.append(
            RowVerdict(row.external_id, "unchanged")
            if is_same
            else RowVerdict(
                row.external_id,
                "rejected",
                "content_differs",
                "gold with this external_id and other content is there; retire it, name this anew",
            )
        )
    return verdicts


def _refused(row: GoldRow, found: Project) -> RowVerdict | None:
    name = row.external_id
    for code, is_unfit, wanted in (
        (
            "external_id_unfit",
            not 1 <= len(name.strip()) <= 200,
            "external_id: 1 to 200 characters",
        ),
        ("domain_unknown", not is_domain(row.domain), "domain: a dotted name in lower case"),
        (
            "domain_of_another_project",
            not domain_within(row.domain, found.domains),
            "domain: one of the project's: " + ", ".join(found.domains),
        ),
        ("payload_empty", not row.payload, "payload: what the expert reads"),
        (
            "answers_unfit",
            not 1 <= len(row.answers) <= MAX_ANSWERS or not all(a.strip() for a in row.answers),
            f"answers: 1 to {MAX_ANSWERS} that count as right, none of them blank",
        ),
        ("field_unfit", not row.field.strip(), "field: where the work has its answer"),
        ("complexity_unfit", not 1 <= row.complexity <= 10, "complexity: 1 to 10"),
        ("expected_s_unfit", not 1 <= row.expected_s <= 10**6, "expected_s: seconds, from 1"),
    ):
        if is_unfit:
            return RowVerdict(name, "rejected", code, wanted)
    return None


def accept_candidate(
    session: Session,
    submission_id: UUID,
    *,
    name: str = "answer",
    also: Sequence[str] = (),
    at: datetime,
) -> Gold:
    """Make gold of work that a senior settled: the task under its name, the answer that the work
    has in the field `name`, and whatever else counts as right.

    Nobody is put it who was offered the task, or reviewed work on it.

    Raises:
        SubmissionNotFound, GoldUnproven, GoldUnfit.
    """
    handed = submission(session, submission_id)
    found = session.execute(
        gold_candidates(handed.project_id).where(Submission.id == submission_id)
    ).one_or_none()
    if found is None:
        raise GoldUnproven()
    _, task, fix = found
    said = (handed.payload if fix is None else fix.payload).get(name)
    if not isinstance(said, str | int | float) or isinstance(said, bool):
        raise GoldUnfit("field", "a field in which the work has a text or a number")
    row = GoldRow(
        external_id=task.external_id,
        domain=task.domain,
        payload=task.payload,
        answers=list(dict.fromkeys((str(said), *also))),
        field=name,
        complexity=task.complexity,
        expected_s=task.expected_s,
    )
    (told,) = add_golds(session, task.project_id, [row], at=at)
    if told.verdict == "rejected":
        field, _, wanted = (told.detail or "").partition(": ")
        raise GoldUnfit(field, wanted)
    return session.scalars(
        select(Gold).where(Gold.project_id == task.project_id, Gold.external_id == task.external_id)
    ).one()


def retire_gold(session: Session, gold_id: UUID, *, why: str, at: datetime) -> Gold:
    """Put an item no more; what was put stays as it is. Retiring twice changes nothing.

    Raises:
        GoldNotFound.
    """
    found = gold(session, gold_id, lock=True)
    if found.state == "active":
        found.state, found.retired_at, found.retired_for = "retired", at, why
        session.flush()
    return found


def put_check(session: Session, submission_id: UUID, *, at: datetime) -> Task | None:
    """Put gold to an expert who has handed work in, as often as is known too little of it.

    It is a new task of the same project and domain, with the same pay, that only this expert is
    offered; none while an earlier check waits, or where no item is left that it does not know.
    Once for each work that was handed in.
    """
    handed = session.get_one(Submission, submission_id)
    # No check follows on a check, also when it is told of again after it was graded.
    is_done = (GoldCheck.after_id == submission_id) | (GoldCheck.task_id == handed.task_id)
    if session.scalar(select(exists().where(is_done))):
        return None
    source = aliased(Task)
    item = session.scalar(
        select(Gold)
        .join(Task, Task.id == handed.task_id)
        .join(Project, Project.id == Gold.project_id)
        .where(
            Gold.project_id == handed.project_id,
            Gold.state == "active",
            Gold.domain == Task.domain,
            Project.state == "live",
            ~exists().where(GoldCheck.gold_id == Gold.id, GoldCheck.expert_id == handed.expert_id),
            # Gold that was made of a task bears its name, and whoever saw that task knows it.
            ~exists().where(
                source.project_id == Gold.project_id,
                source.external_id == Gold.external_id,
                exists().where(Offer.task_id == source.id, Offer.expert_id == handed.expert_id)
                | exists().where(
                    Submission.task_id == source.id,
                    Review.submission_id == Submission.id,
                    Review.reviewer_id == handed.expert_id,
                ),
            ),
        )
        # Whatever the fewest have seen comes first, so that no item is worn out before the others.
        .order_by(Gold.exposures, Gold.id)
        .limit(1)
        .with_for_update(of=Gold, skip_locked=True)
    )
    if item is None or not is_due(submission_id, share_for(*record_of(session, handed.expert_id))):
        return None
    if session.scalar(
        select(
            exists()
            .where(GoldCheck.expert_id == handed.expert_id, GoldCheck.submission_id.is_(None))
            .where(GoldCheck.task_id == Task.id, Task.state.in_(("queued", "active")))
        )
    ):
        return None
    made = Task(
        organisation_id=item.organisation_id,
        project_id=item.project_id,
        external_id=_name(session, handed),
        domain=item.domain,
        payload=item.payload,
        expected_s=item.expected_s,
        created_at=at,
        complexity=item.complexity,
    )
    session.add(made)
    session.flush()
    session.add(TaskSlot(organisation_id=made.organisation_id, task_id=made.id, number=1))
    session.add(
        GoldCheck(
            task_id=made.id,
            gold_id=item.id,
            organisation_id=item.organisation_id,
            project_id=item.project_id,
            expert_id=handed.expert_id,
            put_at=at,
            after_id=submission_id,
        )
    )
    item.exposures += 1
    if item.exposures >= MOST_EXPOSURES:
        item.state, item.retired_at, item.retired_for = "retired", at, "exposed"
    session.flush()
    emit(
        session,
        Event.TASK_QUEUED,
        made.id,
        at=at,
        organisation_id=made.organisation_id,
        data={"project_id": str(made.project_id), "state": "queued"},
    )
    return made


def drop_stale_checks(session: Session, *, at: datetime, limit: int) -> int:
    """Cancel checks that nobody took; how many there were. Their items are put to others."""
    stale = session.scalars(
        select(Task.id)
        .join(GoldCheck, GoldCheck.task_id == Task.id)
        .where(
            GoldCheck.submission_id.is_(None),
            GoldCheck.put_at <= at - KEPT,
            Task.state == "queued",
        )
        .order_by(Task.id)
        .limit(limit)
    ).all()
    for task_id in stale:
        move_task(session, task_id, "cancel", at=at, reason_code="not_taken")
    return len(stale)


def _name(session: Session, handed: Submission) -> str:
    """A free name for a task in the manner of the one that was just done."""
    sample = session.scalars(select(Task.external_id).where(Task.id == handed.task_id)).one()
    count = session.scalar(
        select(func.count()).select_from(Task).where(Task.project_id == handed.project_id)
    )
    for turn in range(20):
        name = named_like(sample, (count or 0) + 1 + turn)
        taken = exists().where(Task.project_id == handed.project_id, Task.external_id == name)
        if not session.scalar(select(taken)):
            return name
    return f"{sample}-{handed.id.hex[-6:]}"


def grade_check(session: Session, submission_id: UUID, *, at: datetime) -> bool | None:
    """Compare the answer of a check with what is known, once; None where it is none.

    An item that later people answer too well beside earlier ones is retired as known.
    """
    handed = session.get_one(Submission, submission_id)
    found = session.execute(
        select(GoldCheck, Gold)
        .join(Gold, Gold.id == GoldCheck.gold_id)
        .where(GoldCheck.task_id == handed.task_id, GoldCheck.submission_id.is_(None))
        .with_for_update()
    ).one_or_none()
    if found is None:
        return None
    check, item = found
    check.submission_id, check.graded_at = submission_id, at
    check.is_right = is_right(handed.payload, item.field, item.answers)
    session.flush()
    record = session.scalars(
        select(GoldCheck.is_right)
        .where(GoldCheck.gold_id == item.id, GoldCheck.is_right.is_not(None))
        .order_by(GoldCheck.graded_at, GoldCheck.task_id)
    ).all()
    if item.state == "active" and is_leaked([bool(one) for one in record]):
        retire_gold(session, item.id, why="leak_suspected", at=at)
        emit(
            session,
            Event.QUALITY_ALERT,
            item.id,
            at=at,
            organisation_id=item.organisation_id,
            data={
                "gold": item.external_id,
                "answers": len(record),
                "right": sum(map(bool, record)),
            },
        )
    return check.is_right
