"""Who will stump the model: the chain start, fooled, valid for an expert, a task and a model.

Each link is a `Forecaster`; what they share is how attempts become rows. Versions are bytes, named
by their digest, and a prediction of a version can be computed again to its last bit.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from matching.archive import NotAVersion, Plain, digest, packed, unpacked
from matching.attempts import Attempts
from matching.batch import predict_many
from matching.forecaster import NORMAL_90, Forecaster, Prediction
from matching.keeping import kept, restored
from matching.problem import Float64, Int64
from matching.release import ModelBelief
from matching.responses import BadResponses, Responses

__all__ = ["DAILY", "HALF_LIFE_DAYS", "STAGES", "Attempts", "Chances", "StumpModel", "mixed"]

STAGES = ("start", "fooled", "valid")

HALF_LIFE_DAYS = 90.0
"""After so many days an attempt weighs half in a refit."""

YEAR_DAYS = 365.25

DAILY: Mapping[str, float] = {"subject": 0.001, "domain": 0.001, "context0": 0.003}
"""Drift of craft, skill and target model, squared logits a day; endpoints change silently."""


@dataclass(frozen=True)
class Chances:
    """The chain for each pair; `stump` is the product, with its own uncertainty."""

    start: Prediction
    fooled: Prediction
    valid: Prediction
    stump: Prediction

    @property
    def handed_in(self) -> Prediction:
        """The chance of a stump of what is handed in: `fooled` and `valid` alone."""
        return _product([self.fooled, self.valid])


def mixed(*columns: Int64) -> Int64:
    """One code for a combination of codes, -1 where any of them is.

    Source: the finaliser of MurmurHash3 (Appleby), so that combinations rarely collide.
    """
    code = np.full(len(columns[0]), 0x9E3779B97F4A7C15, np.uint64)
    absent = np.zeros(len(code), bool)
    for column in columns:
        absent |= column == -1
        code = (code ^ column.astype(np.uint64)) * np.uint64(0xFF51AFD7ED558CCD)
        code ^= code >> np.uint64(33)
    return np.where(absent, -1, (code >> np.uint64(1)).astype(np.int64))


class StumpModel:
    """Predicts starts, fooled models and valid claims, and learns from what became of them.

    What `fit` learns: `stages_`, a Forecaster for each link; `levels_`, how many steps of
    complexity there are; `releases_`, the day on which each target model was first asked.
    """

    def __init__(self, *, half_life_days: float = HALF_LIFE_DAYS, seed: int = 0) -> None:
        self.half_life_days = half_life_days
        self.seed = seed
        self.levels_ = 0
        self.releases_: dict[int, float] = {}
        self.stages_ = {name: self._forecaster() for name in STAGES}

    def _forecaster(self) -> Forecaster:
        return Forecaster(half_life_days=self.half_life_days, seed=self.seed, daily=DAILY)

    def fit(self, attempts: Attempts) -> StumpModel:
        """Learn everything anew, the strengths of drift and priors included."""
        self._open(attempts)
        for stage in STAGES:
            self.stages_[stage] = self._forecaster().fit(self._rows(attempts, stage).known())
        return self

    def refit(self, attempts: Attempts) -> StumpModel:
        """Estimate all coefficients anew and keep what was tuned: the job of every night.

        A model that was released and not yet asked keeps what its release knew of it.
        """
        asked = set(attempts.model[np.isfinite(attempts.fooled)].tolist())
        waiting = {code: self.releases_[code] for code in self.releases_ if code not in asked}
        before = {code: self.model_effect(code) for code in waiting}
        self._open(attempts)
        for stage in STAGES:
            self.stages_[stage].refit(self._rows(attempts, stage).known())
        for code, day in waiting.items():
            self.releases_[code] = day
            for states in self._model_states():
                states[code] = [*before[code], day]
        return self

    def _open(self, attempts: Attempts) -> None:
        self.levels_ = max(int(attempts.level.max(initial=0)), 0)
        self.releases_ = {}
        for model in np.unique(attempts.model[attempts.model != -1]).tolist():
            self.releases_[model] = float(attempts.day[attempts.model == model].min())

    def _rows(self, attempts: Attempts, stage: str) -> Responses:
        steps = np.arange(1, self.levels_ + 1)
        reached = (attempts.level[:, None] >= steps).astype(np.float64)
        group = attempts.group if len(attempts.group) else np.full(len(attempts), -1, np.int64)
        borrowed = mixed(group, attempts.domain)
        wide = _columns("covariates", attempts.covariates, len(attempts))
        if stage == "valid":
            wide = np.concatenate([wide, _columns("late", attempts.late, len(attempts))], axis=1)
        weight = attempts.valid_weight if stage == "valid" else np.zeros(0)
        context = np.column_stack([borrowed])
        rising = np.zeros((len(attempts), 0))
        if stage == "start":
            # Who begins does not depend on the model; long tasks may well put people off.
            wide = np.concatenate([wide, reached], axis=1)
        elif stage == "fooled":
            both = mixed(attempts.model, attempts.domain)
            context = np.column_stack([attempts.model, both, borrowed])
            rising = reached
        else:
            wide = np.concatenate([wide, reached], axis=1)
            context = np.column_stack([attempts.model, borrowed])
        return Responses(
            subject=attempts.expert,
            item=attempts.task,
            group=attempts.domain,
            time=attempts.day,
            outcome=attempts.outcome(stage),
            weight=weight,
            context=context,
            covariates=wide,
            rising=rising,
        )

    def predict(self, attempts: Attempts) -> Chances:
        """The chain for each pair, from the present state; nothing is learned."""
        start, fooled, valid = (
            self.stages_[stage].predict(self._rows(attempts, stage)) for stage in STAGES
        )
        return Chances(start, fooled, valid, _product([start, fooled, valid]))

    def predict_many(self, attempts: Attempts) -> Chances:
        """What `predict` says, but for rounding, of very many pairs in a fraction of the time."""
        start, fooled, valid = (
            predict_many(self.stages_[stage], self._rows(attempts, stage)) for stage in STAGES
        )
        return Chances(start, fooled, valid, _product([start, fooled, valid]))

    def observe(self, attempts: Attempts) -> StumpModel:
        """Learn outcomes that became known, in the order in which they did."""
        for model, day in zip(attempts.model.tolist(), attempts.day.tolist(), strict=True):
            if model != -1:
                self.releases_.setdefault(model, day)
        for stage in STAGES:
            rows = self._rows(attempts, stage).known()
            if len(rows):
                self.stages_[stage].observe(rows)
        return self

    # --- A new target model -------------------------------------------------------------------

    def release_prior(self, model: int, *, day: float, vendor: Int64) -> ModelBelief:
        """What to expect of a model that nobody has asked, from all that were; nothing is learned.

        Shapes: vendor (models,), the vendor's earlier models.
        """
        known = [code for code in self.releases_ if code != model]
        return ModelBelief.of(
            np.array([-self.model_effect(code)[0] for code in known]),
            np.array([self.releases_[code] for code in known]) / YEAR_DAYS,
            np.isin(np.array(known, np.int64), vendor),
            release_date=day / YEAR_DAYS,
            release_vendor=True,
        )

    def new_model_release(self, model: int, *, day: float, vendor: Int64) -> ModelBelief:
        """Give a model that nobody has asked its prior, and return it for calibration.

        What is returned proposes tasks and learns their outcomes, with `without_model` for what
        the tasks are like; `calibrated` puts what it has learned into force. Shapes: as above.
        """
        belief = self.release_prior(model, day=day, vendor=vendor)
        self.releases_[model] = day
        self.calibrated(model, belief, day=day)
        return belief

    def calibrated(self, model: int, belief: ModelBelief, *, day: float) -> StumpModel:
        """Let predictions for a model follow what its runs have shown from here on."""
        return self.believe(model, -belief.mean, belief.sd**2, day=day)

    def believe(self, model: int, mean: float, variance: float, *, day: float) -> StumpModel:
        """Put what was found of a target model elsewhere, or before, into force.

        Units: mean in logits, variance in squared logits.
        """
        self.releases_.setdefault(model, day)
        for states in self._model_states():
            states[model] = [mean, variance, day]
        return self

    def without_model(self, attempts: Attempts) -> tuple[Float64, Float64]:
        """Mean and variance of the logit of being fooled, the target model's effect left out.

        This is the base of the tasks that a `ModelBelief` predicts and learns from.
        """
        nobody = np.full(len(attempts), -1, np.int64)
        said = self.stages_["fooled"].predict(self._rows(replace(attempts, model=nobody), "fooled"))
        return said.logit, said.logit_sd**2

    def model_effect(self, model: int) -> tuple[float, float]:
        """Mean and variance of what a target model adds to the logit of being fooled."""
        found = [states[model] for states in self._model_states() if model in states]
        if not found:
            return 0.0, 0.5
        mean = sum(state[0] for state in found) / len(found)
        return mean, sum(state[1] for state in found) / len(found)

    def shared_sd(self, attempts: Attempts) -> Float64:
        """What is not known of everybody at once: of the level, the target model and the domain.

        Standard deviation of the logit of a stump that pairs have in common with all others, to be
        asked of pairs of nobody in particular; (rows,) logits. Learned by refits alone.
        """
        said = self.predict(attempts)
        links = (said.start, said.fooled, said.valid)
        found = np.zeros(len(attempts))
        for stage, link in zip(STAGES, links, strict=True):
            own = self.stages_[stage].engine_.shared_variance(self._rows(attempts, stage))
            found += ((1 - link.mean) / (1 - said.stump.mean)) ** 2 * own
        return np.asarray(np.sqrt(found), np.float64)

    def _model_states(self) -> list[dict[Hashable, list[float]]]:
        found = []
        for view in self.stages_["fooled"].engine_.views:
            for term, states in zip(view.terms, view.filter_.states, strict=True):
                if term.name == "context0":
                    found.append(states)
        return found

    # --- Versions -----------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """This version: all parameters and all states."""
        content: dict[str, Plain] = {
            "half_life_days": self.half_life_days,
            "seed": self.seed,
            "levels": self.levels_,
            "models": np.array(list(self.releases_), np.int64),
            "days": np.array(list(self.releases_.values()), np.float64),
            "stages": {name: kept(stage) for name, stage in self.stages_.items()},
        }
        return packed(content)

    @property
    def version(self) -> str:
        """The name of this state: the digest of its bytes."""
        return digest(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> StumpModel:
        """The model of a version.

        Raises: NotAVersion.
        """
        content = unpacked(data)
        if not isinstance(content, dict) or "stages" not in content:
            raise NotAVersion("these bytes hold no stump model")
        model = cls(
            half_life_days=float(cast("float", content["half_life_days"])),
            seed=int(cast("int", content["seed"])),
        )
        model.levels_ = int(cast("int", content["levels"]))
        codes, days = cast("Int64", content["models"]), cast("Float64", content["days"])
        model.releases_ = dict(zip(codes.tolist(), days.tolist(), strict=True))
        stages = cast("dict[str, Plain]", content["stages"])
        model.stages_ = {name: restored(stages[name]) for name in STAGES}
        return model


def _columns(name: str, table: Float64, rows: int) -> Float64:
    if not table.size:
        return np.zeros((rows, table.shape[1] if table.ndim == 2 else 0))
    if table.ndim != 2 or len(table) != rows:
        raise BadResponses(name, -1, f"has shape {table.shape}, not ({rows}, columns)")
    return table


def _product(links: list[Prediction]) -> Prediction:
    """The product of the links' probabilities; its variance by the delta method on logits."""
    mean = np.prod([link.mean for link in links], axis=0)
    mean = np.clip(mean, 1e-12, 1 - 1e-12)
    # The derivative of logit(p1 p2 p3) by logit(p1) is (1 - p1) / (1 - p1 p2 p3).
    share = [((1 - link.mean) / (1 - mean) * link.logit_sd) ** 2 for link in links]
    sd = np.sqrt(np.sum(share, axis=0))
    logit = np.log(mean) - np.log1p(-mean)
    low = 1 / (1 + np.exp(-(logit - NORMAL_90 * sd)))
    high = 1 / (1 + np.exp(-(logit + NORMAL_90 * sd)))
    return Prediction(mean, logit, sd, low, high)
