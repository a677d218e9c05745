"""Pages of ops about policies: what is obeyed, what would change, who agreed, and the way back."""

from collections.abc import Mapping
from typing import Any

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import select

from market.console.charts import Chart, line, picture
from market.console.forms import Form
from market.console.frame import Notice, back_to, page
from market.console.preview_told import chosen_document
from market.console.visitors import OPS, my_id
from market.console.words import capital, words
from market.db import database, now
from market.errors import MarketError
from market.http import page_of, read_id, wire_id
from market.people.queries import names_of
from market.policies.actions import (
    approve_policy,
    choose_default_policy,
    publish_policy,
    return_policy,
)
from market.policies.models import PolicyUse, PolicyVersion
from market.policies.queries import (
    approval_wanted,
    default_policy,
    policies,
    policy,
    policy_approval,
    policy_uses,
)
from market.policies.rules import ALL_SETTINGS, PolicyRefused, differences, read_policy, settings_of
from market.previews.queries import preview
from market.problems import code_of

PAGE = 50
HOME = "/console/ops/policies"


def _label(setting: str) -> str:
    return capital(words(setting.removeprefix("weights.")))


@get("/policies", guards=OPS, sync_to_thread=True)
def get_policies(
    request: Request[Any, Any, Any],
    cursor: FromQuery[str | None] = None,
    said: FromQuery[str | None] = None,
) -> Template:
    """Every version, what is obeyed now, and what was obeyed before."""
    del said
    with database.begin() as session:
        rows, following = page_of(
            session, policies(), PolicyVersion.id, limit=PAGE, cursor=cursor, filters="policies"
        )
        used = default_policy(session)
        uses = session.scalars(policy_uses().order_by(PolicyUse.id.desc()).limit(8)).all()
        people = {row.author_id for row in rows} | {use.actor_id for use in uses}
        wanted = {use.policy_id for use in uses if use.policy_id}
        return page(
            request,
            "ops/policies.html",
            rows=rows,
            following=following,
            used=used,
            obeyed=policy(session, used.policy_id),
            uses=uses,
            versions={
                row.id: row
                for row in session.scalars(
                    select(PolicyVersion).where(PolicyVersion.id.in_(wanted))
                )
            },
            names=names_of(session, people),
        )


def weights_chart(before: PolicyVersion, after: PolicyVersion) -> Chart:
    """The weights of two policies side by side, each as a share of all of its own."""
    names = [name for name in ALL_SETTINGS if name.startswith("weights.")]
    series = []
    for title, version in (("Obeyed now", before), ("This version", after)):
        found = settings_of(read_policy(version.document))
        whole = sum(found[name] for name in names) or 1.0
        series.append(
            line(title, [(float(n), found[name] / whole) for n, name in enumerate(names)], "bars")
        )
    return Chart(
        "What counts, and how much",
        "Each weight as a share of all weights of its policy.",
        "Part of a pair's value",
        "Share of the weight",
        tuple(series if before.id != after.id else series[1:]),
        x_names=tuple(_label(name) for name in names),
        y_unit="share",
    )


@get("/policies/{policy_id:str}", guards=OPS, sync_to_thread=True)
def get_policy(
    request: Request[Any, Any, Any], policy_id: FromPath[str], said: FromQuery[str | None] = None
) -> Template:
    """One version: what it changes, in words and in a picture, and who agreed."""
    del said
    with database.begin() as session:
        found = policy(session, read_id("plc", policy_id))
        obeyed = policy(session, default_policy(session).policy_id)
        approval = policy_approval(session, found.id)
        settings = settings_of(read_policy(found.document))
        before = settings_of(read_policy(obeyed.document))
        return page(
            request,
            "ops/policy.html",
            policy=found,
            obeyed=obeyed,
            is_obeyed=found.id == obeyed.id,
            approval=approval,
            wanted=approval_wanted(session, found, instead_of=obeyed),
            changes=differences(read_policy(obeyed.document), read_policy(found.document)),
            settings=[
                (_label(name), kind, settings[name], before[name])
                for name, kind in ALL_SETTINGS.items()
            ],
            chart=weights_chart(obeyed, found),
            names=names_of(session, {found.author_id, approval.approver_id if approval else None}),
            is_mine=found.author_id == my_id(request),
        )


@get("/policies/{policy_id:str}/weights.svg", guards=OPS, sync_to_thread=True)
def get_weights(
    policy_id: FromPath[str], scheme: FromQuery[str] = "light", v: FromQuery[str | None] = None
) -> Response[bytes]:
    """The picture of a version's weights beside those that are obeyed."""
    with database.begin() as session:
        found = policy(session, read_id("plc", policy_id))
        chart = weights_chart(policy(session, default_policy(session).policy_id), found)
    return picture(chart, scheme, v)


