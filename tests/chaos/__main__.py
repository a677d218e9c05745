"""`python -m tests.chaos`: a market over HTTP, while everything that serves it is killed at random.

Two web processes, two relays (which are the schedulers too), a courier, three workers, a solver,
PostgreSQL and, where it is another server, the broker: one of them gets SIGKILL every few seconds,
and is started again. Then the killing ends, what is under way is let end, and the rows are judged.
The exit code is nought when every claim holds.
"""

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from market.admissions.jobs import admit_in_turn
from market.auth import Part
from market.broker import queue_depth_rows
from market.db import database, now
from market.inbox.queries import Feedback, feedback
from market.people.actions import grant_part, make_key, sign_up
from market.people.models import Membership
from market.people.rules import scopes_of
from market.replay.drive import Drive
from market.replay.generate import generate_market
from market.replay.keys import open_here
from market.settings import in_force
from market.submissions.rules import SUBMISSION
from market.supervisor import Market
from tests.chaos.judge import Finding, counted, fixes, histories, money, promised, timers
from tests.chaos.people import Expert, Matcher, Person, Reviewer, Tally
from tests.chaos.places import FIELD, Applicant, Doorkeeper, admitted, work_for
from tests.chaos.servers import SERVERS, BrokerServer

REVIEWERS = 3
ANSWERS = 2
"""How many are wanted for each task."""

CALM_S = 240.0
"""How long everything may take to come to rest once nothing is killed any more."""

APPLICANTS = 24
"""How many ask to be taken on at most, of the experts who are not at work."""

TTL_S = 60
CHURN_A_S = 10
"""Offers wait a minute, or longer in a larger market, where most are never answered and are made to
another expert at their end: so many of them end in a second, however many seats there are.
"""

QUIET_S = 3.0


def say(line: str) -> None:
    """One line of progress, on standard error."""
    print(f"  {line}", file=sys.stderr, flush=True)


class Killer:
    """Kills one thing after another, and starts the broker again; the house restarts the rest."""

    def __init__(
        self, house: Market, broker: BrokerServer | None, *, every_s: float, seed: int
    ) -> None:
        self._house, self._broker = house, broker
        self._every_s = every_s
        self._draw = Random(seed)
        self.killed: Counter[str] = Counter()

    def run_until(self, end: float) -> None:
        """Kill until the time has come, by the monotonic clock."""
        while time.monotonic() < end:
            time.sleep(self._draw.uniform(0.5, 1.5) * self._every_s)
            pids = self._house.pids
            kinds = sorted({name.partition("-")[0] for name in pids if "stand-in" not in name})
            kind = self._draw.choice([*kinds, *(["broker"] if self._broker else [])])
            if kind == "broker" and self._broker is not None:
                self._broker.kill()
                time.sleep(self._draw.uniform(0.2, 2.0))
                self._broker.start()
            else:
                name = self._draw.choice(sorted(n for n in pids if n.partition("-")[0] == kind))
                with suppress(ProcessLookupError):
                    os.kill(pids[name], signal.SIGKILL)
            self.killed[kind] += 1


def keys_of(part: Part) -> list[str]:
    """A key for each person who plays a part."""
    with database.begin() as session:
        found = session.scalars(select(Membership).where(Membership.part == part.value)).all()
        return [
            make_key(session, one, name="chaos", scopes=scopes_of(part), days=1, at=now())[1]
            for one in found
        ]


def bring_reviewers() -> None:
    """Some people who review."""
    for number in range(REVIEWERS):
        with database.begin() as session:
            email = f"chaos.reviewer.{number}@people.example"
            joined = sign_up(
                session, part=Part.REVIEWER, name=f"Reviewer {number}", email=email, at=now()
            )
            grant_part(session, joined.person.id, Part.REVIEWER, organisation_id=None, at=now())


def is_quiet() -> bool:
    """Whether nothing waits in the outbox, in the embedded queue, or for an answer of the model."""
    with database.begin() as session:
        depths = queue_depth_rows(session) or {}
        waiting = session.scalar(
            text(
                "select (select count(*) from market.event where relayed_at is null)"
                " + (select count(*) from market.attempt where state = 'sent')"
                " + (select count(*) from market.submission s where not exists"
                "    (select from market.review r where r.submission_id = s.id))"
            )
        )
        return not waiting and not sum(depths.values())


