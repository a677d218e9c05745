"""A forecaster as a structure that can be kept, and back; every number to its last bit."""

from __future__ import annotations

from collections.abc import Hashable
from typing import cast

import numpy as np

from matching.archive import Plain, either, packed, pairs, singles, table, unpacked
from matching.calibration import Platt
from matching.covariates import Covariates
from matching.engine import Engine, Tuning
from matching.forecaster import Forecaster
from matching.form import Form
from matching.history import History
from matching.mixture import Elo, FixedShare, Glicko
from matching.problem import Float64, Int64
from matching.shared import Shared
from matching.signature import Signature
from matching.view import Term, View

Kept = dict[str, Plain]


def kept(model: Forecaster) -> Plain:
    """Everything that predictions and further learning hang on."""
    platt, mixture = model.platt_, model.mixture_
    return {
        "newcomers": model.newcomers,
        "half_life_days": model.half_life_days,
        "seed": model.seed,
        "daily": dict(model.daily),
        "tuning": [_marks(model.tuning_.variance), _marks(model.tuning_.drift)],
        "ridge": dict(model.tuning_.ridge),
        "views": list(model.tuning_.views),
        "tuned_rows": model.tuned_rows_,
        "stack": model.stack_,
        "platt": [platt.shift, platt.slope, platt.a, platt.b, platt.c, platt.forgetting],
        "mixture": [list(mixture.opening), list(mixture.weight), mixture.share],
        "engine": _engine(model.engine_) if model.engine_.views else None,
    }


def _marks(held: dict[tuple[str, str], float]) -> Plain:
    return [[view, term, value] for (view, term), value in held.items()]


def _engine(engine: Engine) -> Plain:
    covariates, signature, history = engine.covariates, engine.signature, engine.history
    # The item is an integer of any size and no float could hold it.
    last = np.array([held[5] for held in history.subject.values()], np.int64)
    return {
        "flags": [
            engine.contexts,
            engine.has_group,
            engine.has_domain,
            engine.has_local,
            engine.has_pair,
        ],
        "usual": engine.usual,
        "seen": engine.seen,
        "centre": engine.centre_,
        "spread": engine.spread_,
        "history_weights": list(engine.form.weights),
        "history_shift": engine.form.shift,
        "history_slopes": table(engine.form.slopes),
        "covariates": {
            "centre": covariates.centre_,
            "spread": covariates.spread_,
            "gaps": list(covariates.gaps_),
            "levels": list(covariates.is_level_),
            "knots": list(covariates.knots_),
        },
        "signature": [signature.subject_, signature.item_, signature.loading_, signature.score_],
        "history": {
            "pause": history.pause,
            "has_pair": history.has_pair,
            "expected": table({key: [value] for key, value in history.expected.items()}),
            "subject": table({k: [*h[:5], h[6]] for k, h in history.subject.items()}),
            "item": last,
            "pair": table(history.pair),
            "domain": table(history.domain),
        },
        "glicko": [table(engine.glicko.subject), table(engine.glicko.item)],
        "elo": [engine.elo.base, table(engine.elo.subject), table(engine.elo.item)],
        "running": table(engine.running),
        "views": [
            {
                "name": view.name,
                "terms": [[t.name, t.variance, t.is_refitted] for t in view.terms],
                "variance": dict(view.variance),
                "drift": dict(view.drift),
                "drift_day": dict(view.drift_day),
                "weights": view.weights_,
                "weights_variance": view.weights_variance_,
                "states": [table(state) for state in view.filter_.states],
                "shared": _shared(view.shared_),
            }
            for view in engine.views
        ],
    }


def _shared(held: Shared | None) -> Plain:
    if held is None:
        return None
    codes: list[Plain] = list(held.codes)
    names: list[Plain] = list(held.names)
    return [held.columns, names, codes, list(held.prior), held.covariance]


def restored(content: Plain) -> Forecaster:
    """The forecaster that was kept."""
    held = cast("Kept", content)
    model = Forecaster(
        newcomers=bool(held["newcomers"]),
        half_life_days=_float(held["half_life_days"]),
        seed=int(_float(held["seed"])),
        daily={k: _float(v) for k, v in cast("Kept", held["daily"]).items()},
    )
    variance, drift = cast("list[list[list[Plain]]]", held["tuning"])
    ridge = {name: _float(value) for name, value in cast("Kept", held["ridge"]).items()}
    views = tuple(str(name) for name in cast("list[Plain]", held["views"]))
    model.tuning_ = Tuning(_unmarked(variance), _unmarked(drift), ridge, views)
    model.tuned_rows_ = int(_float(held["tuned_rows"]))
    model.set_stack(_reals(held["stack"]))
    platt = model.platt_ = Platt()
    numbers = [_float(one) for one in cast("list[Plain]", held["platt"])]
    platt.shift, platt.slope, platt.a, platt.b, platt.c, platt.forgetting = numbers
    opening, weight, share = cast("list[Plain]", held["mixture"])
    model.mixture_ = FixedShare(_floats(opening), share=_float(share))
    model.mixture_.weight = _floats(weight)
    if held["engine"] is not None:
        model.engine_ = _restored_engine(cast("Kept", held["engine"]), model)
    return model


