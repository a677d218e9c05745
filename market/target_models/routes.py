"""Target models over HTTP: naming them, reading them, and how they are asked."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Annotated

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_201_CREATED
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import select

from market.auth import Principal
from market.db import database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    expect_version,
    get,
    listed,
    patch,
    post,
    read_id,
    tagged,
    wire_id,
)
from market.projects.models import TargetModel
from market.projects.queries import target_model
from market.projects.routes import LARGEST, Name
from market.target_models.actions import (
    ModelTerms,
    change_target_model,
    create_target_model,
)


class TargetModelIn(Wire):
    """A model to be tested, behind an OpenAI-compatible address; the key is never shown again."""

    name: Name
    base_url: str
    model: Name
    key: Annotated[str, Meta(max_length=4000)] | None = None
    timeout_s: Annotated[int, Meta(ge=1, le=600)] = 60
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] = 1024
    samples: Annotated[int, Meta(ge=1, le=32)] = 1
    price_in_minor: Decimal = Decimal(0)
    price_out_minor: Decimal = Decimal(0)
    cost_cap_minor: Annotated[int, Meta(ge=0, le=LARGEST)] = 0


class TargetModelChangeIn(Wire):
    """What changes of how a target model is asked; `key` empty removes the key."""

    name: Name | UnsetType = UNSET
    base_url: str | UnsetType = UNSET
    model: Name | UnsetType = UNSET
    key: Annotated[str, Meta(max_length=4000)] | UnsetType = UNSET
    timeout_s: Annotated[int, Meta(ge=1, le=600)] | UnsetType = UNSET
    max_tokens: Annotated[int, Meta(ge=1, le=1_000_000)] | UnsetType = UNSET
    samples: Annotated[int, Meta(ge=1, le=32)] | UnsetType = UNSET
    price_in_minor: Decimal | UnsetType = UNSET
    price_out_minor: Decimal | UnsetType = UNSET
    cost_cap_minor: Annotated[int, Meta(ge=0, le=LARGEST)] | UnsetType = UNSET


class TargetModelOut(Wire):
    """A target model; `has_key` says whether a key is kept, sealed.

    Units: prices and costs in minor units of USD, as decimal texts where parts of one can occur.
    """

    id: str
    name: str
    base_url: str
    model: str
    has_key: bool
    timeout_s: int
    max_tokens: int
    samples: int
    price_in_minor: Decimal
    price_out_minor: Decimal
    cost_cap_minor: int
    spent_minor: Decimal
    created_at: datetime
    version: int


@post("/target-models", scope="project:write", status_code=HTTP_201_CREATED, tags=["Projects"])
def post_target_model(
    data: JSONBody[TargetModelIn], principal: NamedDependency[Principal]
) -> Response[TargetModelOut]:
    """Name a model that your projects can test."""
    with database.begin() as session:
        made = create_target_model(
            session,
            principal.tenant,
            ModelTerms(**{name: getattr(data, name) for name in _ASKED}, key=data.key),
            at=now(),
        )
        return tagged(_model_out(made), made.version, status=HTTP_201_CREATED)


@get("/target-models", scope="project:read", tags=["Projects"])
def get_target_models(limit: Limit = 50, cursor: Cursor = None) -> Page[TargetModelOut]:
    """Your target models, newest first, without their keys."""
    with database.begin() as session:
        return listed(
            session,
            select(TargetModel),
            TargetModel.id,
            _model_out,
            limit=limit,
            cursor=cursor,
            filters="target models",
        )


@get("/target-models/{model_id:str}", scope="project:read", tags=["Projects"])
def get_target_model(model_id: FromPath[str]) -> Response[TargetModelOut]:
    """One target model, without its key."""
    with database.begin() as session:
        found = target_model(session, read_id("mdl", model_id))
        return tagged(_model_out(found), found.version)


@patch("/target-models/{model_id:str}", scope="project:write", tags=["Projects"])
def patch_target_model(
    model_id: FromPath[str], data: JSONBody[TargetModelChangeIn]
) -> Response[TargetModelOut]:
    """Change how a target model is asked; send the ETag that you read as If-Match."""
    with database.begin() as session:
        found = target_model(session, read_id("mdl", model_id), lock=True)
        expect_version(found.version)
        terms = ModelTerms(**{name: getattr(found, name) for name in _ASKED})
        given = {n: getattr(data, n) for n in (*_ASKED, "key") if getattr(data, n) is not UNSET}
        changed = change_target_model(session, found.id, replace(terms, **given))
        return tagged(_model_out(changed), changed.version)


_ASKED = (
    "name",
    "base_url",
    "model",
    "timeout_s",
    "max_tokens",
    "samples",
    "price_in_minor",
    "price_out_minor",
    "cost_cap_minor",
)
"""The fields of a target model that travel as they are kept."""


def _model_out(row: TargetModel) -> TargetModelOut:
    return TargetModelOut(
        **{name: getattr(row, name) for name in _ASKED},
        id=wire_id("mdl", row.id),
        has_key=row.sealed_key is not None,
        spent_minor=row.spent_minor,
        created_at=row.created_at,
        version=row.version,
    )


ROUTES: list[HTTPRouteHandler] = [
    post_target_model,
    get_target_models,
    get_target_model,
    patch_target_model,
]
