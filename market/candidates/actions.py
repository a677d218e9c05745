"""How chosen pairs become offers, as far as seats, experts and money are still there."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np
from sqlalchemy import ARRAY, Uuid, bindparam, func, insert, select, text
from sqlalchemy.orm import Session

from market.availability.queries import calendars_of
from market.availability.rules import Calendar, not_due_before, room_s
from market.candidates.rules import Candidates, ProjectFacts, id_at, worst_costs
from market.db import new_id
from market.events import Event, EventRow, StateChange
from market.experiments.actions import Touched, expose
from market.experiments.queries import arms_for
from market.experiments.rules import SHOWN_WITH_TASK
from market.experts.queries import tiers_of
from market.explanations.rules import why_chosen
from market.offers.models import Offer
from market.offers.queries import live_seconds, room_of, taken_pairs
from market.offers.rules import LIVE, OFFER, RECORDING, Terms, reservation_key, terms_digest
from market.projects.models import Project
from market.tasks.models import Task
from market.tasks.rules import SLOT
from payouts.chart import owed_to, platform_fee, project_budget
from payouts.ledger import Line
from payouts.pay import pay_minor
from payouts.reservations import Reservation, reserve_many

_RECORD_ONE_AT_A_TIME = text("select pg_advisory_xact_lock(hashtextextended(:name, 7))")

_FREE_SLOTS = text(
    """
    select s.id, s.task_id from market.task_slot s
    join market.task t on t.id = s.task_id and t.state in ('queued', 'active')
    join market.project p on p.id = t.project_id and p.state = 'live'
    where s.task_id = any(:tasks) and s.state = 'open'
    order by s.task_id, s.number for no key update of s skip locked
    """
).bindparams(bindparam("tasks", type_=ARRAY(Uuid())))

_PROMISE_SLOTS = text(
    """
    update market.task_slot s
    set state = 'offered', offer_id = v.offer_id, version = s.version + 1
    from unnest(:slots, :offers) as v (slot_id, offer_id) where s.id = v.slot_id
    returning s.id
    """
).bindparams(bindparam("slots", type_=ARRAY(Uuid())), bindparam("offers", type_=ARRAY(Uuid())))


@dataclass(frozen=True, slots=True)
class Pick:
    """A pair that was chosen, by its number among the candidates, and what it won by.

    Units: value, prices and margin in units of value; probability from 0 to 1.
    """

    pair: int
    value: float
    parts: Mapping[str, Mapping[str, float | str]]
    probability: float
    task_price: float
    expert_price: float
    margin: float


def offer_picks(
    session: Session,
    run_id: UUID,
    seen: Candidates,
    picks: Sequence[Pick],
    left: Counter[tuple[int, str]],
    *,
    at: datetime,
) -> list[Offer]:
    """Offer picks to their experts, the most valuable first; what stands in the way of the others
    is counted in `left` under task and rule.

    Offers are made by one transaction at a time, so that what two chose together breaks no limit of
    an expert.
    """
    session.execute(_RECORD_ONE_AT_A_TIME, {"name": RECORDING})
    drafts = _drafts(session, seen, picks, left, at=at)
    made = _reserved(session, run_id, seen, drafts, left, at=at) if drafts else []
    make_offers(session, made, at=at)
    return made


@dataclass(frozen=True, slots=True)
class _Draft:
    """A pick and the slot that it gets."""

    pick: Pick
    task: int
    task_id: UUID
    expert_id: UUID
    slot_id: UUID
    project: ProjectFacts
    calendar: Calendar | None


def _drafts(
    session: Session,
    seen: Candidates,
    picks: Sequence[Pick],
    left: Counter[tuple[int, str]],
    *,
    at: datetime,
) -> list[_Draft]:
    found = [
        (pick, int(seen.pair_task[pick.pair]), int(seen.pair_expert[pick.pair])) for pick in picks
    ]
    task_id = {task: id_at(seen.task_ids, task) for _, task, _ in found}
    expert_id = {expert: id_at(seen.expert_ids, expert) for _, _, expert in found}
    free: dict[UUID, list[UUID]] = {}
    for row in session.execute(_FREE_SLOTS, {"tasks": list(task_id.values())}):
        free.setdefault(row.task_id, []).append(row.id)
    room = room_of(session, list(expert_id.values()), at=at)
    taken = taken_pairs(session, list(task_id.values()))
    calendars = calendars_of(session, list(expert_id.values()))
    held = live_seconds(session, list(calendars))
    drafts = []
    for pick, task, expert in found:
        who, what = expert_id[expert], task_id[task]
        seconds = int(seen.task_expected_s[task])
        seats, time_s = room.get(who, (0, 0))
        if not free.get(what) or seats < 1 or time_s < seconds or (what, who) in taken:
            left[task, "taken"] += 1
            continue
        facts = seen.projects[int(seen.task_project[task])]
        calendar = calendars.get(who)
        if calendar is not None:
            # Its hours may have changed since the run looked, or some of them have passed.
            open_s = room_s(
                calendar, at, offer_ttl_s=facts.offer_ttl_s, work_ttl_s=facts.work_ttl_s
            )
            if open_s < held.get(who, 0) + seconds:
                left[task, "hours"] += 1
                continue
            held[who] = held.get(who, 0) + seconds
        room[who] = (seats - 1, time_s - seconds)
        slot = free[what].pop(0)
        drafts.append(_Draft(pick, task, what, who, slot, facts, calendar))
    return drafts


def _reserved(
    session: Session,
    run_id: UUID,
    seen: Candidates,
    drafts: Sequence[_Draft],
    left: Counter[tuple[int, str]],
    *,
    at: datetime,
) -> list[Offer]:
    told = _Told(session, seen, drafts, at=at)
    rate, top = seen.pair_rates()
    # More could be promised than is reserved, where a lab has changed what it pays since the run
    # looked; the next run offers it.
    projects = {draft.project.id: draft.project for draft in drafts}
    as_seen = {one for one, facts in projects.items() if told.pays_as_seen(facts)}
    left.update((draft.task, "terms") for draft in drafts if draft.project.id not in as_seen)
    drafts = [draft for draft in drafts if draft.project.id in as_seen]
    if not drafts:
        return []
    # The most valuable first, so that a budget that falls short goes to them.
    ranked = sorted(drafts, key=lambda draft: (-draft.pick.value, draft.pick.pair))
    pairs = np.array([draft.pick.pair for draft in ranked])
    seats = np.arange(len(ranked))
    most_pay, most_fee = worst_costs([draft.project for draft in ranked], seats, top[pairs])
    costs = list(zip(most_pay.tolist(), most_fee.tolist(), strict=True))
    ids = [new_id() for _ in ranked]
    wanted = []
    for draft, offer_id, (pay, fee) in zip(ranked, ids, costs, strict=True):
        facts = draft.project
        escrow = project_budget(facts.id, facts.organisation_id, facts.currency)
        lines = [Line(escrow, owed_to(draft.expert_id, facts.currency), pay)]
        if fee:
            lines.append(Line(escrow, platform_fee(facts.currency), fee))
        wanted.append(Reservation(reservation_key(offer_id), "J3", tuple(lines), "offer"))
    granted = reserve_many(session, wanted, at=at)
    offers = []
    for draft, offer_id, (pay, fee) in zip(ranked, ids, costs, strict=True):
        if reservation_key(offer_id) not in granted:
            left[draft.task, "budget"] += 1
            continue
        facts, pick = draft.project, draft.pick
        terms = told.terms(draft, int(rate[pick.pair]), int(top[pick.pair]), at=at).to_dict()
        parts = {name: dict(part) for name, part in pick.parts.items()}
        offers.append(
            Offer(
                id=offer_id,
                organisation_id=facts.organisation_id,
                project_id=facts.id,
                task_id=draft.task_id,
                slot_id=draft.slot_id,
                expert_id=draft.expert_id,
                run_id=run_id,
                value=pick.value,
                parts=parts,
                explanation=why_chosen(pick.value, parts, pick.margin),
                probability=pick.probability,
                task_price=pick.task_price,
                expert_price=pick.expert_price,
                terms=terms,
                terms_digest=terms_digest(terms),
                currency=facts.currency,
                expected_s=int(seen.task_expected_s[draft.task]),
                reserved_minor=pay + fee,
                created_at=at,
                expires_at=at + timedelta(seconds=facts.offer_ttl_s),
            )
        )
    return offers


class _Told:
    """What terms say beside the pair itself, read once for all drafts."""

    def __init__(
        self, session: Session, seen: Candidates, drafts: Sequence[_Draft], *, at: datetime
    ) -> None:
        self._seen = seen
        projects = {draft.project.id for draft in drafts}
        experts = list({draft.expert_id for draft in drafts})
        self._projects = {
            row.id: row for row in session.scalars(select(Project).where(Project.id.in_(projects)))
        }
        tasks = {draft.task_id for draft in drafts}
        named = session.execute(select(Task.id, Task.domain).where(Task.id.in_(tasks)))
        self._domains = {row.id: row.domain for row in named}
        self._tiers = tiers_of(session, experts, at)
        self._week = {
            (who, currency): (int(seconds), int(pay))
            for who, currency, seconds, pay in session.execute(
                select(
                    Offer.expert_id,
                    Offer.currency,
                    func.sum(Offer.expected_s),
                    func.sum(Offer.terms["expected_pay_minor"].as_integer()),
                )
                .where(Offer.expert_id.in_(experts), Offer.state.in_(LIVE))
                .group_by(Offer.expert_id, Offer.currency)
            )
        }
        pairs = sorted({(draft.expert_id, draft.project.id) for draft in drafts})
        arms = arms_for(session, pairs, SHOWN_WITH_TASK, at=at)
        self._arms = dict(zip(pairs, arms, strict=True))
        self._open = Counter[UUID]()
        for at_project, seats in zip(
            seen.task_project.tolist(), seen.task_seats.tolist(), strict=True
        ):
            self._open[seen.projects[at_project].id] += seats

    def pays_as_seen(self, facts: ProjectFacts) -> bool:
        """Whether a project pays now what it did when the run looked, and what is reserved for."""
        named = self._projects[facts.id]
        return facts == facts.paying(
            deliverable_minor=named.deliverable_minor,
            attempt_fee_minor=named.attempt_fee_minor,
            attempt_fees_max=named.attempt_fees_max,
            impact_bonus_minor=named.impact_bonus_minor,
            overtime_basis_points=named.overtime_basis_points,
        )

    def terms(self, draft: _Draft, rate: int, top: int, *, at: datetime) -> Terms:
        """The terms of one offer, whose rate may rise to `top`; its expert's week grows by it."""
        facts, named = draft.project, self._projects[draft.project.id]
        arms = (*facts.trials, *self._arms[draft.expert_id, facts.id])
        expected_s = int(self._seen.task_expected_s[draft.task])
        expected_pay = pay_minor(min(expected_s, facts.cap_s), rate)
        week = (draft.expert_id, facts.currency)
        seconds, pay = self._week.get(week, (0, 0))
        self._week[week] = (seconds + expected_s, pay + expected_pay)
        of_tier = facts.rate_minor_per_hour is None
        floor = draft.calendar and not_due_before(
            draft.calendar,
            at,
            offer_ttl_s=facts.offer_ttl_s,
            work_ttl_s=facts.work_ttl_s,
            expected_s=expected_s,
        )
        return Terms(
            project_id=str(named.id),
            project_name=named.name,
            project_version=named.version,
            round=named.round,
            domain=self._domains[draft.task_id],
            complexity=int(self._seen.task_complexity[draft.task]),
            currency=facts.currency,
            rate_minor_per_hour=rate,
            rate_from="tier" if of_tier else "project",
            tier=self._tiers.get(draft.expert_id) if of_tier else None,
            cap_s=facts.cap_s,
            fee_basis_points=facts.fee_basis_points,
            expected_s=expected_s,
            expected_pay_minor=expected_pay,
            most_pay_minor=facts.most_pay(top),
            expected_week_s=seconds + expected_s,
            expected_week_pay_minor=pay + expected_pay,
            open_seats=self._open[named.id],
            review_within_s=named.review_ttl_s,
            reviews_per_submission=named.reviews_per_submission,
            work_ttl_s=facts.work_ttl_s,
            binding_at=at.isoformat(),
            pay_basis="deliverable" if facts.tops_up else "hourly",
            deliverable_minor=named.deliverable_minor and facts.raised(named.deliverable_minor),
            attempt_fee_minor=named.attempt_fee_minor and facts.raised(named.attempt_fee_minor),
            attempt_fees_max=named.attempt_fees_max,
            impact_bonus_minor=named.impact_bonus_minor and facts.raised(named.impact_bonus_minor),
            weekly_cap_s=named.weekly_cap_s,
            overtime_after_s=named.overtime_after_s,
            overtime_basis_points=named.overtime_basis_points,
            not_due_before=floor.isoformat() if floor else None,
            draft_field=named.draft_field,
            passes_drafts=named.passes_drafts,
            trials=tuple(one.told() for one in arms),
        )


