"""What an experiment is, who is in which arm, and when one is refused; pure."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np

from market.db import Json
from market.errors import MarketError
from market.policies.rules import RunPolicy
from market.states import Machine, Move
from matching.problem import Bool, Float64

if TYPE_CHECKING:
    from matching.experiment import Effect, Verdict

KINDS = ("policy", "pay", "instructions", "tool_version", "draft")
"""What may be tried: a matcher's policy; or what an offer's page or a project's terms are told."""

SHOWN_WITH_TASK = ("instructions", "tool_version", "draft")
"""What is tried with what an expert gets beside a task."""

UNITS = ("expert", "project")

EXPERIMENT = Machine(
    "experiment",
    ("draft",),
    (
        Move("start", ("draft",), "running"),
        Move("stop", ("running",), "stopped"),
        Move("finish", ("running",), "finished"),
        Move("promote", ("running", "finished"), "promoted"),
        Move("drop", ("draft",), "dropped"),
        Move("retire", ("promoted",), "finished"),
    ),
)
"""How an experiment goes: guardrails stop it, people finish or promote it. What was promoted and is
no policy holds for everyone in scope, until it is retired.
"""

ALPHA = 0.05
"""Chance that an A/A test declares something, over all of its looks."""

LEAST_UNITS = 10
"""Units in each arm below which nothing can be said (`matching.experiment`)."""

CANARY = 0.2
"""Share of units up to which a policy may be tried without a second person's approval."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A number for each exposed assignment.

    Units: `se` the standard error hoped for, which shapes the always-valid interval and is fixed
        before any outcome is seen; `tolerance` a share of the control's mean by which a guardrail
        may be worse.
    """

    unit: str
    higher_is_better: bool
    se: float
    tolerance: float


METRICS = {
    "stump": Metric("validated stumps an assignment", True, 0.01, 0.02),
    "accepted": Metric("share of decided offers that were accepted", True, 0.01, 0.05),
    "rejected": Metric("share of verdicts that reject", False, 0.01, 0.05),
    "wait_h": Metric("hours from an offer to its acceptance", False, 1.0, 0.1),
    "work_h": Metric("hours of recorded work an assignment", False, 0.2, 0.1),
}
"""What an experiment can be judged by, and what may not get worse."""

GUARDRAILS = ("accepted", "rejected", "wait_h")

TOGETHER = ("work_h", "rejected", "stump")
"""Time and quality, which every look tells side by side: what is faster may be worse."""


class ExperimentNotFound(MarketError):
    """No experiment has this id."""

    def __init__(self, experiment_id: UUID) -> None:
        super().__init__("there is no such experiment")
        self.experiment_id = experiment_id


class ExperimentInvalid(MarketError):
    """A setting of an experiment that does not fit."""

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(f"{setting}: {reason}")
        self.setting = setting


class ExperimentBegun(MarketError):
    """A change to what an experiment is about, once it is no draft any more."""

    def __init__(self, state: str) -> None:
        super().__init__(
            f"the experiment is {state}, and who is in it is settled; finish it, and design another"
        )
        self.state = state


class CohortEmpty(MarketError):
    """An experiment with nobody, or no project, in one of its arms."""

    def __init__(self, arm: str, unit: str, of: int, *, raise_basis_points: int = 0) -> None:
        allowed = (
            f"; projects take part whose trial_raise_basis_points are {raise_basis_points} or more"
        )
        super().__init__(
            f"the {arm} arm holds none of the {of} {unit}s in scope: widen the scope, or change the"
            f" share{allowed if raise_basis_points else ''}"
        )
        self.arm = arm
        self.units = of