def come_to_rest() -> float:
    """Wait until nothing is left to do; how long that took."""
    began = time.monotonic()
    quiet_since: float | None = None
    while time.monotonic() - began < CALM_S:
        try:
            quiet = is_quiet()
        except DBAPIError:
            quiet = False
        if not quiet:
            quiet_since = None
        elif quiet_since is None:
            quiet_since = time.monotonic()
        elif time.monotonic() - quiet_since > QUIET_S:
            break
        time.sleep(0.25)
    return time.monotonic() - began


def settle_in(calm_s: float, tally: Tally) -> None:
    """Let people work on in peace: so long, and until something was handed in and voted upon, so
    that there is something to judge however slow the machine is.
    """
    began = time.monotonic()
    while (passed := time.monotonic() - began) < CALM_S:
        if passed >= calm_s and tally.votes:
            return
        time.sleep(0.25)


def judge(tally: Tally) -> list[Finding]:
    """Every claim, in the order of the table."""
    # Once more in peace, as the clock will do within minutes: the last ring may have been lost.
    admit_in_turn(at=now())
    handed_in = set(SUBMISSION.states) - {"draft", "returned", "timed_out", "screened_out"}
    with database.begin() as session:
        return [
            *counted(session),
            promised(
                session,
                "every submission that was confirmed is there",
                "submission",
                handed_in,
                tally.submissions,
            ),
            promised(
                session,
                "every vote that was confirmed is there",
                "review",
                {"voted", "agreed", "conflict", "adjudicating", "final", "overturned"},
                tally.votes,
            ),
            fixes(session, tally.fixes),
            *admitted(session, tally),
            timers(session),
            *histories(session),
            money(session),
        ]