def make_offers(session: Session, offers: Sequence[Offer], *, at: datetime) -> None:
    """Put chosen pairs to their experts: offers, slots, history and events, in a few statements.

    The caller holds the open slots locked and has reserved each offer's money.
    """
    if not offers:
        return
    session.add_all(offers)
    session.flush()
    slots = session.execute(
        _PROMISE_SLOTS,
        {"slots": [one.slot_id for one in offers], "offers": [one.id for one in offers]},
    ).scalars()
    if len(list(slots)) != len(offers):
        raise RuntimeError("an offer was made for a slot that is not there")
    touched = [
        Touched(one.id, one.expert_id, one.project_id, one.run_id, one.terms.get("trials") or ())
        for one in offers
    ]
    expose(session, touched, at=at)
    told = {one.id: new_id() for one in offers}
    cause = session.info.get("cause")
    session.execute(
        insert(EventRow),
        [
            {
                "id": told[one.id],
                "type": Event.OFFER_CREATED.value,
                "subject_id": one.id,
                "at": at,
                "organisation_id": one.organisation_id,
                "person_id": one.expert_id,
                "cause": cause,
                "data": {},
            }
            for one in offers
        ],
    )
    session.execute(
        insert(StateChange),
        [
            {
                "id": new_id(),
                "machine": machine,
                "subject_id": subject,
                "from_state": before,
                "to_state": after,
                "action": action,
                "at": at,
                "event_id": told[one.id] if subject == one.id else None,
            }
            for one in offers
            for machine, subject, before, after, action in (
                (OFFER.name, one.id, "", "pending", "create"),
                (SLOT.name, one.slot_id, "open", "offered", "offer"),
            )
        ],
    )
