"""How a lab sets a project up: brief, target model, tasks, money, checks, launch; and its moves."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, get, post
from litestar.datastructures import UploadFile
from litestar.enums import RequestEncodingType
from litestar.handlers import HTTPRouteHandler
from litestar.params import Body, FromPath
from litestar.response import Redirect, Template
from sqlalchemy import func, select

from market.console.forms import (
    Form,
    field,
    minor,
    tried,
    whole_number,
)
from market.console.frame import Notice, page
from market.console.lab_terms import costs_of, read_terms, terms_of, typed_terms
from market.console.visitors import LAB, FormUnreadable, my_lab
from market.db import PLATFORM, database, now
from market.fundings.queries import lab_money
from market.http import principal_of_request, read_id
from market.imports import BulkImport, ImportRow
from market.panels.actions import set_panel
from market.panels.queries import panel
from market.projects.actions import (
    Terms,
    allocate_budget,
    change_project,
    create_project,
    move_project,
)
from market.projects.models import TargetModel
from market.projects.queries import budget, missing_for_work, project
from market.projects.rules import BUDGETED, CHANGEABLE, FILLABLE
from market.target_models.actions import ModelTerms, create_target_model
from market.tasks.actions import import_tasks
from market.tasks.models import Task
from market.tasks.queries import bulk_import
from market.uploads import Upload
from payouts.money import Money

LARGEST_FILE = 64 * 1024 * 1024
"""Bytes of a file that a form takes; larger ones go over the API."""

FORMATS = {"csv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "json": "jsonl", "parquet": "parquet"}
SHOWN_ROWS = 200
SETTING_UP = ("draft", "checking", "ready")

MOVES = {
    "pause": ("paused", "manual"),
    "resume": ("resumed", None),
    "drain": ("draining", None),
}
"""What a lab can ask of a live project from its page: what the page says then, and the reason."""

FileForm = Annotated[dict[str, Any], Body(media_type=RequestEncodingType.MULTI_PART)]


@get("/projects/new", guards=LAB, sync_to_thread=True)
def get_new(request: Request[Any, Any, Any]) -> Template:
    """A form for a project that is not there yet."""
    return page(request, "lab/new.html", typed={"currency": "USD", "reviews": "3", "answers": "1"})


@post("/projects/new", guards=LAB, sync_to_thread=True, status_code=303)
def post_new(request: Request[Any, Any, Any], data: Form) -> Redirect | Template:
    """Draft a project."""
    principal = principal_of_request(request)

    def act() -> str:
        with database.begin() as session:
            made = create_project(
                session,
                principal.tenant,
                read_terms(data, Terms(name="")),
                currency=field(data, "currency").upper() or "USD",
                fee_basis_points=request.app.state["settings"].fee_basis_points,
                at=now(),
                actor_id=principal.person_id,
            )
            return f"{_address(made.id)}?said=drafted"

    return tried(data, act, partial(page, request, "lab/new.html", typed=data))


def _address(project_id: UUID) -> str:
    return f"/console/lab/projects/prj_{project_id.hex}/setup"


def _setup(
    request: Request[Any, Any, Any],
    project_id: UUID,
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    with database.begin() as session:
        found = project(session, project_id)
        money = next(
            (m for m in lab_money(session, my_lab(request)) if m.currency == found.currency),
            None,
        )
        models = session.scalars(
            select(TargetModel).order_by(TargetModel.id.desc()).limit(50)
        ).all()
        return page(
            request,
            "lab/setup.html",
            status=status,
            notice=notice,
            project=found,
            missing=missing_for_work(session, found, now()),
            models=models,
            model=next((one for one in models if one.id == found.target_model_id), None),
            panel={one.id for one in panel(session, found.id)},
            tasks=session.scalar(
                select(func.count()).select_from(Task).where(Task.project_id == found.id)
            ),
            imports=session.scalars(
                select(BulkImport)
                .where(BulkImport.project_id == found.id)
                .order_by(BulkImport.id.desc())
                .limit(5)
            ).all(),
            budget=budget(session, found),
            unassigned=money.unassigned_minor if money is not None else 0,
            costs=costs_of(session, found),
            may_change=found.state in CHANGEABLE,
            may_fill=found.state in FILLABLE,
            may_budget=found.state in BUDGETED,
            is_setting_up=found.state in SETTING_UP,
            terms=typed_terms(found) if typed is None or "name" not in typed else typed,
            typed=typed or {},
        )


@get("/projects/{project_id:str}/setup", guards=LAB, sync_to_thread=True)
def get_setup(request: Request[Any, Any, Any], project_id: FromPath[str]) -> Template:
    """Everything that a project needs before experts can work on it, step by step."""
    return _setup(request, read_id("prj", project_id))


@post("/projects/{project_id:str}/setup", guards=LAB, sync_to_thread=True, status_code=303)
def post_setup(
    request: Request[Any, Any, Any], project_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Replace the terms of a project; offers made before keep theirs."""
    principal, found_id = principal_of_request(request), read_id("prj", project_id)

    def act() -> str:
        with database.begin() as session:
            found = project(session, found_id, lock=True)
            terms = read_terms({**data, "currency": found.currency}, terms_of(found))
            change_project(session, found_id, terms, at=now(), actor_id=principal.person_id)
        return f"{_address(found_id)}?said=saved"

    return _tried(request, found_id, data, act)


