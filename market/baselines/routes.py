"""Baselines over HTTP: lay down a set, answer it, and see people and the model on one scale."""

from datetime import datetime
from typing import Annotated, Any

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import Meta

from market.auth import Principal
from market.baselines.actions import (
    answer_eval_item,
    ask_model_again,
    compared,
    create_eval_set,
    put_eval_item,
)
from market.baselines.models import EvalSet
from market.baselines.queries import board, eval_set, eval_sets, open_sets, results_of
from market.baselines.rules import MOST_ANSWER, MOST_ITEMS, Design, Item
from market.db import PLATFORM, database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    get,
    listed,
    post,
    read_id,
    wire_id,
)
from market.projects.queries import project


class EvalItemIn(Wire):
    """An item: every answer in `key` is right; with `choices`, an answer is one of them."""

    prompt: str
    key: tuple[str, ...]
    choices: tuple[str, ...] = ()


class EvalSetIn(Wire):
    """What experts and the project's target model are to answer, under the same rules.

    Units: `limit_s` seconds for one item; `complexity` 1 to 10.
    """

    name: str
    domain: str
    complexity: int
    limit_s: int
    items: Annotated[tuple[EvalItemIn, ...], Meta(max_length=MOST_ITEMS)]
    experts: int = 5


class OpenSetOut(Wire):
    """A set that an expert can answer. Units: `limit_s` seconds an item."""

    id: str
    name: str
    domain: str
    complexity: int
    limit_s: int
    items: int


class EvalSetOut(OpenSetOut):
    """A set, and how far the model is with it."""

    project_id: str
    target_model_id: str
    experts: int
    model_state: str
    failure: str | None
    created_at: datetime


class ShareOut(Wire):
    """A share of right answers with the interval of nine tenths."""

    value: float
    low: float
    high: float


class PersonOut(Wire):
    """How one expert stands: `beats`, the chance to be better than the model on the same items."""

    expert_id: str
    answered: int
    right: int
    share: ShareOut
    beats: float


class ResultOut(Wire):
    """How a set stood at a time, and what was proposed where nobody was above the model."""

    at: datetime
    people: int
    human: ShareOut
    model: ShareOut
    best_chance: float
    standing: str
    proposal: str | None
    proposed_complexity: int | None


class BaselineOut(Wire):
    """People and the model on one scale: `human`, `unclear`, `saturated` or `thin`."""

    eval_set: EvalSetOut
    standing: str
    human: ShareOut | None
    model: ShareOut | None
    people: list[PersonOut]
    history: list[ResultOut]


class EvalPutOut(Wire):
    """The item to answer now; `is_over` says that there is none any more."""

    is_over: bool
    number: int | None = None
    prompt: str | None = None
    choices: tuple[str, ...] = ()
    asked_at: datetime | None = None
    due_at: datetime | None = None


class EvalAnswerIn(Wire):
    """An answer to the open item."""

    number: Annotated[int, Meta(ge=1, le=MOST_ITEMS)]
    answer: Annotated[str, Meta(max_length=MOST_ANSWER)]


class EvalAnsweredOut(Wire):
    """An answer as it was taken; none where it came too late, and counts as not known."""

    number: int
    answer: str | None
    closed_at: datetime | None


@post(
    "/projects/{project_id:str}/eval-sets",
    scope="project:write",
    status_code=HTTP_201_CREATED,
    keyed="required",
    tags=["Baselines"],
)
def post_eval_set(
    project_id: FromPath[str], data: JSONBody[EvalSetIn], principal: NamedDependency[Principal]
) -> EvalSetOut:
    """Lay down a set of items; the project's target model is asked them, and qualified experts."""
    with database.begin() as session:
        # Whether it is the caller's; keys are written as the platform.
        owner = project(session, read_id("prj", project_id))
    design = Design(
        name=data.name,
        domain=data.domain,
        complexity=data.complexity,
        limit_s=data.limit_s,
        experts=data.experts,
        items=tuple(Item(one.prompt, one.key, one.choices) for one in data.items),
    )
    with database.begin(PLATFORM) as session:
        return _out(create_eval_set(session, owner, design, by=principal.person_id, at=now()))


