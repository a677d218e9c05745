"""Reads of threads. Who may read which is row security; each of these runs as whoever asks, but
what says that it runs as the platform.
"""

from collections import defaultdict
from collections.abc import Collection
from uuid import UUID

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import Session

from market.auth import Part, Principal
from market.filters import narrowed
from market.offers.models import Offer
from market.reviews.models import Review
from market.submissions.models import Submission
from market.tasks.models import Task
from market.threads.models import Remark, Thread
from market.threads.rules import About, SubjectNotFound, ThreadNotFound
from market.votes.rules import criteria_of

_GONE = ("recused", "expired", "queued")
_DECIDED = ("final", "overturned")


def thread(session: Session, thread_id: UUID) -> Thread:
    """The thread with this id.

    Raises:
        ThreadNotFound.
    """
    found = session.scalar(select(Thread).where(Thread.id == thread_id))
    if found is None:
        raise ThreadNotFound()
    return found


def threads(
    *, subject_id: UUID | None = None, project_id: UUID | None = None, state: str | None = None
) -> Select[Thread]:
    """Threads that the caller may see, as a statement to page through."""
    return narrowed(
        select(Thread),
        (Thread.subject_id, subject_id),
        (Thread.project_id, project_id),
        (Thread.state, state),
    )


def threads_on(
    session: Session, submission_ids: Collection[UUID]
) -> dict[UUID, list[tuple[Thread, list[Remark]]]]:
    """The threads on some submissions and their reviews, with all that is said in them."""
    found = session.scalars(
        select(Thread).where(Thread.submission_id.in_(submission_ids)).order_by(Thread.id)
    ).all()
    said = remarks(session, [one.id for one in found])
    by_submission: dict[UUID, list[tuple[Thread, list[Remark]]]] = defaultdict(list)
    for one in found:
        if one.submission_id is not None:
            by_submission[one.submission_id].append((one, said[one.id]))
    return by_submission


def remarks(session: Session, thread_ids: Collection[UUID]) -> dict[UUID, list[Remark]]:
    """What is said in some threads, in order."""
    by_thread: dict[UUID, list[Remark]] = defaultdict(list)
    if thread_ids:
        for one in session.scalars(
            select(Remark).where(Remark.thread_id.in_(thread_ids)).order_by(Remark.number)
        ):
            by_thread[one.thread_id].append(one)
    return by_thread


def about(session: Session, kind: str, subject_id: UUID, principal: Principal) -> About:
    """What a thread is to be about, if whoever asks may see it. Runs as the platform.

    Raises:
        SubjectNotFound.
    """
    vote = session.get(Review, subject_id) if kind == "review" else None
    wanted = vote.submission_id if vote is not None else subject_id
    handed = session.get(Submission, wanted) if kind != "task" else None
    task = session.get(Task, handed.task_id if handed is not None else subject_id)
    if task is None or (kind != "task" and handed is None) or (kind == "review" and vote is None):
        raise SubjectNotFound()
    if not _may_see(session, principal, task, handed, vote):
        raise SubjectNotFound()
    payload: dict[str, object] = task.payload if handed is None else handed.payload
    if vote is not None:
        payload = {"verdict": vote.verdict, "note": vote.note, "reason_code": vote.reason_code}
    author_id = handed.expert_id if handed is not None else None
    if handed is None and principal.part is Part.EXPERT:
        author_id = principal.person_id
    return About(
        kind=kind,
        subject_id=subject_id,
        organisation_id=task.organisation_id,
        project_id=task.project_id,
        task_id=task.id,
        submission_id=None if handed is None else handed.id,
        author_id=author_id,
        payload=payload,
        criteria=criteria_of(task.payload),
    )


def _may_see(
    session: Session,
    principal: Principal,
    task: Task,
    handed: Submission | None,
    vote: Review | None,
) -> bool:
    me = principal.person_id
    if principal.part is Part.OPS:
        return True
    if principal.part is Part.LAB:
        is_handed_in = handed is None or handed.submitted_at is not None
        return task.organisation_id == principal.organisation_id and is_handed_in
    if principal.part is Part.REVIEWER:
        if vote is not None and vote.reviewer_id != me and vote.voted_at is None:
            return False
        return handed is not None and me in reviewers_of(session, handed.id)
    if handed is None:
        return bool(
            session.scalar(select(exists().where(Offer.task_id == task.id, Offer.expert_id == me)))
        )
    return handed.expert_id == me and (vote is None or vote.state in _DECIDED)


def reviewers_of(
    session: Session, submission_id: UUID, *, has_voted: bool = False
) -> Collection[UUID]:
    """Who reviews a submission, or has; or only those who have voted. Runs as the platform."""
    statement = select(Review.reviewer_id).where(
        Review.submission_id == submission_id,
        Review.reviewer_id.is_not(None),
        Review.state.not_in(_GONE),
    )
    if has_voted:
        statement = statement.where(Review.voted_at.is_not(None))
    return {one for one in session.scalars(statement) if one is not None}


def concerned(session: Session, row: Thread, *, speaker: str) -> set[UUID]:
    """The people whom a word in a thread concerns, but for those of the lab, who are told as one.

    What a reviewer says is kept from those who have not voted. Runs as the platform.
    """
    people: set[UUID] = set()
    if "author" in row.sides and row.author_id is not None:
        people.add(row.author_id)
    if "reviewer" in row.sides and row.submission_id is not None:
        is_kept = "reviewer" in (speaker, row.opened_side)
        people |= set(reviewers_of(session, row.submission_id, has_voted=is_kept))
    if row.opened_side != "lab":
        people.add(row.opened_by)
    spoke = select(Remark.person_id).where(
        Remark.thread_id == row.id, Remark.side.in_(("ops", "author"))
    )
    return people | set(session.scalars(spoke))
