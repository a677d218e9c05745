"""The tables that hold the service together are complete, and say what the database says."""

import ast
import inspect
import subprocess
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from market.app import create_app
from market.auth import SCOPES
from market.broker import QUEUES, Job
from market.errors import MarketError
from market.events import Event, StateRule, change_state
from market.experts.rules import STANDING
from market.moves import unfolded
from market.problems import PROBLEMS, code_of
from market.projects.rules import AUTOMATIC, PROJECT
from market.reactions import JOBS, REACTIONS
from market.schedule import TIMETABLE
from market.settings import Settings
from market.states import Machine
from market.tables import FEATURES
from market.tasks.rules import ASKED, OPEN
from market.verdicts.rules import ACTIONS
from tests import openapi, states
from tests.bench import __main__ as benches
from tests.factories import AT, make_project
from tests.states import machines, modules

Web = TestClient[Litestar]


def test_the_database_allows_exactly_the_moves_that_the_rules_name(db: Session) -> None:
    kept: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in db.scalars(select(StateRule)):
        kept[row.machine].add((row.from_state, row.to_state))
    assert machines().keys() == kept.keys()
    for name, machine in machines().items():
        assert kept[name] == machine.pairs(), name


def test_every_state_of_every_machine_can_be_reached() -> None:
    for machine in machines().values():
        reached = set(machine.initial)
        while True:
            further = {m.target for m in machine.moves if reached & set(m.sources)} - reached
            if not further:
                break
            reached |= further
        assert reached == set(machine.states), machine.name


def refusals(kind: type[Exception] = MarketError) -> list[type[Exception]]:
    for name in modules():
        import_module(name)
    found = []
    for child in kind.__subclasses__():
        found += [child, *refusals_below(child)]
    return found


def refusals_below(kind: type[Exception]) -> list[type[Exception]]:
    return [x for child in kind.__subclasses__() for x in (child, *refusals_below(child))]


INSIDE = {"market.settings", "market.cli", "market.console.visitors", "market.dead_letters"}
"""Where refusals never leave by HTTP's problems: they end a command, or show a page."""


def test_every_refusal_has_a_status_and_a_problem_type() -> None:
    missing = [
        f"{kind.__module__}.{kind.__name__}"
        for kind in refusals()
        if kind.__module__ not in INSIDE
        and not kind.__module__.startswith("market.replay")
        and kind.__module__.startswith("market.")
        and code_of(kind.__new__(kind)) is None
    ]
    assert missing == []


def test_problem_types_are_client_errors_with_words() -> None:
    for kind, (status, code) in PROBLEMS.items():
        assert 400 <= status < 600
        assert code == code.lower()
        assert " " not in code
        assert kind.__doc__, kind


def test_every_job_that_is_declared_follows_from_something() -> None:
    declared: dict[str, Job] = {}
    for name in modules():
        for value in vars(import_module(name)).values():
            if isinstance(value, Job):
                declared[value.name] = value
    wired = {job.name for job in JOBS} | {entry.job.name for entry in TIMETABLE}
    assert declared.keys() == wired


def test_reactions_and_timetable_name_known_events_and_queues() -> None:
    assert all(isinstance(event, Event) for event in REACTIONS)
    for job in (*JOBS, *(entry.job for entry in TIMETABLE)):
        assert job.queue in QUEUES
        assert len(inspect.signature(job.function).parameters) == 1, job.name
    # What comes by the clock stands behind nothing.
    assert {entry.job.line for entry in TIMETABLE} == {""}


def test_every_address_names_a_scope_that_somebody_can_hold(settings: Settings) -> None:
    known = frozenset().union(*SCOPES.values())
    public = {"/v1/signups", "/v1/attestations:verify", "/v1/attestation-keys"}
    app = create_app(settings)
    for route in app.routes:
        if not route.path.startswith("/v1"):
            continue
        for handler in getattr(route, "route_handlers", []):
            scope = handler.opt.get("scope")
            if scope is None:
                assert route.path in public or "OPTIONS" in handler.http_methods, route.path
            else:
                assert scope in known, (route.path, scope)


