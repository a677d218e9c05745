"""Policies over HTTP: read them, add versions, choose the default."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from sqlalchemy.orm import Session

from market.auth import Principal
from market.db import Json, database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    expect_version,
    get,
    listed,
    page,
    page_of,
    post,
    put,
    read_id,
    read_ids,
    request_context,
    tagged,
    wire_id,
    wire_ids,
)
from market.policies.actions import (
    approve_policy,
    choose_default_policy,
    choose_project_policy,
    publish_policy,
    return_policy,
)
from market.policies.models import PolicyUse, PolicyVersion
from market.policies.queries import (
    approvals_of,
    default_policy,
    newest_policy,
    obeyed_policy,
    policies,
    policy,
    policy_uses,
    why_approve,
)
from market.policies.rules import (
    ALL_SETTINGS,
    PolicyMoved,
    RunPolicy,
    differences,
    read_policy,
    settings_of,
    why_large,
)
from market.projects.models import Project
from market.projects.queries import project
from matching.policy import Policy

ProjectFilter = Annotated[
    str | None, QueryParameter(name="project", description="Of this project's own runs.")
]
AgainstFilter = Annotated[
    str | None, QueryParameter(description="The other policy; the default, without one.")
]
NameFilter = Annotated[str | None, QueryParameter(name="name", description="Only this policy.")]


class PolicyIn(Wire):
    """A new version of a policy; settings left out have the matcher's defaults."""

    name: str
    document: Json
    reason: str


class PolicyOut(Wire):
    """One version of a policy, as it was published; it never changes.

    `approval_wanted` says why a second person has yet to approve it before it may take the place of
    the default; it is empty when it may.
    """

    id: str
    name: str
    version_no: int
    document: Json
    digest: str
    reason: str
    author_id: str | None
    created_at: datetime
    is_default: bool
    approved_by: str | None
    approved_at: datetime | None
    approval_wanted: list[str]


class DefaultIn(Wire):
    """Which policy version runs are to obey when they name none."""

    policy_id: str
    reason: str = ""


class ProjectPolicyIn(Wire):
    """Which policy version a project's own runs are to obey; none is the default."""

    policy_id: str | None
    reason: str = ""


class ProjectPolicyOut(Wire):
    """Which policy a project's own runs obey, and whether it is its own or the default."""

    project_id: str
    policy_id: str
    is_own: bool


class ApprovalIn(Wire):
    """What a second person says to a policy."""

    note: str


class SettingOut(Wire):
    """A setting of a policy: its unit, its bounds, its default, and what it does."""

    name: str
    unit: str
    low: float
    high: float
    default: float
    meaning: str


class SettingsOut(Wire):
    """Every setting of a policy."""

    items: list[SettingOut]


class DifferenceOut(Wire):
    """One setting in which two policies differ."""

    setting: str
    unit: str
    before: float
    after: float
    sentence: str


class DiffOut(Wire):
    """Where one policy differs from another, and why that is a large change, if it is one."""

    policy_id: str
    against: str
    differences: list[DifferenceOut]
    large: list[str]


class UseOut(Wire):
    """From when on a policy was obeyed; no policy of its own is the default, for a project."""

    id: str
    policy_id: str | None
    previous_id: str | None
    project_id: str | None
    how: str
    reason: str
    since: datetime
    actor_id: str | None


class DefaultOut(Wire):
    """Which policy version runs obey when they name none, and since when."""

    policy_id: str
    since: datetime


@post("/policies", scope="policy:write", status_code=HTTP_201_CREATED, tags=["Policies"])
def post_policy(data: JSONBody[PolicyIn], principal: NamedDependency[Principal]) -> PolicyOut:
    """Publish a version of a policy. With If-Match, the number of the version that it is based on,
    it is refused when somebody else has published a newer one; "0" is a new policy.
    """
    with database.begin() as session:
        made = publish_policy(
            session,
            name=data.name,
            document=data.document,
            reason=data.reason,
            author_id=principal.person_id,
            at=now(),
            based_on=_based_on(data.name),
        )
        return _policy_out(session, made)


