"""The demonstration: a made-up market, loaded once, run through, and left standing."""

import json
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import database, now
from market.earnings.models import Earning
from market.offers.models import Offer
from market.people.actions import make_key, revoke_key
from market.people.models import ApiKey, Membership
from market.people.rules import scopes_of
from market.projects.models import Project
from market.replay.drive import Drive
from market.replay.generate import generate_market
from market.replay.keys import open_here
from market.replay.report import Report, as_table, report_on
from market.supervisor import Market

MARK = "demo.json"
KEY_NAME = "shown by the demo"
KEY_DAYS = 30


def run(
    house: Market, *, seed: int, experts: int, tasks: int, say: Callable[[str], None]
) -> Report:
    """Load and run the market unless it is there, then print addresses, keys and what it did.

    A load that was cut short is begun again: the mark is the last thing that it writes.
    """
    open_here(house.environment)
    script = generate_market(seed, experts=experts, tasks=tasks)
    mark = house.data_dir / MARK
    if mark.exists():
        say("the market of the last time is here")
        project_id = UUID(json.loads(mark.read_text())["project_id"])
        with database.begin() as session:
            report = report_on(session, script, project_id, [])
    else:
        drive = Drive(script, house.addresses, say)
        # What a new house does first by the clock is done before money begins to move.
        drive.settle_queues()
        report = drive.run()
        project_id = drive.project_id
        # Its second project, whose offers nobody has answered: there is something to do.
        fresh_work = generate_market(seed, experts=experts, tasks=max(8, tasks // 10))
        terms = replace(fresh_work.terms, name="Frontier questions, round 2")
        second = Drive(replace(fresh_work, terms=terms), house.addresses, say)
        second.lab_key = drive.lab_key
        second.leave_offers()
        fresh = mark.with_suffix(".new")
        fresh.write_text(json.dumps({"project_id": str(project_id)}))
        fresh.replace(mark)
    with database.begin() as session:
        keys = _fresh_keys(session, project_id)
    print()
    print(as_table(report))
    print()
    print(f"  console       {house.addresses.console}")
    print(f"  API docs      {house.addresses.api_docs}")
    print(f"  target model  {house.addresses.target_model}")
    for part, key in keys.items():
        print(f"  key of {part:<6} {key}")
    print("\n  The console opens with any of these keys. Ctrl-C stops everything.", flush=True)
    return report


def _fresh_keys(session: Session, project_id: UUID) -> dict[str, str]:
    """A new key each for the lab, an expert with pay and offers, and ops; those before end."""
    at = now()
    for old in session.execute(
        select(ApiKey.id, Membership.person_id)
        .join(Membership, Membership.id == ApiKey.membership_id)
        .where(ApiKey.name == KEY_NAME, ApiKey.revoked_at.is_(None))
    ).all():
        revoke_key(session, old.id, person_id=old.person_id, at=at)
    lab = select(Project.organisation_id).where(Project.id == project_id).scalar_subquery()
    offered = (
        select(func.count())
        .select_from(Offer)
        .where(Offer.expert_id == Earning.expert_id, Offer.state == "pending")
        .correlate(Earning)
        .scalar_subquery()
    )
    best = (
        select(Earning.expert_id)
        .where(Earning.project_id == project_id)
        .group_by(Earning.expert_id)
        .order_by(offered.desc(), func.sum(Earning.pay_minor).desc())
        .limit(1)
        .scalar_subquery()
    )
    wanted = {
        Part.LAB: select(Membership).where(Membership.organisation_id == lab),
        Part.EXPERT: select(Membership).where(
            Membership.person_id == best, Membership.part == "expert"
        ),
        Part.OPS: select(Membership).where(Membership.part == "ops"),
    }
    keys = {}
    for part, statement in wanted.items():
        membership = session.scalars(statement.order_by(Membership.id).limit(1)).first()
        if membership is not None:
            _, keys[part.value] = make_key(
                session, membership, name=KEY_NAME, scopes=scopes_of(part), days=KEY_DAYS, at=at
            )
    return keys