def test_every_write_of_money_or_in_bulk_asks_for_a_key_of_the_callers(settings: Settings) -> None:
    app = create_app(settings)
    for route in app.routes:
        for handler in getattr(route, "route_handlers", []):
            path = route.path
            bulk = path.endswith(":import")
            money = path in ("/v1/fundings", "/v1/payout-runs") or path.endswith("/budget")
            if (bulk or money) and "POST" in handler.http_methods:
                assert handler.opt["keyed"] == "required", path


def test_the_description_of_the_api_is_whole(web: Web) -> None:
    described = web.get("/docs/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    names = [
        operation["operationId"]
        for path in described["paths"].values()
        for operation in path.values()
    ]
    assert len(names) == len(set(names))
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert operation.get("summary") or operation.get("description"), (method, path)


@pytest.mark.parametrize("module", ["market.cli", "market.relay", "market.app"])
def test_a_process_does_not_load_the_solver_that_it_never_calls(module: str) -> None:
    code = (
        f"import sys, {module};"
        " print([m for m in ('ortools', 'pandas', 'scipy', 'stripe') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_features_are_the_folders_that_have_tables() -> None:
    assert "offers" in FEATURES
    assert "console" not in FEATURES


def test_the_api_is_as_it_is_described_so_that_a_change_of_it_is_seen() -> None:
    kept = openapi.KEPT.read_text(encoding="utf-8")
    assert kept == openapi.described(), "python -m tests.openapi, and read"


def test_the_page_of_state_machines_is_what_the_tables_say() -> None:
    kept = states.KEPT.read_text(encoding="utf-8")
    assert kept == states.described(), "python -m tests.states, and read"


def test_every_guarded_table_has_its_states_checked_too(db: Session) -> None:
    guarded = db.execute(
        text(
            "select distinct c.relname from pg_trigger t join pg_class c on c.oid = t.tgrelid"
            " join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'market'"
            " join pg_proc p on p.oid = t.tgfoid where p.proname = 'guard_state'"
        )
    ).scalars()
    for table in guarded:
        check = db.scalar(
            text(
                "select pg_get_constraintdef(oid) from pg_constraint where contype = 'c'"
                " and conrelid = format('market.%I', cast(:table as text))::regclass"
                " and conname = 'ck_' || cast(:table as text) || '_state'"
            ),
            {"table": table},
        )
        assert check is not None, table


def test_history_that_does_not_lead_to_a_state_is_found(db: Session) -> None:
    project = make_project(db, state="draft")
    assert unfolded(db) == []
    change_state(db, PROJECT, project, "submit", at=AT)
    assert unfolded(db) == []
    db.execute(text("update market.project set state = 'ready'"))
    assert unfolded(db) == [
        f"project {project.id} is ready while its last move led to checking",
    ]
    db.expire_all()
    change_state(db, PROJECT, project, "launch", at=AT)
    assert unfolded(db) == [f"project {project.id} moved from ready while it was checking"]


def test_every_bench_that_is_listed_can_be_run_and_says_what_it_measures() -> None:
    for name in benches.names():
        file = Path(benches.__file__).with_name(f"{name}.py")
        assert "def main(argv: list[str]) -> int:" in file.read_text(), name
        assert benches.summary(name), name


def test_every_move_of_every_machine_is_made_by_something() -> None:
    """A move that no code names stands in its table only: nobody could ever make it.

    Whoever makes a move imports its machine and names the action; where moves are asked for by
    their name, of a project, a task or a standing, every one that its rules allow is made.
    """
    named: dict[str, set[str]] = {name: set() for name in machines()}
    named["project"] |= {move.action for move in PROJECT.moves} - set(AUTOMATIC)
    named["standing"] |= {move.action for move in STANDING.moves}
    named["task"] |= {*ASKED, *(f"release_to_{state}" for state in OPEN)} - {"release"}
    for name in modules():
        found = import_module(name)
        said = {one.name for one in vars(found).values() if isinstance(one, Machine)}
        if not said or name.endswith(".rules") or found.__file__ is None:
            continue
        tree = ast.parse(Path(found.__file__).read_text(encoding="utf-8"))
        words = {
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        # What is decided, and the moves that follow from it, may stand in the rules beside it.
        words |= {action for action, _ in ACTIONS.values()} if "ACTIONS" in vars(found) else set()
        for machine in said:
            named[machine] |= words
    unmade = {
        f"{name}: {move.action}"
        for name, machine in machines().items()
        for move in machine.moves
        if move.action not in named[name]
    }
    assert unmade == set()