class ExperimentOverlaps(MarketError):
    """Another experiment of the same kind that is running."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"another experiment on {kind} is running; finish it first")
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Design:
    """What an experiment compares, on whom, and by what it is judged.

    Units: share of units that are treated, above 0 and below 1; effect and baseline, in the
        metric's unit, size it.
    Raises: ExperimentInvalid.
    """

    name: str
    kind: str
    unit: str
    share: float
    reason: str
    metric: str = "stump"
    guardrails: tuple[str, ...] = GUARDRAILS
    domain: str | None = None
    project_id: UUID | None = None
    control_policy_id: UUID | None = None
    treated_policy_id: UUID | None = None
    treatment: Mapping[str, object] | None = None
    scope: str | None = None
    """An expression that the units have to fulfil, in the language of eligibility."""

    def __post_init__(self) -> None:
        for setting, given, known in (
            ("kind", self.kind, KINDS),
            ("unit", self.unit, UNITS),
            ("metric", self.metric, tuple(METRICS)),
            *(("guardrails", one, tuple(METRICS)) for one in self.guardrails),
        ):
            if given not in known:
                raise ExperimentInvalid(setting, f"{given[:64]!r} is not one of {', '.join(known)}")
        if not 0 < self.share < 1:
            raise ExperimentInvalid("share", f"{self.share} is not a share above 0 and below 1")
        if not 1 <= len(self.name.strip()) <= 200:
            raise ExperimentInvalid("name", "has to have 1 to 200 characters")
        if not 1 <= len(self.reason.strip()) <= 2000:
            raise ExperimentInvalid("reason", "say in 1 to 2000 characters why it is made")
        if len(set(self.guardrails)) != len(self.guardrails):
            raise ExperimentInvalid("guardrails", "names one twice")
        if self.kind == "policy" and self.treated_policy_id is None:
            raise ExperimentInvalid("treated_policy_id", "a trial of a policy names it")
        if self.kind != "policy" and not self.treatment:
            raise ExperimentInvalid("treatment", f"say what the treated get, for {self.kind}")
        if self.kind == "pay" and self.unit != "project":
            raise ExperimentInvalid(
                "unit", "pay is tried by project, so that two people on one task are paid alike"
            )
        if self.kind != "policy":
            check_treatment(self.kind, self.treatment or {})
        if self.project_id is not None and self.unit == "project":
            raise ExperimentInvalid("unit", "one project has no arms; try by expert")


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that a treatment names: a text of so many characters, or a whole number up to it.

    Units: hundredths of a per cent for a raise; characters for a text.
    """

    most: int
    is_text: bool = True
    is_needed: bool = True


TREATMENTS: Mapping[str, Mapping[str, Setting]] = {
    "pay": {"raise_basis_points": Setting(10_000, is_text=False)},
    "instructions": {"text": Setting(20_000)},
    "tool_version": {
        "tool": Setting(100),
        "version": Setting(100),
        "instead_of": Setting(100, is_needed=False),
    },
    "draft": {"text": Setting(50_000, is_needed=False), "field": Setting(100, is_needed=False)},
}
"""What the treated may get, by kind: a raise over the pay in force, never less; the text of
instructions in the place of the task's own; the version of a tool, and the one that it replaces;
a draft to begin from, the same for every task or each task's own, out of a field of its payload.
"""


def check_treatment(kind: str, treatment: Mapping[str, object]) -> None:
    """Make sure that a treatment is one that can be given.

    Raises:
        ExperimentInvalid.
    """
    settings = TREATMENTS[kind]
    for name in treatment:
        if name not in settings:
            known = ", ".join(settings)
            raise ExperimentInvalid("treatment", f"{name[:64]!r} is none of {known}, for {kind}")
    for name, setting in settings.items():
        given = treatment.get(name)
        if given is None and setting.is_needed:
            raise ExperimentInvalid("treatment", f"{kind} needs {name}")
        if given is None:
            continue
        if setting.is_text:
            if not isinstance(given, str) or not 1 <= len(given.strip()) <= setting.most:
                raise ExperimentInvalid(
                    "treatment", f"{name} is a text of 1 to {setting.most} characters"
                )
        elif type(given) is not int or not 1 <= given <= setting.most:
            raise ExperimentInvalid(
                "treatment",
                f"{name} is a whole number from 1 to {setting.most}; pay is raised, never cut",
            )
    if kind == "draft" and len(treatment) != 1:
        raise ExperimentInvalid("treatment", "a draft is either a text or a field of the payload")