@get("/policies/{policy_id:str}/propose", guards=OPS, sync_to_thread=True)
def get_proposal(
    request: Request[Any, Any, Any],
    policy_id: FromPath[str],
    search: FromQuery[str] = "",
    choice: FromQuery[int] = 0,
) -> Template:
    """A form with every setting of a version, or of a choice that a search found, to change some
    and publish the next.
    """
    with database.begin() as session:
        found = policy(session, read_id("plc", policy_id))
        document, reason = found.document, ""
        if search:
            document, reason = chosen_document(preview(session, read_id("pvw", search)), choice)
        typed = {n: f"{v:g}" for n, v in settings_of(read_policy(document)).items()}
    return _proposal(request, found, {**typed, "reason": reason})


def _proposal(
    request: Request[Any, Any, Any],
    found: PolicyVersion,
    typed: Mapping[str, str],
    *,
    refusal: MarketError | None = None,
) -> Template:
    notice, status = None, 200
    if refusal is not None:
        notice = Notice(f"{capital(str(refusal))}.", "bad")
        status = (code_of(refusal) or (422, ""))[0]
    return page(
        request,
        "ops/propose.html",
        status=status,
        notice=notice,
        policy=found,
        typed=typed,
        settings=[(name, _label(name), kind) for name, kind in ALL_SETTINGS.items()],
    )


@post("/policies/{policy_id:str}/propose", guards=OPS, sync_to_thread=True, status_code=303)
def post_proposal(
    request: Request[Any, Any, Any], policy_id: FromPath[str], data: Form
) -> Template | Redirect:
    """Publish the next version; what was typed stays when it is refused."""
    with database.begin() as session:
        found = policy(session, read_id("plc", policy_id))
    try:
        document = _document(data)
        with database.begin() as session:
            made = publish_policy(
                session,
                name=found.name,
                document=document,
                reason=data.get("reason", ""),
                author_id=my_id(request),
                at=now(),
                based_on=found.version_no,
            )
            made_id = made.id
    except MarketError as refusal:
        return _proposal(request, found, data, refusal=refusal)
    return back_to(f"{HOME}/{wire_id('plc', made_id)}", "proposed")


def _document(data: Mapping[str, str]) -> dict[str, object]:
    """The policy's document that a form describes.

    Raises:
        PolicyRefused.
    """
    document: dict[str, object] = {}
    weights: dict[str, object] = {}
    for name, kind in ALL_SETTINGS.items():
        text = data.get(name, "").strip()
        try:
            number = float(text)
        except ValueError:
            raise PolicyRefused(
                _label(name), f"{text!r} is not a number from {kind.low:g} to {kind.high:g}"
            ) from None
        if name.startswith("weights."):
            weights[name.removeprefix("weights.")] = number
        else:
            document[name] = number == 1.0 if name == "floor" else number
    return {**document, "weights": weights}


@post("/policies/{policy_id:str}/approve", guards=OPS, sync_to_thread=True, status_code=303)
def post_approval(
    request: Request[Any, Any, Any], policy_id: FromPath[str], data: Form
) -> Redirect:
    """Consent to a version that somebody else wrote."""
    with database.begin() as session:
        approve_policy(
            session,
            read_id("plc", policy_id),
            approver_id=my_id(request),
            note=data.get("note", ""),
            at=now(),
        )
    return back_to(f"{HOME}/{policy_id}", "policy-approved")


@post("/policies/{policy_id:str}/use", guards=OPS, sync_to_thread=True, status_code=303)
def post_use(request: Request[Any, Any, Any], policy_id: FromPath[str], data: Form) -> Redirect:
    """Put a version to use: runs that name no policy obey it from now on."""
    with database.begin() as session:
        choose_default_policy(
            session,
            read_id("plc", policy_id),
            actor_id=my_id(request),
            at=now(),
            reason=data.get("note", ""),
        )
    return back_to(f"{HOME}/{policy_id}", "policy-used")


@post("/policies/return", guards=OPS, sync_to_thread=True, status_code=303)
def post_return(request: Request[Any, Any, Any]) -> Redirect:
    """Put back what was obeyed before, in one step."""
    with database.begin() as session:
        return_policy(session, actor_id=my_id(request), at=now())
    return back_to(HOME, "policy-returned")


ROUTES: list[HTTPRouteHandler] = [
    get_policies,
    get_policy,
    get_weights,
    get_proposal,
    post_proposal,
    post_approval,
    post_use,
    post_return,
]
