"""The web: wires the routes, the refusals, the documentation and the health of the service."""

import argparse
import gc
import resource
import time
from importlib.resources import files
from types import FrameType
from typing import Any

import prometheus_client
import structlog
import uvicorn
from litestar import Litestar, MediaType, Request, Response, Router
from litestar import get as plain_get
from litestar.datastructures import State
from litestar.di import Provide
from litestar.enums import ScopeType
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.params import FromPath
from litestar.static_files import create_static_files_router
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from market.admissions.routes import ROUTES as ADMISSIONS
from market.agreements.routes import ROUTES as AGREEMENTS
from market.alarms.routes import ROUTES as ALARMS
from market.appeals.routes import ROUTES as APPEALS
from market.approvals.routes import ROUTES as APPROVALS
from market.attempts.routes import ROUTES as ATTEMPTS
from market.audit.routes import ROUTES as AUDIT
from market.auth import keyring
from market.availability.routes import ROUTES as AVAILABILITY
from market.baselines.routes import ROUTES as BASELINES
from market.bonuses.routes import ROUTES as BONUSES
from market.books.routes import ROUTES as BOOKS
from market.caps.routes import ROUTES as CAPS
from market.chargebacks.routes import ROUTES as CHARGEBACKS
from market.claims.routes import ROUTES as CLAIMS
from market.console.frame import template_config
from market.console.routes import console_router
from market.db import database, new_id, now
from market.dead_letters import ROUTES as DEAD_LETTERS
from market.deliveries.routes import ROUTES as DELIVERIES
from market.departures.routes import ROUTES as DEPARTURES
from market.disputes.routes import ROUTES as DISPUTES
from market.earnings.routes import ROUTES as EARNINGS
from market.edits.routes import ROUTES as EDITS
from market.eligibility.routes import ROUTES as ELIGIBILITY
from market.experiments.routes import ROUTES as EXPERIMENTS
from market.expert_imports.routes import ROUTES as EXPERT_IMPORTS
from market.experts.routes import ROUTES as EXPERTS
from market.expressions.routes import ROUTES as EXPRESSIONS
from market.fixes.routes import ROUTES as FIXES
from market.forecasts.routes import ROUTES as FORECASTS
from market.frauds.routes import ROUTES as FRAUDS
from market.fundings.routes import ROUTES as FUNDINGS
from market.golds.routes import ROUTES as GOLDS
from market.heartbeats.routes import ROUTES as HEARTBEATS
from market.histories.routes import ROUTES as HISTORIES
from market.http import MAX_BODY_BYTES, REQUEST_ID, open_request, principal_of_request
from market.impact.routes import ROUTES as IMPACT
from market.inbox.routes import ROUTES as INBOX
from market.invoices.routes import ROUTES as INVOICES
from market.item_banks.routes import ROUTES as ITEM_BANKS
from market.lifts.routes import ROUTES as LIFTS
from market.logs import configure_logs
from market.messages.routes import ROUTES as MESSAGES
from market.notices.routes import ROUTES as NOTICES
from market.notices.routes import encoded
from market.offers.routes import ROUTES as OFFERS
from market.panels.routes import ROUTES as PANELS
from market.past_rates.routes import ROUTES as PAST_RATES
from market.pay_rates.routes import ROUTES as PAY_RATES
from market.pay_tiers.routes import ROUTES as PAY_TIERS
from market.payees.routes import ROUTES as PAYEES
from market.payout_runs.routes import ROUTES as PAYOUT_RUNS
from market.payroll.routes import ROUTES as PAYROLL
from market.people.queries import principal_of, refused_keys
from market.people.routes import ROUTES as PEOPLE
from market.policies.routes import ROUTES as POLICIES
from market.preferences.routes import ROUTES as PREFERENCES
from market.previews.routes import ROUTES as PREVIEWS
from market.problems import HANDLERS, PROBLEMS, problem
from market.profiles.routes import ROUTES as PROFILES
from market.projects.routes import ROUTES as PROJECTS
from market.qualifications.routes import ROUTES as QUALIFICATIONS
from market.quality.routes import ROUTES as QUALITY
from market.quality_rules.routes import ROUTES as QUALITY_RULES
from market.records.routes import ROUTES as RECORDS
from market.recoveries.routes import ROUTES as RECOVERIES
from market.regrades.routes import ROUTES as REGRADES
from market.releases.routes import ROUTES as RELEASES
from market.repairs.routes import ROUTES as REPAIRS
from market.returns.routes import ROUTES as RETURNS
from market.review_plans.routes import ROUTES as REVIEW_PLANS
from market.reviews.routes import ROUTES as REVIEWS
from market.runs.routes import ROUTES as RUNS
from market.screeners.routes import ROUTES as SCREENERS
from market.settings import Settings, in_force, read_settings
from market.sittings.routes import ROUTES as SITTINGS
from market.snapshots.routes import ROUTES as SNAPSHOTS
from market.standings.routes import ROUTES as STANDINGS
from market.streams import Streams
from market.stumps.routes import ROUTES as STUMPS
from market.submissions.routes import ROUTES as SUBMISSIONS
from market.target_models.routes import ROUTES as TARGET_MODELS
from market.targets.routes import ROUTES as TARGETS
from market.tasks.routes import ROUTES as TASKS
from market.threads.routes import ROUTES as THREADS
from market.time_entries.routes import ROUTES as TIME_ENTRIES
from market.treasury.routes import ROUTES as TREASURY
from market.treasury.routes import WEBHOOKS
from market.verdicts.routes import ROUTES as VERDICTS
from market.votes.routes import ROUTES as VOTES
from market.wages.routes import ROUTES as WAGES
from market.witness import Witness, announce
from market.work.routes import ROUTES as WORK

