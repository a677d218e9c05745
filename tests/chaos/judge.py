"""What must hold when everything that died is back: each claim counts what breaks it."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from market.books.queries import untrue
from market.moves import unfolded
from market.schedule import TIMETABLE


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim, how many things it was checked on, and how many break it."""

    claim: str
    looked_at: int
    broken: int
    words: str = ""

    @property
    def holds(self) -> bool:
        """Whether nothing breaks it; a claim about nothing at all does not hold."""
        return self.broken == 0 and self.looked_at > 0


COUNTED: tuple[tuple[str, str, str], ...] = (
    (
        "no task has more answers than it wants",
        "select count(*) from market.task",
        """select count(*) from market.task t join market.project p on p.id = t.project_id where
        (select count(*) from market.task_slot s where s.task_id = t.id
            and s.state in ('offered', 'claimed', 'submitted', 'counted')) > p.answers_per_task
        or (select count(*) from market.submission u where u.task_id = t.id
            and u.state not in ('draft', 'rejected', 'rejected_final', 'returned', 'timed_out',
                'screened_out', 'voided')) > p.answers_per_task""",
    ),
    (
        "no seat has two live offers, and no offer two seats",
        "select count(*) from market.offer",
        """select (select count(*) from (select slot_id from market.offer
            where state in ('pending', 'accepted', 'active', 'grace')
            group by slot_id having count(*) > 1) a)
        + (select count(*) from (select offer_id from market.task_slot
            where offer_id is not null group by offer_id having count(*) > 1) b)""",
    ),
    (
        "no offer was handed in twice",
        "select count(*) from market.submission",
        """select count(*) from (select offer_id from market.submission
            group by offer_id having count(*) > 1) a""",
    ),
    (
        "every second of accepted work is earned, once",
        "select count(*) from market.submission where state = 'accepted'",
        """select count(*) from market.submission s where s.state = 'accepted' and
        (select coalesce(sum(e.seconds), 0) from market.earning e
            where e.offer_id = s.offer_id and e.kind = 'hours')
        <> (select coalesce(sum(t.seconds), 0) from market.time_entry t
            where t.offer_id = s.offer_id and t.state <> 'voided')""",
    ),
    (
        "every submission has its reviews",
        "select count(*) from market.submission",
        """select count(*) from market.submission s where not exists (
            select from market.review r where r.submission_id = s.id)""",
    ),
    (
        "every event reached the queues",
        "select count(*) from market.event",
        "select count(*) from market.event where relayed_at is null",
    ),
    (
        "the feed has every event, in one dense sequence",
        "select count(*) from market.event",
        """select count(*) - coalesce(max(platform_seq) - min(platform_seq) + 1, 0)
        + count(*) filter (where platform_seq is null) from market.event""",
    ),
    (
        "each tenant's feed is dense, and in the order of the whole",
        "select count(*) from market.event where organisation_seq is not null",
        """select count(*) from (select organisation_seq - lag(organisation_seq) over (
            partition by organisation_id order by platform_seq) as step
            from market.event where organisation_seq is not null) a where step <> 1""",
    ),
    (
        "every offer that nobody answered in time has ended",
        "select count(*) from market.offer",
        """select count(*) from market.offer where state = 'pending'
        and expires_at < now() - interval '60 seconds'""",
    ),
    (
        "every session whose heartbeats stopped has ended",
        "select count(*) from market.work_session",
        """select count(*) from market.work_session where state = 'running'
        and last_beat_at < now() - interval '5 minutes'""",
    ),
    (
        "no call to the outside is left open",
        "select count(*) from market.attempt",
        """select count(*) from market.attempt where state = 'sent'
        and sent_at < now() - interval '60 seconds'""",
    ),
    (
        "no job died",
        "select count(*) from market.event",
        "select count(*) from market.dead_letter where settled_at is null",
    ),
)


def counted(session: Session) -> list[Finding]:
    """Every claim that one query decides."""
    return [
        Finding(
            claim,
            int(session.scalar(text(all_of_them)) or 0),
            int(session.scalar(text(broken)) or 0),
        )
        for claim, all_of_them, broken in COUNTED
    ]


def histories(session: Session) -> list[Finding]:
    """Whether each machine's moves, one after the other, lead to the state that its row has."""
    faults = [fault.partition(" ")[0] for fault in unfolded(session, limit=10_000)]
    moves = session.execute(
        text("select machine, count(*) from market.state_change group by machine order by machine")
    )
    return [
        Finding(f"history of {machine} folds to its state", count, faults.count(machine))
        for machine, count in moves
    ]


def promised(
    session: Session, claim: str, table: str, states: Iterable[str], ids: Iterable[str]
) -> Finding:
    """Whether everything that a person was told was done is there."""
    wanted = [UUID(hex=one.partition("_")[2]) for one in ids]
    found = session.scalar(
        text(f"select count(*) from market.{table} where id = any(:ids) and state = any(:states)"),
        {"ids": wanted, "states": list(states)},
    )
    return Finding(claim, len(wanted), len(wanted) - int(found or 0))


def fixes(session: Session, reviews: Iterable[str]) -> Finding:
    """Whether each vote with a fix that was confirmed has one fix which stands, the verdict of its
    work, and a credit that is parted as the fix says, and no other fix stands or is left over.

    Where nobody happened to fix anything, it is looked for among all verdicts.
    """
    wanted = [UUID(hex=one.partition("_")[2]) for one in reviews]
    lost, broken, verdicts = session.execute(
        text(
            "select cardinality(cast(:ids as uuid[])) - (select count(*)"
            "   from market.submission_fix f where f.review_id = any(:ids)),"
            " (select count(*) from market.submission_fix f"
            "   left join market.verdict v on v.submission_id = f.submission_id and v.is_accepted"
            "   left join market.item_credit c on c.submission_id = f.submission_id"
            "   where f.state <> 'standing' or v.submission_id is null"
            "     or c.edited_share is distinct from f.edited_share)"
            " + (select count(*) from market.item_credit c where c.edited_share > 0 and not exists"
            "   (select from market.submission_fix f where f.submission_id = c.submission_id)),"
            " (select count(*) from market.verdict)"
        ),
        {"ids": wanted},
    ).one()
    claim = "every fix stands once, with one verdict and the credit parted"
    return Finding(claim, len(wanted) or verdicts, lost + broken)


def timers(session: Session) -> Finding:
    """Whether every job of the clock that comes by the minute was fired within the last two."""
    late = 0
    frequent = [entry for entry in TIMETABLE if entry.every.total_seconds() <= 60]
    for entry in frequent:
        is_there = session.scalar(
            text(
                "select count(*) from market.schedule_slot"
                " where name = :name and slot > now() - interval '2 minutes'"
            ),
            {"name": entry.job.name},
        )
        late += not is_there
    return Finding("every timer of the minute has fired", len(frequent), late)


def money(session: Session) -> Finding:
    """Whether money and time keep every rule that they have."""
    entries = session.scalar(text("select count(*) from payouts.journal_entry"))
    broken = untrue(session)
    words = ", ".join(sorted({violation.invariant for violation in broken}))
    return Finding("every rule of money and time holds", int(entries or 0), len(broken), words)