def chaos(options: argparse.Namespace, name: str) -> bool:
    """One market on one broker; whether every claim held."""
    tally = Tally()
    with ExitStack() as everything:
        folder = options.data and options.data.absolute() / name
        if folder is None:
            passing = tempfile.TemporaryDirectory(prefix="chaos-")
            folder = Path(everything.enter_context(passing))
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)
        broker = None
        if name != "postgres":
            broker = everything.enter_context(SERVERS[name](folder / "broker"))
        settings = {
            "STUMPWORK_BROKER_URL": broker.url if broker else "postgres",
            "STUMPWORK_WORKER_THREADS": "2",
        }
        house = Market(
            folder / "house",
            webs=2,
            relays=2,
            couriers=1,
            workers=3,
            solvers=1,
            instant_onboarding=True,
            steady_s=0.0,
            environ=os.environ | settings,
        )
        everything.enter_context(house.start(say))
        open_here(house.environment)
        script = generate_market(options.seed, experts=options.experts, tasks=options.tasks)
        applicants = script.experts[options.at_once :][:APPLICANTS]
        rooms = work_for(applicants, ANSWERS)
        terms = replace(
            script.terms,
            domains=(*script.terms.domains, FIELD),
            answers_per_task=ANSWERS,
            reviews=1,
            offer_ttl_s=max(TTL_S, options.tasks * ANSWERS // CHURN_A_S),
            work_ttl_s=3600,
        )
        script = replace(script, terms=terms, tasks=[*script.tasks, *rooms])
        drive = Drive(script, house.addresses, say)
        drive.bring_all()
        bring_reviewers()
        url = house.addresses.web
        people: list[Person] = [
            Matcher(url, drive.ops_key, tally, "ops", f"prj_{drive.project_id.hex}")
        ]
        experts = keys_of(Part.EXPERT)
        asking = experts[options.at_once :][: len(applicants)]
        for kind, keys in (
            (Expert, experts[: options.at_once]),
            (Reviewer, keys_of(Part.REVIEWER)[: options.at_once]),
            (Applicant, asking),
        ):
            people += [
                kind(url, key, tally, f"{options.seed} {kind.__name__} {number}")
                for number, key in enumerate(keys)
            ]
        first, doorkeeper = (
            Doorkeeper(url, drive.ops_key, tally, name, places=places, settings=in_force.settings)
            for name, places in (("first", 1), ("doorkeeper", len(asking) * 2 // 3))
        )
        # Before anybody asks: who is admitted under the terms of the house has another promise.
        first.act_once()
        people.append(doorkeeper)
        stop = threading.Event()
        threads = [
            threading.Thread(target=person.live, args=(stop,), daemon=True) for person in people
        ]
        for thread in threads:
            thread.start()
        killer = Killer(house, broker, every_s=options.every, seed=options.seed)
        say(f"{len(people)} people at work; killing for {options.seconds} s")
        killer.run_until(time.monotonic() + options.seconds)
        say("nothing is killed any more")
        settle_in(options.calm, tally)
        stop.set()
        for thread in threads:
            thread.join(60)
        rested_s = come_to_rest()
        moves, loop = 0, None
        try:
            findings = judge(tally)
            with database.begin() as session:
                moves = session.scalar(text("select count(*) from market.state_change")) or 0
                loop = feedback(session, None, since=now() - timedelta(days=1))
        except DBAPIError as lost:
            findings = [Finding("the house came back", 1, 1, str(lost.orig).splitlines()[0])]
        database.close()
    print(table(name, options, findings, killer.killed, tally, rested_s, moves, loop))
    return all(finding.holds for finding in findings)


def table(
    name: str,
    options: argparse.Namespace,
    findings: list[Finding],
    killed: Counter[str],
    tally: Tally,
    rested_s: float,
    moves: int,
    loop: Feedback | None,
) -> str:
    """What was done, what was killed, and what held."""
    title = (
        f"chaos on {name}: {options.experts} experts, {options.tasks} tasks, seed {options.seed},"
        f" {options.seconds} s, one killed every {options.every:g} s"
    )
    deaths = ", ".join(f"{kind} {count}" for kind, count in sorted(killed.items()))
    lines = [
        title,
        "=" * len(title),
        f"  killed {killed.total()} times: {deaths}",
        f"  moves of state {moves}; at rest {rested_s:.1f} s after the last call",
        f"  confirmed: {len(tally.submissions)} submissions, {len(tally.votes)} votes,"
        f" {len(tally.fixes)} of them with a fix, {len(tally.admissions)} applications",
        f"  from hand-in to the verdict in the author's feed: {_spans(loop)}",
        "",
    ]
    lines += [f"  {count:>8}  {what}" for what, count in sorted(tally.counts.items())]
    lines.append("")
    for finding in findings:
        mark = "holds " if finding.holds else "BROKEN"
        lines.append(
            f"  {mark} {finding.broken:>5} of {finding.looked_at:<7} {finding.claim}"
            + (f" ({finding.words})" if finding.words else "")
        )
    return "\n".join(lines) + "\n"


def _spans(loop: Feedback | None) -> str:
    if loop is None or loop.decided_s is None or loop.told_s is None:
        return "nothing was decided"
    (decided, decided_95), (told, told_95) = loop.decided_s, loop.told_s
    return (
        f"p50 {told:.2f} s, p95 {told_95:.2f} s of {loop.verdicts}"
        f" (decided: {decided:.2f} s, {decided_95:.2f} s)"
    )


def main(argv: list[str]) -> int:
    """Run on one broker or on all that this machine has; `money` names the other suite."""
    if argv[:1] == ["money"]:
        # Its processes hold the house to themselves, so it is imported only when it is run.
        from tests.chaos.money import main as money_main

        return money_main(argv[1:])
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--broker", choices=("postgres", "redis", "rabbitmq", "all"), default="all")
    parser.add_argument("--experts", type=int, default=40)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=12, help="experts at work (%(default)s)")
    parser.add_argument("--seconds", type=int, default=60, help="of killing (%(default)s)")
    parser.add_argument("--calm", type=int, default=15, help="seconds of work after it, at least")
    parser.add_argument("--every", type=float, default=4.0, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, default=None, help="keep databases and logs here")
    options = parser.parse_args(argv)
    wanted = ["postgres", *SERVERS] if options.broker == "all" else [options.broker]
    held = True
    for name in wanted:
        if name != "postgres" and not SERVERS[name].is_here():
            print(f"chaos on {name}: not run, since this machine has no server of it")
            continue
        held = chaos(options, name) and held
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