@dataclass(frozen=True, slots=True)
class Tried:
    """An arm as an offer was made in it; `kept` is what an earlier experiment promoted."""

    experiment_id: UUID
    kind: str
    arm: str
    treatment: Mapping[str, object]

    def told(self) -> dict[str, str]:
        """As the terms of the offer keep it."""
        return {"experiment_id": str(self.experiment_id), "kind": self.kind, "arm": self.arm}


@dataclass(frozen=True, slots=True)
class Guidance:
    """What an expert gets with a task beside its payload; `without` are fields of the payload that
    are not shown, because they are what is tried.
    """

    instructions: str | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    draft: str | None = None
    without: frozenset[str] = frozenset()


def guidance_of(
    arms: Sequence[Tried], payload: Mapping[str, object], *, draft_field: str | None = None
) -> Guidance:
    """What an offer gives its expert for a task: by its arms, and the draft that the lab has put
    into `draft_field` of the payload. Where drafts are tried, the arm alone says who gets one.
    """
    instructions: str | None = None
    draft: str | None = None
    tools: dict[str, str] = {}
    without: set[str] = set()
    if draft_field is not None:
        without.add(draft_field)
        if all(one.kind != "draft" for one in arms):
            draft = _text_in(payload, draft_field)
    for one in arms:
        given = {name: str(value) for name, value in one.treatment.items()}
        is_given = one.arm != "control"
        if one.kind == "instructions" and is_given:
            instructions = given["text"]
        elif one.kind == "tool_version":
            version = given["version"] if is_given else given.get("instead_of")
            if version is not None:
                tools[given["tool"]] = version
        elif one.kind == "draft" and "field" in given:
            without.add(given["field"])
            if is_given:
                draft = _text_in(payload, given["field"])
        elif one.kind == "draft" and is_given:
            draft = given["text"]
    return Guidance(instructions, tools, draft, frozenset(without))


def _text_in(payload: Mapping[str, object], field: str) -> str | None:
    """A field of a payload as text; none where a task has nothing in it."""
    found = payload.get(field)
    if found is None or found == "":
        return None
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def shown_payload(payload: Mapping[str, object], guidance: Guidance) -> dict[str, object]:
    """A task's payload as the expert of an offer reads it."""
    shown = {name: one for name, one in payload.items() if name not in guidance.without}
    if guidance.instructions is not None:
        shown["instructions"] = guidance.instructions
    return shown


@dataclass(frozen=True, slots=True)
class Raise:
    """What trials of pay add to a project's rates. Units: hundredths of a per cent."""

    basis_points: int
    arms: tuple[Tried, ...]


def is_treated(salt: str, unit_id: UUID, share: float) -> bool:
    """Whether a unit is in the treated arm: the same answer at any time, on any machine.

    Source: the first 53 bits of SHA-256 over the experiment's salt and the id, as a number below 1.
    """
    digest = hashlib.sha256(salt.encode() + unit_id.bytes).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53 < share


def arm_of(salt: str, unit_id: UUID, share: float) -> str:
    """The name of a unit's arm."""
    return "treated" if is_treated(salt, unit_id, share) else "control"


@dataclass(frozen=True, slots=True)
class Trial:
    """A running trial of a policy, as the matcher sees it: whose pairs are weighed by it."""

    experiment_id: UUID
    unit: str
    salt: str
    share: float
    policy: RunPolicy
    projects: frozenset[UUID] | None
    """The projects in scope; none is all of them."""
    experts: frozenset[UUID] | None = None
    """The experts in scope; none is all of them."""

    def treats(self, ids: Sequence[UUID]) -> Bool:
        """Which experts, or projects, are treated, shape (ids,)."""
        inside = self.experts if self.unit == "expert" else self.projects
        return np.array(
            [
                (inside is None or one in inside) and is_treated(self.salt, one, self.share)
                for one in ids
            ],
            np.bool_,
        )


PAST = timedelta(days=90)
"""How long before an experiment began what came of a unit's offers says what to expect of it."""

PAST_WEIGHT = 5.0
"""Outcomes that a unit's own past has to outweigh before it is believed half, against the mean."""


