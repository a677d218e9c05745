"""`stumpwork`: the whole service on one machine, and its jobs from the command line.

Everything a command needs is imported inside it, so that `stumpwork --help` answers at once.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from market.errors import MarketError

if TYPE_CHECKING:
    from market.supervisor import Market

HOME = Path(".stumpwork")
DEFAULT_PORT = 8000


class CommandRefused(MarketError):
    """A command that cannot be carried out; its text is the one line that the caller reads."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns the exit code: 0 done, 1 refused or found wanting, 2 called wrongly, 130 interrupted.
    """
    parser = arguments()
    options = parser.parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.command
    from market.cluster import StartRefused

    try:
        return command(options)
    except (MarketError, StartRefused) as refusal:
        print(f"stumpwork: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone, which is its right.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stumpwork", description=__doc__.split("\n", 1)[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="run everything on this machine and stay up")
    _house_options(up)
    up.set_defaults(command=run_up)

    demo = commands.add_parser("demo", help="run everything with a made-up market in it")
    _house_options(demo)
    _market_options(demo)
    demo.set_defaults(command=run_demo)

    replay = commands.add_parser(
        "replay", help="send a recorded market through the service and report"
    )
    replay.add_argument("folder", nargs="?", type=Path, help="see docs/replay.md; none: made up")
    replay.add_argument("--json", action="store_true", help="print the report as JSON")
    replay.add_argument("--data", type=Path, default=None, help="keep the data in this folder")
    _market_options(replay)
    replay.set_defaults(command=run_replay)

    match = commands.add_parser("match", help="ask a running service for a matching run")
    _client_options(match)
    match.add_argument("--project", default=None, help="only this project (prj_...)")
    match.add_argument("--policy", default=None, help="a policy's id (plc_...)")
    match.add_argument("--seed", type=int, default=0, help="of the solver (%(default)s)")
    match.set_defaults(command=run_match)

    pay = commands.add_parser("pay", help="ask a running service for a payout run")
    _client_options(pay)
    pay.add_argument(
        "period_end", type=_day, help="a Monday, as YYYY-MM-DD: the weeks before it are paid"
    )
    pay.set_defaults(command=run_pay)

    _policy_commands(commands.add_parser("policy", help="read, try and choose policies"))

    check = commands.add_parser("check", help="check every invariant of money in the database")
    check.set_defaults(command=run_check)

    key = commands.add_parser("key", help="make a key for a person of the ops team")
    key.add_argument("email")
    key.add_argument("--name", default=None, help="the person's name, if new")
    key.set_defaults(command=run_key)
    return parser


def _policy_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, does: str, *words: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=does)
        _client_options(made)
        for word in words:
            made.add_argument(word)
        made.set_defaults(command=run_policy, does=name)
        return made

    add("list", "every version, newest first").add_argument("--name", default=None)
    add("show", "one version", "policy")
    diff = add("diff", "where a version differs, in words", "policy")
    diff.add_argument("--against", default=None, help="another version; none: the default")
    propose = add("propose", "publish a version from a JSON file, - for standard input", "name")
    propose.add_argument("file")
    propose.add_argument("--reason", required=True)
    propose.add_argument("--based-on", type=int, default=None, help="the newest version you know")
    add("approve", "approve what somebody else wrote", "policy").add_argument(
        "--note", required=True
    )
    preview = add("preview", "replay a past stretch under a version", "policy")
    search = add("search", "find versions that fill so many seats at the least loss of stumps")
    search.add_argument("--fill", type=_share, required=True, help="a share of seats, such as 0.95")
    search.add_argument("--domain", default=None, help="in this field alone")
    search.add_argument("--policy", default=None, help="where to begin; none: the default")
    search.add_argument("--evaluations", type=int, default=60, help="%(default)s")
    for past in (preview, search):
        past.add_argument("--days", type=_days, default=7.0, help="until now (%(default)s)")
        past.add_argument("--project", default=None, help="of this project's own runs")
    canary = add("canary", "try a version on a share of experts or projects", "policy")
    canary.add_argument("--share", type=_share, default=0.1, help="%(default)s")
    canary.add_argument("--unit", choices=("expert", "project"), default="expert")
    canary.add_argument("--reason", required=True)
    add("trial", "start the experiment that a JSON file designs, - for standard input", "file")
    add("trials", "every experiment, newest first").add_argument("--state", default=None)
    add("watch", "what was seen of an experiment", "experiment")
    finish = add("finish", "end an experiment, or retire what one promoted", "experiment")
    finish.add_argument("--reason", required=True)
    promote = add("promote", "keep what an experiment tried", "experiment")
    promote.add_argument("--reason", default="")
    choose = add("choose", "let runs obey a version", "policy")
    choose.add_argument("--reason", required=True)
    back = add("return", "put back what was obeyed before")
    for place in (choose, back):
        place.add_argument("--project", default=None, help="for this project's own runs")


def _share(text: str) -> float:
    """A share of a whole, as it is typed."""
    share = float(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share above 0 and up to 1")
    return share


def _number(text: str) -> int:
    """A whole number above nothing, as it is typed."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _day(text: str) -> date:
    """A day, as it is typed."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day, such as 2026-11-16") from None


def _days(text: str) -> float:
    """A number of days back, as it is typed."""
    days = float(text)
    if not 0 < days <= 3660:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days up to 3660")
    return days


def _house_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=HOME, help="the data folder (%(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="where web listens (%(default)s)")
    parser.add_argument("--port", type=_number, default=DEFAULT_PORT, help="(%(default)s)")
    parser.add_argument("--webs", type=_number, default=1, help="web processes (%(default)s)")
    parser.add_argument("--workers", type=_number, default=1, help="worker processes (%(default)s)")


def _market_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=1, help="of a made-up market (%(default)s)")
    parser.add_argument("--experts", type=_number, default=100, help="(%(default)s)")
    parser.add_argument("--tasks", type=_number, default=300, help="(%(default)s)")


def _client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--url",
        default=os.environ.get("STUMPWORK_URL", "http://127.0.0.1:8000"),
        help="where the service answers, or STUMPWORK_URL (%(default)s)",
    )
    parser.add_argument(
        "--key", default=os.environ.get("STUMPWORK_KEY"), help="a key of ops, or STUMPWORK_KEY"
    )


def say(line: str) -> None:
    """One line of progress, on standard error, so that output stays clean."""
    print(f"  {line}", file=sys.stderr, flush=True)


MADE_UP_PEOPLE = {"STUMPWORK_FIRST_PAYOUT_WAIT_S": "0", "STUMPWORK_BANK_CHANGE_WAIT_S": "0"}
"""Settings for a market of people who do not exist: nobody needs protection from a quick payout."""


def _house(options: argparse.Namespace, *, made_up: bool = False) -> "Market":
    from market.supervisor import Market

    return Market(
        options.data,
        web_host=options.host,
        web_port=options.port,
        webs=options.webs,
        workers=options.workers,
        instant_onboarding=made_up,
        environ={**os.environ, **(MADE_UP_PEOPLE if made_up else {})},
    )


def run_up(options: argparse.Namespace) -> int:
    """Start everything and stay up until told to stop."""
    from market.replay.keys import open_here, ops_key

    with _house(options).start(say) as house:
        open_here(house.environment)
        print(f"console       {house.addresses.console}")
        print(f"API docs      {house.addresses.api_docs}")
        if house.addresses.target_model:
            print(f"target model  {house.addresses.target_model}")
        print(f"ops key       {ops_key('ops@stumpwork.example')}")
        print("Ctrl-C stops everything.", flush=True)
        house.wait()
    return 0


def run_demo(options: argparse.Namespace) -> int:
    """Start everything, load and run a made-up market once, and stay up."""
    from market.replay.demo import run

    with _house(options, made_up=True).start(say) as house:
        run(house, seed=options.seed, experts=options.experts, tasks=options.tasks, say=say)
        house.wait()
    return 0


def run_replay(options: argparse.Namespace) -> int:
    """Send a market through a house of its own, print the report, and stop the house."""
    import tempfile

    from market.replay.drive import replay
    from market.replay.folders import read_folder, write_recording
    from market.replay.generate import generate_market
    from market.replay.keys import open_here
    from market.replay.report import as_json, as_table
    from market.supervisor import Market

    script = (
        read_folder(options.folder)
        if options.folder is not None
        else generate_market(options.seed, experts=options.experts, tasks=options.tasks)
    )
    with tempfile.TemporaryDirectory(prefix="stumpwork-replay-") as passing:
        folder = options.data or Path(passing)
        recording = Path(passing) / "recording.jsonl"
        write_recording(script, recording)
        house = Market(
            folder,
            instant_onboarding=True,
            recording=recording,
            durable=options.data is not None,
            environ={**os.environ, **MADE_UP_PEOPLE},
        )
        with house.start(say):
            open_here(house.environment)
            report = replay(script, house.addresses, say=say)
    print(as_json(report) if options.json else as_table(report))
    return 0 if report.holds else 1


def run_match(options: argparse.Namespace) -> int:
    """Ask for a matching run, wait for it, and print what it did."""
    from market.replay.caller import Caller

    with Caller(options.url, _given_key(options)) as ops:
        body = {"project_id": options.project, "policy_id": options.policy, "seed": options.seed}
        started = ops.post("/v1/matching-runs", {k: v for k, v in body.items() if v is not None})
        done = ops.await_operation(started["operation_id"], say)
        print(json.dumps(done["result"], indent=2))
    return 0


def run_pay(options: argparse.Namespace) -> int:
    """Ask for a payout run, wait for it, and print what it did."""
    from market.replay.caller import Caller

    with Caller(options.url, _given_key(options)) as ops:
        started = ops.post(
            "/v1/payout-runs", {"period_end": options.period_end.isoformat()}, keyed=True
        )
        done = ops.await_operation(started["operation_id"], say)
        print(json.dumps(done["result"], indent=2))
    return 0


def run_policy(options: argparse.Namespace) -> int:
    """Read, propose, approve, try or choose a policy by the public API, and print its answer."""
    from market.replay.caller import Caller
    from market.replay.policies import carry_out

    with Caller(options.url, _given_key(options)) as ops:
        print(json.dumps(carry_out(ops, options, say), indent=2))
    return 0


def run_check(options: argparse.Namespace) -> int:
    """Check every invariant of money and of time, and the chain over the audit log; each violation
    is one line.

    All recorded time is computed again from raw heartbeats, and every line of pay from that time.
    """
    del options
    from market.audit.queries import broken_audit, newest_link
    from market.books.queries import EVERY_INVARIANT, untrue
    from market.db import database
    from market.settings import read_settings

    database.open(read_settings().database_url)
    with database.begin() as session:
        found = untrue(session)
        broken, last = broken_audit(session), newest_link(session)
    for violation in found:
        print(violation)
    for fault in broken:
        print(f"audit log: {fault}")
    print(f"{len(EVERY_INVARIANT)} invariants checked, {len(found)} violations")
    print(f"{last.number if last else 0} links of the audit log checked, {len(broken)} faults")
    return 1 if found or broken else 0


def run_key(options: argparse.Namespace) -> int:
    """Make a key for someone of the ops team, and print it: it is shown once."""
    from market.auth import keyring
    from market.db import database
    from market.replay.keys import ops_key
    from market.settings import in_force, read_settings

    settings = in_force.open(read_settings())
    keyring.open(settings.secret_key)
    database.open(settings.database_url)
    print(ops_key(options.email, name=options.name))
    return 0


def _given_key(options: argparse.Namespace) -> str:
    if not options.key:
        raise CommandRefused("give a key of ops with --key or STUMPWORK_KEY")
    key: str = options.key
    return key


if __name__ == "__main__":
    sys.exit(main())