def _tried(
    request: Request[Any, Any, Any], found_id: UUID, data: Form, act: Callable[[], str]
) -> Redirect | Template:
    return tried(data, act, partial(_setup, request, found_id, typed=data))


@post("/projects/{project_id:str}/model", guards=LAB, sync_to_thread=True, status_code=303)
def post_model(
    request: Request[Any, Any, Any], project_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Choose which model a project tests, or name a new one for it."""
    principal, found_id = principal_of_request(request), read_id("prj", project_id)
    chosen = field(data, "model_id")

    def act() -> str:
        at = now()
        with database.begin() as session:
            found = project(session, found_id, lock=True)
            if chosen:
                model_id = read_id("mdl", chosen)
            else:
                model_id = create_target_model(
                    session,
                    principal.tenant,
                    ModelTerms(
                        name=field(data, "model_name") or field(data, "model"),
                        base_url=field(data, "base_url"),
                        model=field(data, "model"),
                        key=field(data, "key") or None,
                        samples=whole_number(
                            data, "samples", "answers to each question", least=1, most=32, absent=1
                        ),
                        cost_cap_minor=minor(data, "cost_cap", "the cost cap", "USD") or 0,
                    ),
                    at=at,
                ).id
            terms = replace(terms_of(found), target_model_id=model_id)
            change_project(session, found_id, terms, at=at, actor_id=principal.person_id)
        return f"{_address(found_id)}?said=model"

    return _tried(request, found_id, data, act)


@post("/projects/{project_id:str}/panel", guards=LAB, sync_to_thread=True, status_code=303)
def post_panel(
    request: Request[Any, Any, Any], project_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Choose which other models every question goes to, and which of all a stump must defeat."""
    found_id = read_id("prj", project_id)

    def act() -> str:
        chosen = [read_id("mdl", name) for name in data if name.startswith("mdl_")]
        with database.begin() as session:
            set_panel(session, found_id, chosen, rule=field(data, "stump_rule"), at=now())
        return f"{_address(found_id)}?said=panel"

    return _tried(request, found_id, data, act)


@post("/projects/{project_id:str}/give", guards=LAB, sync_to_thread=True, status_code=303)
def post_budget(
    request: Request[Any, Any, Any], project_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Give a project some of the lab's free money."""
    found_id = read_id("prj", project_id)
    with database.begin() as session:
        # Read as the lab first: another lab's project is not there.
        currency = project(session, found_id).currency

    def act() -> str:
        amount = minor(data, "amount", "the amount", currency)
        if amount is None:
            raise FormUnreadable("say how much the project gets")
        # As the platform, which alone writes the ledger; a form sent twice gives once.
        with database.begin(PLATFORM) as session:
            allocate_budget(
                session,
                found_id,
                Money(amount, currency),
                key=f"budget:{found_id}:console:{data.get('once', '')[:64]}:{amount}",
                at=now(),
            )
        return f"{_address(found_id)}?said=budgeted"

    return _tried(request, found_id, data, act)


@post(
    "/projects/{project_id:str}/tasks",
    guards=LAB,
    sync_to_thread=True,
    status_code=303,
    request_max_body_size=LARGEST_FILE,
)
def post_tasks(
    request: Request[Any, Any, Any], project_id: FromPath[str], data: FileForm
) -> Redirect | Template:
    """Take in the tasks of a file; every row gets a verdict."""
    found_id = read_id("prj", project_id)
    words = {name: value for name, value in data.items() if isinstance(value, str)}
    sent = data.get("file")

    def act() -> str:
        if not isinstance(sent, UploadFile) or not sent.filename:
            raise FormUnreadable("choose a file of tasks")
        kind = FORMATS.get(sent.filename.rpartition(".")[2].lower())
        if kind is None:
            raise FormUnreadable("the file's name ends in .csv, .jsonl or .parquet")
        upload = Upload(sent.file, kind, "utf-8", size, digest)
        sent.file.seek(0)
        with database.begin() as session:
            made = import_tasks(session, found_id, upload, now=now)
            return f"/console/lab/imports/imp_{made.id.hex}"

    size, digest = 0, b""
    if isinstance(sent, UploadFile):
        whole = hashlib.sha256()
        while chunk := sent.file.read(1024 * 1024):
            whole.update(chunk)
            size += len(chunk)
        digest = whole.digest()
    return tried(words, act, partial(_setup, request, found_id), digest=digest)


@get("/imports/{import_id:str}", guards=LAB, sync_to_thread=True)
def get_import(request: Request[Any, Any, Any], import_id: FromPath[str]) -> Template:
    """What became of each row of a file."""
    with database.begin() as session:
        found = bulk_import(session, read_id("imp", import_id))
        return page(
            request,
            "lab/import.html",
            found=found,
            refused=session.scalars(
                select(ImportRow)
                .where(
                    ImportRow.import_id == found.id,
                    ImportRow.verdict.in_(("rejected", "conflict")),
                )
                .order_by(ImportRow.line)
                .limit(SHOWN_ROWS)
            ).all(),
            shown=SHOWN_ROWS,
        )


@post("/projects/{project_id:str}/launch", guards=LAB, sync_to_thread=True, status_code=303)
def post_launch(
    request: Request[Any, Any, Any], project_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Check a project and launch it, in one step that happens whole or not at all."""
    principal, found_id = principal_of_request(request), read_id("prj", project_id)

    def act() -> str:
        at = now()
        with database.begin() as session:
            state = project(session, found_id, lock=True).state
            route = {"draft": ("submit", "pass", "launch"), "checking": ("pass", "launch")}
            for action in route.get(state, ("launch",)):
                move_project(
                    session,
                    found_id,
                    action,
                    at=at,
                    reason_code=field(data, "reason") or None if action == "launch" else None,
                    actor_id=principal.person_id,
                )
        return f"/console/lab/projects/{project_id}?said=launched"

    return _tried(request, found_id, data, act)


@post("/projects/{project_id:str}/move", guards=LAB, sync_to_thread=True, status_code=303)
def post_move(
    request: Request[Any, Any, Any], project_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Pause, resume or drain a project."""
    principal, found_id = principal_of_request(request), read_id("prj", project_id)
    action = data.get("action", "")

    def act() -> str:
        if action not in MOVES:
            raise FormUnreadable(f"a project is asked to {', '.join(MOVES)}")
        said, reason = MOVES[action]
        with database.begin() as session:
            move_project(
                session,
                found_id,
                action,
                at=now(),
                reason_code=reason,
                actor_id=principal.person_id,
            )
        return f"/console/lab/projects/{project_id}?said={said}"

    return _tried(request, found_id, data, act)


ROUTES: list[HTTPRouteHandler] = [
    get_new,
    post_new,
    get_setup,
    post_setup,
    post_model,
    post_panel,
    post_budget,
    post_tasks,
    get_import,
    post_launch,
    post_move,
]
