"""TABLE: event -> the jobs that follow it. What may come later is here; nothing else is later."""

from market.broker import Job
from market.events import Event

REACTIONS: dict[Event, tuple[Job, ...]] = {}

JOBS: tuple[Job, ...] = tuple(
    {job.name: job for jobs in REACTIONS.values() for job in jobs}.values()
)
"""Every job that follows from something, once."""
