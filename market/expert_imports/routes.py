"""Taking in a file of experts over HTTP."""

from litestar import Response
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.status_codes import HTTP_201_CREATED

from market.db import database, now
from market.expert_imports.actions import import_experts
from market.http import post
from market.imports import ImportOut, import_out, take_in
from market.uploads import MAX_UPLOAD_BYTES, Upload, UploadOperation, spool_upload


@post(
    "/experts:import",
    scope="expert:write",
    keyed="required",
    streamed=True,
    status_code=HTTP_201_CREATED,
    request_max_body_size=MAX_UPLOAD_BYTES,
    operation_class=UploadOperation,
    dependencies={"upload": Provide(spool_upload)},
    tags=["Experts"],
)
def post_experts_import(upload: NamedDependency[Upload]) -> Response[bytes]:
    """Upload experts as JSON lines, CSV or Parquet: every row gets a verdict.

    A row has `email` and `name`, and may have the fields of a profile and `tier`. `languages`,
    `domains`, `windows` and `time_off` are lists (JSON text in CSV). All that can be taken is taken
    together, or nothing.
    """

    def act() -> ImportOut:
        with database.begin() as session:
            return import_out(session, import_experts(session, upload, now=now))

    return take_in(upload, act)


ROUTES: list[HTTPRouteHandler] = [post_experts_import]
