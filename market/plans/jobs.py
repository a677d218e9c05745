"""What leaves word for the keeper of the plans. It answers in a process of its own, where the
plans are; these jobs are short, and stand in the default queue, so that a run that is solving does
not hold them up.
"""

from uuid import UUID

from market.broker import job
from market.db import database, now
from market.plans.actions import note_change, note_openings

SWEEP = 1_000
"""The most experts that one sweep takes up; the next one comes soon."""


def _note(kind: str, subject_id: str) -> None:
    with database.begin() as session:
        note_change(session, kind, UUID(subject_id), at=now())


@job(queue="default", line="bulk")
def note_offer(offer_id: str) -> None:
    """An offer has ended: its seat, its expert and its money may go to others."""
    _note("offer", offer_id)


@job(queue="default", line="bulk")
def note_expert(expert_id: str) -> None:
    """An expert came, changed or may not work any more."""
    _note("expert", expert_id)


@job(queue="default", line="bulk")
def note_task(task_id: str) -> None:
    """A task was published, held or cancelled."""
    _note("task", task_id)


@job(queue="default")
def note_project(project_id: str) -> None:
    """A project went live, stopped, or has more money."""
    _note("project", project_id)


@job(queue="default")
def note_import(import_id: str) -> None:
    """Tasks or experts came with a file."""
    _note("import", import_id)


@job(queue="default")
def note_run(run_id: str) -> None:
    """A run has ended: its plan is the one to keep."""
    _note("run", run_id)


@job(queue="default", max_retries=2)
def note_opened_hours(slot: str) -> None:
    """The hours of some experts have begun: there may be work for them."""
    del slot
    with database.begin() as session:
        note_openings(session, at=now(), limit=SWEEP)