@dataclass(frozen=True, slots=True, eq=False)
class UnitsPast:
    """What came of the offers of each unit before the experiment began; whoever had none is not in
    it.

    Shapes: unit, treated, predicted (units,); total and count by metric, (units,) each.
    Units: total in the metric's unit, summed over `count` outcomes; predicted the mean chance of a
        stump as the runs saw it, NaN where none said.
    """

    unit: tuple[UUID, ...]
    treated: Bool
    total: Mapping[str, Float64]
    count: Mapping[str, Float64]
    predicted: Float64

    def known(self, metric: str) -> Float64:
        """What to expect of each unit, by its past and by what was predicted, shape (units, 2)."""
        total, count = self.total[metric], self.count[metric]
        mean = total.sum() / max(count.sum(), 1.0)
        expected = (total + PAST_WEIGHT * mean) / (count + PAST_WEIGHT)
        said = ~np.isnan(self.predicted)
        usual = self.predicted[said].mean() if said.any() else 0.0
        return np.column_stack([expected, np.where(said, self.predicted, usual)])


@dataclass(frozen=True, slots=True, eq=False)
class Exposed:
    """What came of every exposed assignment so far.

    Shapes: unit, treated (assignments,); outcome and known by metric, (assignments,) each.
    """

    unit: tuple[UUID, ...]
    treated: Bool
    outcome: Mapping[str, Float64]
    known: Mapping[str, Bool]
    past: UnitsPast | None = None


@dataclass(frozen=True, slots=True)
class Looked:
    """One look at an experiment: the metric, every guardrail, time and quality, what to do."""

    primary: "Effect"
    guardrails: "Mapping[str, Effect]"
    together: "Mapping[str, Effect]"
    verdict: "Verdict"
    exposed: int


def look(exposed: Exposed, metric: str, guardrails: Sequence[str]) -> Looked:
    """The metric's and each guardrail's effect with intervals that hold at every look.

    Guardrails share one alpha, so that all of them together stop a harmless trial no oftener than
    one alone would. So do time and quality: their intervals hold all at once. What units differed
    in before the experiment began is taken out of every difference.
    """
    # SciPy takes long to load, and only this needs it.
    from matching.arm_sums import Past, cluster_sums
    from matching.experiment import Guardrail, decide, effect_of

    past = exposed.past
    units = exposed.unit if past is None else exposed.unit + past.unit
    names = {one: at for at, one in enumerate(dict.fromkeys(units))}
    cluster = np.array([names[one] for one in exposed.unit], np.int64)

    def effect(name: str, alpha: float) -> "Effect":
        on = np.flatnonzero(exposed.known[name])
        # Whoever has no known outcome yet tells nothing, and would only seem to.
        sums = cluster_sums(
            cluster[on],
            exposed.treated[on],
            exposed.outcome[name][on],
            past=None
            if past is None
            else Past([names[one] for one in past.unit], past.treated, past.known(name)),
        )
        return effect_of(sums, planned_se=METRICS[name].se, alpha=alpha)

    primary = effect(metric, ALPHA)
    found = {name: effect(name, ALPHA / len(guardrails)) for name in guardrails}
    together = {
        name: effect(name, ALPHA / len(TOGETHER)) for name in TOGETHER if name in exposed.known
    }
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    verdict = decide(
        primary if sign > 0 else _turned(primary),
        guardrails=[
            Guardrail(name, each, METRICS[name].tolerance, METRICS[name].higher_is_better)
            for name, each in found.items()
        ],
    )
    return Looked(primary, found, together, verdict, len(exposed.unit))


def _turned(effect: "Effect") -> "Effect":
    """The effect with its sign turned, for a metric of which less is better."""
    from dataclasses import replace

    return replace(effect, estimate=-effect.estimate, low=-effect.high, high=-effect.low)


def effect_told(effect: "Effect") -> Json:
    """An effect as JSON; what is not known yet is null."""
    return {
        name: _number(getattr(effect, name))
        for name in (
            "estimate",
            "low",
            "high",
            "p_value",
            "control_mean",
            "treated_mean",
            "reduction",
        )
    } | {
        "control_units": effect.clusters[0],
        "treated_units": effect.clusters[1],
        "control_assignments": effect.units[0],
        "treated_assignments": effect.units[1],
    }


def _number(amount: float) -> float | None:
    return float(amount) if np.isfinite(amount) else None
