"""What the people of a market do with their own hands, by the actions behind the API."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from market.attempts.actions import make_attempt
from market.db import database, now
from market.heartbeats.actions import beat
from market.offers.actions import accept_offer
from market.payees.actions import become_payee
from market.replay.rows import email_of
from market.replay.script import AttemptLine, ExpertLine
from market.settings import in_force
from market.work.actions import end_session, start_session

BEAT_S = 60


@dataclass(slots=True)
class Journey:
    """One attempt on its way: what the market said would happen, and the rows that it became."""

    line: AttemptLine
    offer_id: UUID
    expert_id: UUID
    attempt_id: UUID


def work_once(line: AttemptLine, offer_id: UUID, expert_id: UUID) -> Journey:
    """Accept, start the clock, prove every half minute, ask the model, stop the clock."""
    sent = line.sent_at.replace(microsecond=0)
    begins = sent - timedelta(seconds=line.active_s)
    with database.begin() as session:
        accept_offer(session, offer_id, expert_id=expert_id, at=now())
        running = start_session(session, offer_id, expert_id=expert_id, at=begins)
        session_id = running.id
        moments = [begins + timedelta(seconds=s) for s in range(BEAT_S, line.active_s, BEAT_S)]
        for seq, at in enumerate([*moments, sent], 1):
            beat(session, session_id, expert_id=expert_id, seq=seq, is_active=True, at=at)
        attempt = make_attempt(
            session,
            offer_id,
            expert_id=expert_id,
            prompt=line.prompt,
            reference="The answer is wrong where it matters.",
            at=sent,
        )
        end_session(session, session_id, expert_id=expert_id, at=sent)
        return Journey(line, offer_id, expert_id, attempt.id)


def set_up_payees(
    owed: Iterable[UUID], lines: Sequence[ExpertLine], names: Mapping[UUID, str]
) -> None:
    """Say where each expert is paid; the payment provider's accounts are made by jobs.

    Whoever lives where nobody can be paid has a bank in the United States.
    """
    reached = in_force.settings.payout_countries.split()
    countries = {line.expert: line.country if line.country in reached else "US" for line in lines}
    for expert_id in owed:
        name = names[expert_id]
        with database.begin() as session:
            become_payee(
                session,
                expert_id=expert_id,
                country=countries[name],
                email=email_of(name),
                at=now(),
            )
