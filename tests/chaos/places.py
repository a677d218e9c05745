"""People who ask to be taken on, and the places that ops open one by one, under chaos.

The field has work and nobody in it, so that the sum set aside for promises is what runs short: each
published sum is for one person more. The jobs of the queue are rung far more often than the clock
would ring them, so that several workers go through it at once, and some of them are killed in it.
"""

import contextlib
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from market.admissions.jobs import admit_waiting, follow_admissions
from market.broker import connection_losses, message_for, open_broker
from market.db import new_id
from market.replay.script import ExpertLine, TaskLine
from market.settings import Settings
from tests.chaos.judge import Finding
from tests.chaos.people import Person, Refused, Tally

FIELD = "history.science"
FEE = 1_000
"""What each is promised. Units: minor units."""

TASK_S = 3_600
WHY = "One more place is opened in this field, because its work waits for hands."

CLAIMS = (
    "every application that was confirmed is there, and nobody was admitted twice",
    "promises are what was set aside: each the sum in force, all of them no more, no place left",
    "nobody who asked earlier was overtaken",
)

PROMISED = """
    with open as (
        select a.*, (select count(*) from market.state_change c where c.subject_id = a.id
            and c.machine = 'admission' and c.action = 'admit') as times
        from market.admission a
    ), held as (
        select count(*) as people, coalesce(sum(guarantee_minor), 0) as minor from open
        where state in ('admitted', 'onboarded')
    ), aside as (
        select coalesce((select budget_minor from market.admission_terms
            order by starts_at desc, id desc limit 1), 0) as minor
    )
    select (select count(*) from open),
        cardinality(cast(:ids as uuid[])) - (select count(*) from open where id = any(:ids))
        + (select count(*) from open where times > 1 or (times = 1) <> (decided_at is not null))
        + (select count(*) from (select from market.qualification q where q.domain = :field
            and q.state = 'invited' group by q.person_id having count(*) > 1) twice),
        held.people,
        (select count(*) from open where decided_at is not null and guarantee_minor <> :fee)
        + (held.minor > aside.minor)::int
        + (held.minor + :fee <= aside.minor
            and exists (select from open where state = 'waiting'))::int
    from held, aside
    """

# Of two in the queue, the later one was admitted while the earlier one waited. By the order of the
# moves' ids: one admission follows the other under a lock, so that their times differ.
OVERTAKEN = """
    with way as (
        select a.id,
            min(c.id::text) filter (where c.action = 'admit') as admitted,
            min(c.id::text) filter (where c.action in ('admit', 'leave')) as over
        from market.admission a left join market.state_change c
            on c.subject_id = a.id and c.machine = 'admission'
        group by a.id
    )
    select count(*) from way later join way earlier on earlier.id < later.id
    where later.admitted is not null
        and (earlier.over is null or earlier.over > later.admitted)
    """


def work_for(applicants: Sequence[ExpertLine], answers: int) -> list[TaskLine]:
    """Tasks of the field with hours for everybody who may ask, twice over."""
    hours = 2 * sum(one.weekly_hours for one in applicants)
    return [
        TaskLine(
            task=f"history-{number:05d}",
            domain=FIELD,
            instructions="Say what the record leaves out, and how one would know.",
            expected_s=TASK_S,
        )
        for number in range(hours // answers + 1)
    ]


class Applicant(Person):
    """Asks to be taken on; now and then takes it back while it waits, and asks again."""

    def act(self) -> bool:
        """Look where it stands, and ask where nothing is asked."""
        mine = self.call("GET", "/v1/admissions")["items"]
        held = [one for one in mine if one["state"] in ("waiting", "admitted", "onboarded")]
        if not held:
            made = self.call("POST", "/v1/admissions", {"domain": FIELD})
            with self.tally.lock:
                self.tally.admissions.add(made["id"])
            return True
        if held[0]["state"] == "waiting" and self.draw.random() < 0.1:
            with contextlib.suppress(Refused):
                self.call("POST", f"/v1/admissions/{held[0]['id']}/leave")
                self.tally.count("applications taken back")
                return True
        return False


class Doorkeeper(Person):
    """Someone of ops who sets more aside, until two in three have a place, and rings the queue."""

    def __init__(
        self, url: str, key: str, tally: Tally, seed: str, *, places: int, settings: Settings
    ) -> None:
        super().__init__(url, key, tally, seed)
        self._places = places
        self._settings = settings
        self._opened = 0

    def act(self) -> bool:
        """One place more, and a ring."""
        if self._opened < self._places:
            terms = {
                "load": 1.0,
                "horizon_d": 7,
                "within_d": 14,
                "guarantee_s": 0,
                "fee_minor": FEE,
                "budget_minor": FEE * (self._opened + 1),
                "pass_score": 70,
                "note": WHY,
            }
            self.call("POST", "/v1/admission-terms", terms)
            self._opened += 1
            self.tally.count("places opened")
        # A broker that is away may not even be let go of.
        with contextlib.suppress(*connection_losses(self._settings)):
            ring(self._settings)
        return False


def ring(settings: Settings) -> None:
    """Queue what the clock queues for admissions.

    Raises:
        BrokerAway.
    """
    broker = open_broker(settings)
    try:
        for job in (admit_waiting, follow_admissions, admit_waiting):
            broker.enqueue(message_for(job, str(new_id()), str(new_id())))
    finally:
        broker.close()


def admitted(session: Session, tally: Tally) -> list[Finding]:
    """Whether each was admitted once and in turn, and promised what was set aside."""
    with tally.lock:
        ids = [UUID(hex=one.partition("_")[2]) for one in tally.admissions]
    asked, lost, people, wrong = session.execute(
        text(PROMISED), {"ids": ids, "field": FIELD, "fee": FEE}
    ).one()
    overtaken = int(session.scalar(text(OVERTAKEN)) or 0)
    words = f"{people} of {asked} applications have a place"
    once, promises, in_turn = CLAIMS
    return [
        Finding(once, asked, lost),
        Finding(promises, people, wrong, words),
        Finding(in_turn, people, overtaken),
    ]