log = structlog.get_logger(__name__)

REGISTRY = CollectorRegistry()
REQUESTS = Counter(
    "stumpwork_http_requests",
    "Requests answered.",
    ("method", "route", "status"),
    registry=REGISTRY,
)
SECONDS = Histogram(
    "stumpwork_http_request_seconds",
    "Time to answer.",
    ("method", "route"),
    registry=REGISTRY,
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

STREAMS = Gauge("stumpwork_open_streams", "Event streams open in this process.", registry=REGISTRY)

ROUTES = [
    *PEOPLE,
    *AVAILABILITY,
    *EXPERTS,
    *PAY_TIERS,
    *STANDINGS,
    *EXPERT_IMPORTS,
    *EXPRESSIONS,
    *QUALIFICATIONS,
    *ITEM_BANKS,
    *SITTINGS,
    *REGRADES,
    *QUALITY,
    *IMPACT,
    *RELEASES,
    *ALARMS,
    *QUALITY_RULES,
    *TARGETS,
    *AGREEMENTS,
    *PROFILES,
    *PROJECTS,
    *TARGET_MODELS,
    *TASKS,
    *ELIGIBILITY,
    *POLICIES,
    *PREFERENCES,
    *RUNS,
    *PREVIEWS,
    *EXPERIMENTS,
    *OFFERS,
    *EARNINGS,
    *APPROVALS,
    *BONUSES,
    *DISPUTES,
    *CLAIMS,
    *FUNDINGS,
    *CHARGEBACKS,
    *INVOICES,
    *PAY_RATES,
    *PAYEES,
    *TREASURY,
    *PAYOUT_RUNS,
    *PAYROLL,
    *WAGES,
    *CAPS,
    *PAST_RATES,
    *RECOVERIES,
    *FRAUDS,
    *BOOKS,
    *WORK,
    *HEARTBEATS,
    *TIME_ENTRIES,
    *SUBMISSIONS,
    *ADMISSIONS,
    *EDITS,
    *FIXES,
    *RETURNS,
    *REPAIRS,
    *SCREENERS,
    *ATTEMPTS,
    *PANELS,
    *GOLDS,
    *REVIEWS,
    *REVIEW_PLANS,
    *VOTES,
    *VERDICTS,
    *SNAPSHOTS,
    *STUMPS,
    *LIFTS,
    *BASELINES,
    *THREADS,
    *APPEALS,
    *DEPARTURES,
    *FORECASTS,
    *NOTICES,
    *DELIVERIES,
    *INBOX,
    *HISTORIES,
    *RECORDS,
    *MESSAGES,
    *AUDIT,
    *DEAD_LETTERS,
]


class Edge:
    """Gives every request an id, says it back, and counts and logs how the request ended."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        sent = next((v for k, v in scope["headers"] if k == b"x-request-id"), b"").decode("latin-1")
        request_id = sent if REQUEST_ID.fullmatch(sent) else f"req_{new_id().hex}"
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        method = scope["method"]
        began = time.perf_counter()
        status = 500

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", [])
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        try:
            await self.app(scope, receive, send_named)
        finally:
            seconds = time.perf_counter() - began
            # The address as declared, so that ids do not make a series each.
            route = str(scope.get("path_template") or "unknown")
            REQUESTS.labels(method, route, str(status)).inc()
            SECONDS.labels(method, route).observe(seconds)
            level = log.warning if status >= 500 else log.info
            level(
                "request",
                method=method,
                path=scope["path"],
                status=status,
                ms=round(seconds * 1000, 2),
            )


@plain_get("/health/live", sync_to_thread=False, tags=["Health"], opt={"any_query": True})
def get_live() -> dict[str, str]:
    """Whether this process answers."""
    return {"status": "live"}


@plain_get("/health/ready", sync_to_thread=True, tags=["Health"], opt={"any_query": True})
def get_ready() -> Response[dict[str, str]]:
    """Whether this process can do its work: the database answers and is migrated."""
    try:
        with database.begin() as session:
            session.execute(text("select 1 from market.event limit 1"))
    except SQLAlchemyError as lost:
        log.warning("health.not_ready", error=str(lost).splitlines()[0][:200])
        return Response({"status": "waiting for the database"}, status_code=503)
    return Response({"status": "ready"})


@plain_get("/metrics", sync_to_thread=True, media_type=MediaType.TEXT, include_in_schema=False)
def get_metrics() -> Response[bytes]:
    """What this process counted, for Prometheus."""
    return Response(
        prometheus_client.generate_latest(REGISTRY), headers={"content-type": CONTENT_TYPE_LATEST}
    )


@plain_get("/problems", sync_to_thread=False, include_in_schema=False)
def get_problems() -> list[dict[str, object]]:
    """Every problem type: its code, its status and what it means."""
    rows = [
        {
            "type": f"/problems/{code}",
            "status": status,
            "means": (kind.__doc__ or "").split("\n")[0],
        }
        for kind, (status, code) in PROBLEMS.items()
    ]
    return sorted(rows, key=lambda row: str(row["type"]))


@plain_get("/problems/{code:str}", sync_to_thread=False, include_in_schema=False)
def get_problem(code: FromPath[str], request: Request[Any, Any, Any]) -> Response[Any]:
    """What one problem type means."""
    for kind, (status, known) in PROBLEMS.items():
        if known == code:
            means = (kind.__doc__ or "").split("\n")[0]
            return Response({"type": f"/problems/{code}", "status": status, "means": means})
    return problem(request, 404, "not_found", f"there is no problem type {code!r}")


def create_app(settings: Settings) -> Litestar:
    """The whole web application; the caller opens the database and the keyring."""
    swagger = str(files("swagger_ui") / "static")
    streams = Streams(encoded, lambda keys: refused_keys(keys, at=now()))
    app = Litestar(
        route_handlers=[
            Router("/v1", route_handlers=ROUTES),
            *WEBHOOKS,
            get_live,
            get_ready,
            get_metrics,
            get_problems,
            get_problem,
            console_router(),
            create_static_files_router(
                "/docs-files", directories=[swagger], include_in_schema=False
            ),
        ],
        dependencies={"principal": Provide(principal_of_request, sync_to_thread=False)},
        before_request=open_request,
        exception_handlers=HANDLERS,
        template_config=template_config(),
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=OpenAPIConfig(
            title="Stumpwork",
            version="1",
            description="An expert marketplace: projects, tasks, offers, work, verdicts, pay.",
            path="/docs",
            render_plugins=[
                SwaggerRenderPlugin(
                    js_url="/docs-files/swagger-ui-bundle.js",
                    css_url="/docs-files/swagger-ui.css",
                    standalone_preset_js_url="/docs-files/swagger-ui-standalone-preset.js",
                    favicon='<link rel="icon" href="/docs-files/favicon-32x32.png">',
                )
            ],
            components=Components(
                security_schemes={"key": SecurityScheme(type="http", scheme="bearer")}
            ),
        ),
        logging_config=None,
        state=State(
            {
                "settings": settings,
                "principal_of": principal_of,
                "streams": streams,
                "announce": announce,
            }
        ),
        on_shutdown=[streams.end_soon],
    )
    STREAMS.set_function(lambda: len(streams))
    # Around everything: what no route answers is named, counted and logged too.
    app.asgi_handler = Edge(Witness(app.asgi_handler))
    return app


class Server(uvicorn.Server):
    """The web server, which lets open streams end as soon as it is told to stop: it would wait for
    them otherwise, until it loses patience.
    """

    def __init__(self, config: uvicorn.Config, streams: Streams) -> None:
        super().__init__(config)
        self._streams = streams

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, in order."""
        self._streams.end_soon()
        super().handle_exit(sig, frame)


def allow_many_sockets() -> None:
    """Raise the number of files that this process may hold open to what the system allows: a
    thousand streams are a thousand sockets.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main(argv: list[str] | None = None) -> None:
    """Run one web process, on a socket of its own or on one that it inherits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, default=None, help="an inherited listening socket")
    options = parser.parse_args(argv)
    settings = in_force.open(read_settings())
    configure_logs(settings.log_level, settings.log_format)
    keyring.open(settings.secret_key)
    database.open(settings.database_url, pool_size=settings.pool_size)
    app = create_app(settings)
    # What exists now lives as long as the process: scanning it again costs the slowest requests.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    allow_many_sockets()
    config = uvicorn.Config(
        app,
        host=settings.web_host,
        port=settings.web_port,
        fd=options.fd,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
        server_header=False,
    )
    Server(config, app.state["streams"]).run()
    database.close()


if __name__ == "__main__":
    main()
