"""Preferences: their shape in a payload, how a response is dressed, and what they come to; pure."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np

if TYPE_CHECKING:
    from matching.style import StyleFit

FEATURES = ("length", "markdown", "emoji")
"""How responses are dressed: characters, marks of markup, emoji."""

LEAST_S = 10
"""Seconds below which a preference is taken for gut feeling, unless somebody says otherwise."""

MOST_RESPONSES = 50
MOST_COMPARISONS = 50_000
MOST_SOURCES = 100
"""Sources that are told of, the most compared; the others count as responses without one."""

MOST_PREFERENCES = 20_000
"""Submissions that one report reads, the latest first."""

BIAS_P = 0.01
"""The chance below which a preference for a way of dressing is called a bias."""

_MARKUP = re.compile(r"^#{1,6} |^\s*(?:[-*+]|\d+\.) |\*\*[^*\n]+\*\*|^```|`[^`\n]+`", re.MULTILINE)
_EMOJI = re.compile("[\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff\u2600-\u27bf]")


@dataclass(frozen=True, slots=True)
class Response:
    """One response that was compared; without a source it tells of style alone."""

    text: str
    source: str | None = None

    def dress(self) -> tuple[int, int, int]:
        """How much of each feature it has."""
        marks = len(_MARKUP.findall(self.text))
        return len(self.text), marks, len(_EMOJI.findall(self.text))


@dataclass(frozen=True, slots=True)
class Preference:
    """What one rater preferred; `rank` has each response's place, alike for what is tied.

    Units: seconds looked at it.
    """

    rater_id: UUID
    seconds: int
    responses: tuple[Response, ...]
    rank: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bias:
    """What a feature alone does to a preference; None where it never differs, or raters are few.

    Units: effect in logits for one response that has all of it beside one that has none;
        twice_chance the chance that the one with twice as much of it wins, else alike.
    """

    feature: str
    effect: float
    low: float | None
    high: float | None
    p_value: float | None
    twice_chance: float

    @property
    def is_biased(self) -> bool:
        """Whether chance alone would hardly do this."""
        return self.p_value is not None and self.p_value < BIAS_P


@dataclass(frozen=True, slots=True)
class Standing:
    """One source beside the others; worths in logits around nought."""

    source: str
    comparisons: int
    worth: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """Preferences as they are and with style held equal; standings have the best first.

    `groups` above 1 says that some sources were never compared, not even by way of others; `is_cut`
    that there were more comparisons than are counted.
    """

    preferences: int
    comparisons: int
    raters: int
    groups: int
    too_fast: int
    is_cut: bool
    raw: tuple[Standing, ...]
    controlled: tuple[Standing, ...]
    bias: tuple[Bias, ...]


def preference_of(
    payload: Mapping[str, object], *, rater_id: UUID, recorded_s: int
) -> Preference | None:
    """A payload as a preference, or None where it has not got the shape of one.

    `responses` are texts, or objects with a `text` and a `source`; `choice` is the place of the
    best, or "tie"; `ranking` lists all places, the best first. `seconds` counts as far as so much
    was recorded.
    """
    given, choice, ranking = (payload.get(one) for one in ("responses", "choice", "ranking"))
    if not isinstance(given, list) or not 2 <= len(given) <= MOST_RESPONSES:
        return None
    responses = [found for one in given if (found := _response(one)) is not None]
    if len(responses) != len(given) or (choice is None) == (ranking is None):
        return None
    places = range(len(given))
    if ranking is not None:
        if not isinstance(ranking, list) or any(type(one) is not int for one in ranking):
            return None
        if sorted(ranking) != list(places):
            return None
        rank = tuple(ranking.index(place) for place in places)
    elif choice == "tie":
        rank = (0,) * len(given)
    elif type(choice) is int and choice in places:
        # Of the rest a choice says nothing among themselves.
        rank = tuple(0 if place == choice else 1 for place in places)
    else:
        return None
    said = payload.get("seconds")
    seconds = min(said, recorded_s) if type(said) is int and said >= 0 else recorded_s
    return Preference(rater_id, seconds, tuple(responses), rank)


def report_on(preferences: Sequence[Preference], *, least_s: int) -> Report:
    """What preferences come to, those aside that took less time than `least_s` seconds."""
    # SciPy takes long to load, and only this needs it.
    from matching.style import Styled, fit_style

    slow = [one for one in preferences if one.seconds >= least_s]
    kept = _first(slow)
    named = Counter(r.source for one in kept for r in one.responses if r.source is not None)
    names = sorted(name for name, _ in named.most_common(MOST_SOURCES))
    # Whoever has no source shares the last place, against which nothing is told.
    place: dict[str | None, int] = {name: n for n, name in enumerate(names)}
    raters = {one: n for n, one in enumerate(dict.fromkeys(one.rater_id for one in kept))}
    rows: list[tuple[int, int, int, float]] = []
    style: list[list[float]] = []
    for one in kept:
        dress = [response.dress() for response in one.responses]
        for left in range(len(dress)):
            for right in range(left + 1, len(dress)):
                if one.rank[left] == one.rank[right] == 1 and _is_choice(one):
                    continue
                ours, theirs = one.responses[left].source, one.responses[right].source
                # Two of one source, or one of none, are told apart by their style alone.
                known = ours in place and theirs in place
                pair = (place[ours], place[theirs]) if known else (0, 0)
                won = 0.5 + 0.5 * np.sign(one.rank[right] - one.rank[left])
                rows.append((*pair, raters[one.rater_id], float(won)))
                style.append([_gap(a, b) for a, b in zip(dress[left], dress[right], strict=True)])
    table = np.array(rows, np.float64).reshape(len(rows), 4)
    sources = max(len(names), 1)
    seen = Styled(
        left=table[:, 0].astype(np.int64),
        right=table[:, 1].astype(np.int64),
        rater=table[:, 2].astype(np.int64),
        outcome=table[:, 3],
        style=np.array(style, np.float64).reshape(len(rows), len(FEATURES)),
        sources=sources,
    )
    raw, controlled = fit_style(seen, is_controlled=False), fit_style(seen)
    met = np.flatnonzero(seen.left != seen.right)
    counts = np.bincount(seen.left[met], minlength=sources)
    counts += np.bincount(seen.right[met], minlength=sources)
    return Report(
        preferences=len(kept),
        comparisons=len(rows),
        raters=len(raters),
        groups=raw.groups if names else 0,
        too_fast=len(preferences) - len(slow),
        is_cut=len(kept) < len(slow),
        raw=_standings(names, counts.tolist(), raw),
        controlled=_standings(names, counts.tolist(), controlled),
        bias=tuple(_bias(n, name, controlled) for n, name in enumerate(FEATURES)),
    )


def _first(preferences: Sequence[Preference]) -> list[Preference]:
    """As many as can be counted, in their order."""
    kept, pairs = [], 0
    for one in preferences:
        pairs += len(one.rank) * (len(one.rank) - 1) // 2
        if pairs > MOST_COMPARISONS:
            break
        kept.append(one)
    return kept


def _response(given: object) -> Response | None:
    if isinstance(given, str):
        return Response(given)
    if not isinstance(given, Mapping):
        return None
    text, source = given.get("text"), given.get("source")
    if not isinstance(text, str) or not (source is None or isinstance(source, str)):
        return None
    return Response(text, source or None)


def _is_choice(one: Preference) -> bool:
    return sorted(one.rank) == [0] + [1] * (len(one.rank) - 1) and len(one.rank) > 2


def _gap(left: int, right: int) -> float:
    """How much more of a feature one has, from -1, none of it, to 1, all of it."""
    return (left - right) / (left + right) if left + right else 0.0


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _standings(
    names: Sequence[str], counts: Sequence[int], fit: "StyleFit"
) -> tuple[Standing, ...]:
    found = [
        Standing(name, counts[n], float(fit.worth[n]), _known(fit.low[n]), _known(fit.high[n]))
        for n, name in enumerate(names)
    ]
    return tuple(sorted(found, key=lambda one: (-one.worth, one.source)))


def _bias(n: int, feature: str, fit: "StyleFit") -> Bias:
    effect = float(fit.effect[n])
    return Bias(
        feature=feature,
        effect=effect,
        low=_known(fit.effect_low[n]),
        high=_known(fit.effect_high[n]),
        p_value=float(fit.p_value[n]) if np.isfinite(fit.effect_low[n]) else None,
        # One that has twice as much has a third more of what both have.
        twice_chance=float(1 / (1 + np.exp(-effect / 3))),
    )