@get("/projects/{project_id:str}/eval-sets", scope="project:read", tags=["Baselines"])
def get_eval_sets(
    project_id: FromPath[str],
    principal: NamedDependency[Principal],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[EvalSetOut]:
    """The evaluation sets of a project, newest first."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        return listed(
            session,
            eval_sets(found.id),
            EvalSet.id,
            _out,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|eval-sets|{found.id}",
        )


@get("/eval-sets/open", scope="qualification:read", tags=["Baselines"])
def get_open_eval_sets(
    principal: NamedDependency[Principal], limit: Limit = 50, cursor: Cursor = None
) -> Page[OpenSetOut]:
    """Sets that you can answer: of the domains that you are qualified in, with a place left."""
    # As the platform, because how many others have begun is not yours to read.
    with database.begin(PLATFORM) as session:
        return listed(
            session,
            open_sets(principal.person_id),
            EvalSet.id,
            lambda row: OpenSetOut(
                id=wire_id("evs", row.id),
                name=row.name,
                domain=row.domain,
                complexity=row.complexity,
                limit_s=row.limit_s,
                items=row.items,
            ),
            limit=limit,
            cursor=cursor,
            filters=f"{principal.person_id}|eval-sets",
        )


@post(
    "/eval-sets/{set_id:str}/next-item",
    scope="qualification:write",
    status_code=HTTP_200_OK,
    tags=["Baselines"],
)
def post_next_eval_item(set_id: FromPath[str], principal: NamedDependency[Principal]) -> EvalPutOut:
    """The item to answer now; asking again gives the same until it is closed."""
    with database.begin(PLATFORM) as session:
        put = put_eval_item(
            session, read_id("evs", set_id), person_id=principal.person_id, at=now()
        )
        if put is None:
            return EvalPutOut(is_over=True)
        item, answer = put
        return EvalPutOut(
            is_over=False,
            number=item.number,
            prompt=item.prompt,
            choices=tuple(item.choices),
            asked_at=answer.asked_at,
            due_at=answer.due_at,
        )


@post(
    "/eval-sets/{set_id:str}/answers",
    scope="qualification:write",
    status_code=HTTP_200_OK,
    tags=["Baselines"],
)
def post_eval_answer(
    set_id: FromPath[str], data: JSONBody[EvalAnswerIn], principal: NamedDependency[Principal]
) -> EvalAnsweredOut:
    """Answer the open item; the same answer sent twice is one. Whether it was right is not said."""
    with database.begin(PLATFORM) as session:
        row = answer_eval_item(
            session,
            read_id("evs", set_id),
            data.number,
            data.answer,
            person_id=principal.person_id,
            at=now(),
        )
        return EvalAnsweredOut(number=data.number, answer=row.answer, closed_at=row.closed_at)


@post(
    "/eval-sets/{set_id:str}/model-runs",
    scope="project:write",
    status_code=HTTP_200_OK,
    tags=["Baselines"],
)
def post_model_run(set_id: FromPath[str], principal: NamedDependency[Principal]) -> EvalSetOut:
    """Ask the model again what it has not answered, after what stopped it is repaired."""
    with database.begin() as session:
        found = eval_set(session, read_id("evs", set_id))
    with database.begin(PLATFORM) as session:
        row = eval_set(session, found.id, lock=True)
        ask_model_again(session, row, by=principal.person_id, at=now())
        return _out(row)


@get("/eval-sets/{set_id:str}/baseline", scope="project:read", tags=["Baselines"])
def get_baseline(set_id: FromPath[str]) -> BaselineOut:
    """People and the model on one scale with intervals, each expert, and how it stood before."""
    with database.begin() as session:
        found = eval_set(session, read_id("evs", set_id))
    with database.begin(PLATFORM) as session:
        said = compared(session, found)
        told = board(session, found)
        history = [
            ResultOut(
                at=row.at,
                people=row.people,
                human=ShareOut(value=row.human, low=row.human_low, high=row.human_high),
                model=ShareOut(value=row.model, low=row.model_low, high=row.model_high),
                best_chance=row.best_chance,
                standing=row.standing,
                proposal=row.proposal,
                proposed_complexity=row.proposed_complexity,
            )
            for row in results_of(session, found.id)
        ]
    people = []
    for n, person_id in enumerate(told.people if said is not None else ()):
        assert said is not None
        one, row = said.people[n], told.right[n]
        people.append(
            PersonOut(
                expert_id=wire_id("per", person_id),
                answered=int((row == row).sum()),
                right=int((row == 1).sum()),
                share=ShareOut(value=one.value, low=one.low, high=one.high),
                beats=float(said.beats[n]),
            )
        )
    shares: dict[str, Any] = {"human": None, "model": None}
    if said is not None:
        for name, one in (("human", said.human), ("model", said.model)):
            shares[name] = ShareOut(value=one.value, low=one.low, high=one.high)
    return BaselineOut(
        eval_set=_out(found),
        standing="thin" if said is None else said.standing.value,
        people=people,
        history=history,
        **shares,
    )


def _out(row: EvalSet) -> EvalSetOut:
    return EvalSetOut(
        id=wire_id("evs", row.id),
        project_id=wire_id("prj", row.project_id),
        target_model_id=wire_id("mdl", row.target_model_id),
        name=row.name,
        domain=row.domain,
        complexity=row.complexity,
        limit_s=row.limit_s,
        items=row.items,
        experts=row.experts,
        model_state=row.model_state,
        failure=row.failure,
        created_at=row.created_at,
    )


ROUTES: list[HTTPRouteHandler] = [
    post_eval_set,
    get_eval_sets,
    get_open_eval_sets,
    post_next_eval_item,
    post_eval_answer,
    post_model_run,
    get_baseline,
]
