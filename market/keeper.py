"""Keeps the plans between matching runs: `python -m market.keeper`.

Any number may run; one holds the lease and writes, and another takes over when it falls silent.
Nothing is lost with a keeper: the next one makes the plans again from what was written.
"""

import gc
import signal
import threading
import time
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from market.auth import keyring
from market.db import database, new_id, now
from market.lease import LeaseTaken, let_lease_go, take_lease
from market.logs import configure_logs
from market.plans.actions import Plans, give_plan_up, keep_plans
from market.plans.rules import LEASE, LEASE_S, PlanLost
from market.settings import in_force, read_settings

IDLE_S = 0.03
WAIT_S = 0.5

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Keeper:
    """One keeper: its lease, and the plans while it has them."""

    holder_id: UUID = field(default_factory=new_id)
    fence: int | None = None
    plans: Plans | None = None
    _renewed: float = 0.0

    def turn(self) -> int | None:
        """Answer what waits, once; how many changes, or none while another is the keeper.

        A plan that cannot go on is given up, and made anew by a run.
        """
        if self.plans is None or time.monotonic() - self._renewed >= LEASE_S / 4:
            with database.begin() as session:
                fence = take_lease(session, LEASE, self.holder_id, lease_s=LEASE_S)
            self._renewed = time.monotonic()
            if fence != self.fence:
                self.plans = None
            self.fence = fence
        if self.fence is None:
            return None
        try:
            try:
                return self._answer(self.fence)
            except PlanLost as lost:
                return self._give_up(self.fence, lost)
        except LeaseTaken:
            log.warning("keeper.lease_taken", fence=self.fence)
            self.fence = self.plans = None
            return None
        except BaseException:
            # What is in memory was changed and not written.
            self.plans = None
            raise

    def stop(self) -> None:
        """Let another keeper in at once."""
        if self.fence is not None:
            with database.begin() as session:
                let_lease_go(session, LEASE, self.holder_id, self.fence)
        self.fence = self.plans = None

    def _give_up(self, fence: int, lost: PlanLost) -> int:
        log.error("keeper.plan_lost", run_id=str(lost.run_id), reason=lost.reason)
        # What is in memory was changed and not written; the other plans are restored next time.
        self.plans = None
        with database.begin() as session:
            keep_plans(session, self.holder_id, fence)
            give_plan_up(session, lost.run_id, reason=lost.reason, at=now())
        return 1

    def _answer(self, fence: int) -> int:
        with database.begin() as session:
            if self.plans is None:
                keep_plans(session, self.holder_id, fence)
                self.plans = Plans(session)
                log.info("keeper.took_over", fence=fence, plans=len(self.plans))
                keep_plans(session, self.holder_id, fence)
        with database.begin() as session:
            return self.plans.answer(session, self.holder_id, fence, at=now())


def run(keeper: Keeper, stop: threading.Event) -> None:
    """Keep the plans until told to stop; a lost database is waited for."""
    while not stop.is_set():
        try:
            answered = keeper.turn()
        except (DBAPIError, OSError) as lost:
            log.warning("keeper.step_failed", error=str(lost).splitlines()[0][:200])
            stop.wait(WAIT_S)
            continue
        if answered is None:
            stop.wait(WAIT_S)
        elif answered == 0:
            stop.wait(IDLE_S)


def main() -> None:
    """Run a keeper as a process of its own."""
    settings = in_force.open(read_settings())
    configure_logs(settings.log_level, settings.log_format)
    keyring.open(settings.secret_key)
    database.open(settings.database_url, pool_size=2)
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    gc.freeze()
    log.info("keeper.started")
    keeper = Keeper()
    try:
        run(keeper, stop)
    finally:
        keeper.stop()
        database.close()
    log.info("keeper.stopped")


if __name__ == "__main__":
    main()