@get("/policies", scope="policy:read", tags=["Policies"])
def get_policies(
    named: NameFilter = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[PolicyOut]:
    """All versions of all policies, or of one, newest first."""
    with database.begin() as session:
        rows, following = page_of(
            session,
            policies(named),
            PolicyVersion.id,
            limit=limit,
            cursor=cursor,
            filters=f"policies {named}",
        )
        return page(_policies_out(session, rows), following)


@get("/policies/default", scope="policy:read", tags=["Policies"])
def get_default_policy() -> Response[DefaultOut]:
    """Which policy runs obey when they name none."""
    with database.begin() as session:
        chosen = default_policy(session)
        out = DefaultOut(policy_id=wire_id("plc", chosen.policy_id), since=chosen.since)
        return tagged(out, chosen.version)


@put("/policies/default", scope="policy:write", tags=["Policies"])
def put_default_policy(
    data: JSONBody[DefaultIn], principal: NamedDependency[Principal]
) -> Response[DefaultOut]:
    """Choose the policy that runs obey when they name none; running ones keep theirs. Send the
    ETag that you read as If-Match.
    """
    with database.begin() as session:
        expect_version(default_policy(session, lock=True).version)
        chosen = choose_default_policy(
            session,
            read_id("plc", data.policy_id),
            actor_id=principal.person_id,
            at=now(),
            reason=data.reason,
        )
        out = DefaultOut(policy_id=wire_id("plc", chosen.policy_id), since=chosen.since)
        return tagged(out, chosen.version)


@get("/policies/{policy_id:str}", scope="policy:read", tags=["Policies"])
def get_policy(policy_id: FromPath[str]) -> PolicyOut:
    """One version of a policy."""
    with database.begin() as session:
        found = policy(session, read_id("plc", policy_id))
        return _policy_out(session, found)


@post("/policies/default/return", scope="policy:write", tags=["Policies"])
def post_default_return(principal: NamedDependency[Principal]) -> UseOut:
    """Put back the default that was before, in one step."""
    with database.begin() as session:
        return _use_out(return_policy(session, actor_id=principal.person_id, at=now()))


@get("/policies/settings", scope="policy:read", tags=["Policies"])
def get_policy_settings() -> SettingsOut:
    """Every setting of a policy, with its unit and its bounds."""
    plain = settings_of(RunPolicy(matcher=Policy()))
    return SettingsOut(
        items=[
            SettingOut(
                name=name,
                unit=kind.unit,
                low=kind.low,
                high=kind.high,
                default=plain[name],
                meaning=kind.meaning,
            )
            for name, kind in ALL_SETTINGS.items()
        ]
    )


@get("/policies/uses", scope="policy:read", tags=["Policies"])
def get_policy_uses(
    project_id: ProjectFilter = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[UseOut]:
    """Which policies were obeyed from when on, by default or by one project, newest first."""
    wanted = read_ids("prj", project_id)
    with database.begin() as session:
        return listed(
            session,
            policy_uses(wanted),
            PolicyUse.id,
            _use_out,
            limit=limit,
            cursor=cursor,
            filters=f"uses {wanted}",
        )


@get("/policies/{policy_id:str}/diff", scope="policy:read", tags=["Policies"])
def get_policy_diff(policy_id: FromPath[str], against: AgainstFilter = None) -> DiffOut:
    """Where a policy differs from another, or from the default, in words."""
    with database.begin() as session:
        found = policy(session, read_id("plc", policy_id))
        other = policy(
            session,
            default_policy(session).policy_id if against is None else read_id("plc", against),
        )
    before, after = read_policy(other.document), read_policy(found.document)
    return DiffOut(
        policy_id=wire_id("plc", found.id),
        against=wire_id("plc", other.id),
        differences=[
            DifferenceOut(
                setting=one.setting,
                unit=one.unit,
                before=one.before,
                after=one.after,
                sentence=one.sentence,
            )
            for one in differences(before, after)
        ],
        large=why_large(before, after),
    )


@post(
    "/policies/{policy_id:str}/approval",
    scope="policy:write",
    status_code=HTTP_200_OK,
    tags=["Policies"],
)
def post_policy_approval(
    policy_id: FromPath[str],
    data: JSONBody[ApprovalIn],
    principal: NamedDependency[Principal],
) -> PolicyOut:
    """Approve a policy that somebody else wrote."""
    with database.begin() as session:
        found = policy(session, read_id("plc", policy_id))
        approve_policy(session, found.id, approver_id=principal.person_id, note=data.note, at=now())
        return _policy_out(session, found)


@get("/projects/{project_id:str}/policy", scope="policy:read", tags=["Policies"])
def get_project_policy(project_id: FromPath[str]) -> Response[ProjectPolicyOut]:
    """Which policy a project's own runs obey."""
    with database.begin() as session:
        return _project_out(session, project(session, read_id("prj", project_id)))


@put("/projects/{project_id:str}/policy", scope="policy:write", tags=["Policies"])
def put_project_policy(
    project_id: FromPath[str],
    data: JSONBody[ProjectPolicyIn],
    principal: NamedDependency[Principal],
) -> Response[ProjectPolicyOut]:
    """Choose the policy that a project's own runs obey. Send the ETag that you read as If-Match."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id), lock=True)
        expect_version(found.version)
        wanted = read_ids("plc", data.policy_id)
        changed = choose_project_policy(
            session,
            found.id,
            wanted,
            actor_id=principal.person_id,
            at=now(),
            reason=data.reason,
        )
        return _project_out(session, changed)


@post(
    "/projects/{project_id:str}/policy/return",
    scope="policy:write",
    tags=["Policies"],
)
def post_project_policy_return(
    project_id: FromPath[str], principal: NamedDependency[Principal]
) -> UseOut:
    """Put back what a project's runs obeyed before, in one step."""
    with database.begin() as session:
        wanted = read_id("prj", project_id)
        return _use_out(
            return_policy(session, project_id=wanted, actor_id=principal.person_id, at=now())
        )


def _based_on(name: str) -> int | None:
    """The version that a proposal is based on, from If-Match; none, when it does not say."""
    sent = request_context.get().if_match
    if sent is None or sent.strip() == "*":
        return None
    digits = sent.strip().strip('"')
    if not digits.isascii() or not digits.isdecimal():
        with database.begin() as session:
            newest = newest_policy(session, name)
        raise PolicyMoved(name, 0 if newest is None else newest.version_no)
    return int(digits)


def _policy_out(session: Session, found: PolicyVersion) -> PolicyOut:
    return _policies_out(session, [found])[0]


def _policies_out(session: Session, rows: Sequence[PolicyVersion]) -> list[PolicyOut]:
    default = policy(session, default_policy(session).policy_id)
    given = approvals_of(session, [row.id for row in rows])
    return [
        PolicyOut(
            id=wire_id("plc", row.id),
            name=row.name,
            version_no=row.version_no,
            document=row.document,
            digest=row.digest,
            reason=row.reason,
            author_id=wire_ids("per", row.author_id),
            created_at=row.created_at,
            is_default=default.id == row.id,
            approved_by=wire_id("per", given[row.id].approver_id) if row.id in given else None,
            approved_at=given[row.id].at if row.id in given else None,
            approval_wanted=why_approve(row, default, is_approved=row.id in given),
        )
        for row in rows
    ]


def _project_out(session: Session, found: Project) -> Response[ProjectPolicyOut]:
    out = ProjectPolicyOut(
        project_id=wire_id("prj", found.id),
        policy_id=wire_id("plc", obeyed_policy(session, found.id).id),
        is_own=found.policy_id is not None,
    )
    return tagged(out, found.version)


def _use_out(used: PolicyUse) -> UseOut:
    return UseOut(
        id=wire_id("plu", used.id),
        policy_id=wire_ids("plc", used.policy_id),
        previous_id=wire_ids("plc", used.previous_id),
        project_id=wire_ids("prj", used.project_id),
        how=used.how,
        reason=used.reason,
        since=used.since,
        actor_id=wire_ids("per", used.actor_id),
    )


ROUTES: list[HTTPRouteHandler] = [
    post_policy,
    get_policies,
    get_default_policy,
    put_default_policy,
    post_default_return,
    get_policy_settings,
    get_policy_uses,
    get_policy,
    get_policy_diff,
    post_policy_approval,
    get_project_policy,
    put_project_policy,
    post_project_policy_return,
]
