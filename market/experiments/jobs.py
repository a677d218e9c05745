"""The job that looks at every running experiment, and stops what does harm."""

from market.broker import job
from market.db import database, now
from market.experiments.actions import look_at_experiment
from market.experiments.queries import running_experiments
from market.sweeps import sweep


@job(queue="solver", max_retries=3)
def look_at_experiments(slot: str) -> None:
    """Look at every running experiment; a look more or less changes nothing, since intervals hold
    at every look.
    """
    del slot
    with database.begin() as session:
        running = [one.id for one in running_experiments(session)]
    sweep(running, lambda session, one: look_at_experiment(session, one, at=now()))
