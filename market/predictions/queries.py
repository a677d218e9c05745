"""What is believed of pairs before they work: the one place where matching asks for it."""

from uuid import UUID

import numpy as np
from sqlalchemy import ARRAY, Uuid, bindparam, text
from sqlalchemy.orm import Session

from market.predictions.rules import Asked, Predictions, Record, predicted

# Verdicts are recorded by a feature that stands later in a task's life; they are read as a table,
# for experts by the index on it.
_OF_EXPERTS = text(
    """
    select v.expert_id, t.domain, count(*)::int as decided,
        count(*) filter (where v.is_accepted)::int as accepted
    from market.verdict v join market.task t on t.id = v.task_id
    where v.expert_id = any(:experts)
    group by v.expert_id, t.domain
    """
).bindparams(bindparam("experts", type_=ARRAY(Uuid())))

_OF_SLICES = text(
    """
    select t.project_id, t.domain, t.complexity::int as complexity, count(*)::int as stumps
    from market.verdict v join market.task t on t.id = v.task_id
    where v.is_stump and v.project_id = any(:projects)
    group by t.project_id, t.domain, t.complexity
    """
).bindparams(bindparam("projects", type_=ARRAY(Uuid())))

_OF_ALL = text(
    "select count(*)::int as decided, count(*) filter (where is_accepted)::int as accepted"
    " from market.verdict"
)


def predictions_for(session: Session, asked: Asked) -> Predictions:
    """What is believed of each pair, from abilities as they stand and from verdicts until now."""
    experts = len(asked.expert_ids)
    ids = [UUID(bytes=row.tobytes()) for row in asked.expert_ids]
    number = {found: n for n, found in enumerate(ids)}
    by_domain: dict[str, list[int]] = {}
    for at, (_, domain, _) in enumerate(asked.slices):
        by_domain.setdefault(domain, []).append(at)
    decided, accepted = np.zeros(experts), np.zeros(experts)
    here: dict[int, int] = {}
    for row in session.execute(_OF_EXPERTS, {"experts": ids}):
        expert = number[row.expert_id]
        decided[expert] += row.decided
        accepted[expert] += row.accepted
        for at in by_domain.get(row.domain, ()):
            here[expert * len(asked.slices) + at] = row.decided
    stumps = np.zeros(len(asked.slices))
    place = {one: at for at, one in enumerate(asked.slices)}
    projects = list({project for project, _, _ in asked.slices})
    for row in session.execute(_OF_SLICES, {"projects": projects}):
        found = place.get((row.project_id, row.domain, row.complexity))
        if found is not None:
            stumps[found] = row.stumps
    whole = session.execute(_OF_ALL).one()
    key = np.array(sorted(here), np.int64)
    record = Record(
        decided=decided,
        accepted=accepted,
        # Before the first verdict, neither way.
        accepted_share=(whole.accepted + 1) / (whole.decided + 2),
        key=key,
        decided_here=np.array([here[one] for one in key.tolist()], np.float64),
        stumps=stumps,
    )
    return predicted(asked, record)