def _unmarked(marks: list[list[Plain]]) -> dict[tuple[str, str], float]:
    return {(str(view), str(term)): _float(value) for view, term, value in marks}


def _restored_engine(held: Kept, model: Forecaster) -> Engine:
    engine = Engine(model.tuning_, half_life_days=model.half_life_days, daily=model.daily)
    flags = cast("list[int]", held["flags"])
    engine.contexts = int(flags[0])
    engine.has_group, engine.has_domain, engine.has_local, engine.has_pair = map(bool, flags[1:])
    engine.usual = _float(held["usual"])
    # Versions from before this was counted said nothing of it, and go on saying nothing.
    engine.seen = _float(held.get("seen", np.inf))
    engine.centre_, engine.spread_ = _reals(held["centre"]), _reals(held["spread"])
    form = engine.form = Form()
    form.weights = _floats(held["history_weights"])
    form.shift = _float(held["history_shift"])
    if "history_slopes" in held:
        form.slopes = singles(held["history_slopes"])
    engine.covariates = _restored_covariates(cast("Kept", held["covariates"]))
    signature = engine.signature = Signature()
    subject, item, loading, score = cast("list[Plain]", held["signature"])
    signature.subject_, signature.item_ = _integers(subject), _integers(item)
    signature.loading_, signature.score_ = _reals(loading), _reals(score)
    signature.dimensions_ = signature.score_.shape[1]
    past = cast("Kept", held["history"])
    expected = {key: value[0] for key, value in singles(past["expected"]).items()}
    history = engine.history = History(
        expected, engine.usual, _float(past["pause"]), has_pair=bool(past["has_pair"])
    )
    last = _integers(past["item"]).tolist()
    for item_code, (key, value) in zip(last, singles(past["subject"]).items(), strict=True):
        history.subject[key] = [*value[:5], item_code, value[5]]
    engine.open_expected()
    history.pair, history.domain = pairs(past["pair"]), pairs(past["domain"])
    base, subjects, items = cast("list[Plain]", held["elo"])
    engine.elo, engine.glicko = Elo(_float(base)), Glicko(_float(base))
    engine.elo.subject, engine.elo.item = singles(subjects), singles(items)
    subjects, items = cast("list[Plain]", held["glicko"])
    engine.glicko.subject, engine.glicko.item = singles(subjects), singles(items)
    engine.running = singles(held["running"])
    engine.take([_restored_view(cast("Kept", one)) for one in cast("list[Plain]", held["views"])])
    return engine


def _restored_view(held: Kept) -> View:
    terms = [
        Term(str(name), _float(variance), bool(refitted))
        for name, variance, refitted in cast("list[list[Plain]]", held["terms"])
    ]
    view = View(str(held["name"]), terms)
    for name in ("variance", "drift", "drift_day"):
        values = {key: _float(v) for key, v in cast("Kept", held[name]).items()}
        setattr(view, name, values)
    view.weights_ = _reals(held["weights"])
    view.weights_variance_ = _reals(held["weights_variance"])
    states: list[dict[Hashable, list[float]]] = [
        either(one) for one in cast("list[Plain]", held["states"])
    ]
    view.fill(states)
    # Versions of before this was learned hold nothing of it.
    if held.get("shared") is not None:
        columns, names, codes, prior, covariance = cast("list[Plain]", held["shared"])
        view.shared_ = Shared(
            int(_float(columns)),
            tuple(str(one) for one in cast("list[Plain]", names)),
            tuple(_integers(one) for one in cast("list[Plain]", codes)),
            tuple(_floats(prior)),
            _reals(covariance),
        )
    return view


def _restored_covariates(held: Kept) -> Covariates:
    covariates = Covariates()
    covariates.centre_, covariates.spread_ = _reals(held["centre"]), _reals(held["spread"])
    covariates.gaps_ = [bool(one) for one in cast("list[Plain]", held["gaps"])]
    covariates.is_level_ = [bool(one) for one in cast("list[Plain]", held["levels"])]
    covariates.knots_ = [_reals(one) for one in cast("list[Plain]", held["knots"])]
    return covariates


def _float(value: Plain) -> float:
    return float(cast("float", value))


def _floats(value: Plain) -> list[float]:
    return [_float(one) for one in cast("list[Plain]", value)]


def _reals(value: Plain) -> Float64:
    return np.asarray(value, np.float64)


def _integers(value: Plain) -> Int64:
    return np.asarray(value, np.int64)


def to_bytes(model: Forecaster) -> bytes:
    """A version of one forecaster."""
    return packed(kept(model))


def from_bytes(data: bytes) -> Forecaster:
    """The forecaster of a version; its predictions are the same to the last bit.

    Raises: NotAVersion.
    """
    return restored(unpacked(data))
