"""Setting a panel."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from market.panels.models import PanelModel
from market.panels.rules import STUMP_RULES, PanelUnfit, check_panel
from market.projects.models import Project, TargetModel
from market.projects.queries import project
from market.projects.rules import CHANGEABLE, PROJECT, TargetModelNotFound
from market.states import StateConflict


def set_panel(
    session: Session, project_id: UUID, models: Sequence[UUID], *, rule: str, at: datetime
) -> Project:
    """Ask these models too from now on, and call a stump what meets the rule.

    Questions that were asked before keep the panel and the rule that they were asked under.

    Raises:
        ProjectNotFound, TargetModelNotFound, PanelUnfit, StateConflict.
    """
    found = project(session, project_id, lock=True)
    if found.state not in CHANGEABLE:
        raise StateConflict("project", found.state, "change", PROJECT.allowed(found.state))
    check_panel(found.target_model_id, models)
    if rule not in STUMP_RULES:
        raise PanelUnfit("stump_rule", "be one of " + ", ".join(STUMP_RULES))
    if rule != "target" and not models:
        raise PanelUnfit("stump_rule", "be target where no other model is asked")
    own = set(
        session.scalars(
            select(TargetModel.id).where(
                TargetModel.id.in_(models), TargetModel.organisation_id == found.organisation_id
            )
        )
    )
    for one in models:
        if one not in own:
            raise TargetModelNotFound(one)
    session.execute(delete(PanelModel).where(PanelModel.project_id == project_id))
    session.add_all(
        PanelModel(
            project_id=project_id,
            target_model_id=one,
            organisation_id=found.organisation_id,
            added_at=at,
        )
        for one in models
    )
    found.stump_rule = rule
    found.version += 1
    session.flush()
    return found
