"""Abilities and difficulties as Gaussians that every answer moves a little; constant time."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import exp, pi, sqrt

LEAST_CURVATURE = 0.01
"""Floor of p(1-p): a sure prediction that fails still moves by a bounded step."""

SQUASH = pi / 8


@dataclass(frozen=True)
class Effect:
    """One kind of state: its prior variance, and how much it drifts with each answer and each day.

    Units: squared logits; squared logits an answer; squared logits a day.
    """

    name: str
    variance: float
    drift: float = 0.0
    drift_day: float = 0.0


def sigmoid(x: float) -> float:
    """The logistic function, without overflow."""
    if x >= 0:
        return 1 / (1 + exp(-x))
    e = exp(x)
    return e / (1 + e)


class Filter:
    """States of several effects; an answer is the sum of one state of each, times its value.

    A state is [mean, variance, day of its last change]. What is unknown has its prior: mean nought
    and the full variance, so that a newcomer is uncertain and not refused.

    Source: one Newton step of the diagonal Gaussian posterior (extended Kalman filter); the
        prediction integrates the logistic by MacKay's approximation, Neural Computation 4 (1992).
    """

    def __init__(self, effects: Sequence[Effect]) -> None:
        self.effects = tuple(effects)
        self.states: list[dict[Hashable, list[float]]] = [{} for _ in self.effects]
        self._is_still = not any(effect.drift_day for effect in self.effects)
        self._gets = [
            (state.get, effect.variance)
            for state, effect in zip(self.states, self.effects, strict=True)
        ]
        self._parts = [
            (state, effect.variance, effect.drift, effect.drift_day)
            for state, effect in zip(self.states, self.effects, strict=True)
        ]
        self._steps = [(effect.variance, effect.drift) for effect in self.effects]

    def look(
        self, offset: float, keys: Sequence[Hashable], values: Sequence[float] | None, day: float
    ) -> tuple[float, float, list[list[float] | None]]:
        """Mean and variance of the logit of an answer, and its states; a key None takes no part.

        Without values every state counts once.
        """
        mean, variance = offset, 0.0
        found: list[list[float] | None] = []
        if values is None and self._is_still:
            # What nearly every answer is; all else below, at half the speed.
            # Keys are made for these effects (`row_keys`); to count them again costs a fortieth.
            for (get, prior), key in zip(self._gets, keys):  # noqa: B905
                held = get(key)
                found.append(held)
                if held is not None:
                    mean += held[0]
                    variance += held[1]
                elif key is not None:
                    variance += prior
            return mean, variance, found
        values = (1.0,) * len(keys) if values is None else values
        for (state, prior, _, daily), key, value in zip(self._parts, keys, values, strict=True):
            held = state.get(key)
            found.append(held)
            if held is not None:
                mean += value * held[0]
                spread = held[1]
                if daily:
                    spread += daily * max(day - held[2], 0.0)
                    if spread > prior:
                        spread = max(prior, held[1])
                variance += value * value * spread
            elif key is not None:
                variance += value * value * prior
        return mean, variance, found

    def learn(
        self,
        looked: tuple[float, float, list[list[float] | None]],
        keys: Sequence[Hashable],
        values: Sequence[float] | None,
        day: float,
        outcome: float,
        weight: float = 1.0,
    ) -> None:
        """Move the states of an answer that was looked at; soft outcomes have a weight."""
        mean, variance, found = looked
        p = 1 / (1 + exp(-mean)) if mean > -700.0 else 0.0
        h = p * (1 - p)
        if h < LEAST_CURVATURE:
            h = LEAST_CURVATURE
        h *= weight
        shrink = h / (1 + variance * h)
        push = weight * (outcome - p) / (1 + variance * h)
        if values is None and self._is_still and None not in found:
            for (prior, drift), held in zip(self._steps, found):  # noqa: B905  As in `look`.
                if held is not None:
                    spread = held[1]
                    held[0] += spread * push
                    moved = spread + drift - spread * spread * shrink
                    top = prior if prior > spread else spread  # noqa: FURB136  As below.
                    held[1] = moved if moved < top else top  # noqa: FURB136  As below.
                    held[2] = day
            return
        if values is None and self._is_still:
            # As below, for what meets somebody new and counts once: in the same order of sums.
            for (prior, drift), state, held, key in zip(  # noqa: B905  As in `look`.
                self._steps, self.states, found, keys
            ):
                if held is None:
                    if key is None:
                        continue
                    held = state.get(key)
                    if held is None:
                        held = state[key] = [0.0, prior, day]
                spread = held[1]
                held[0] += spread * push
                moved = spread + (drift - spread * spread * shrink)
                top = prior if prior > spread else spread  # noqa: FURB136  As below.
                held[1] = moved if moved < top else top  # noqa: FURB136  As below.
                held[2] = day
            return
        values = (1.0,) * len(keys) if values is None else values
        for part, held, key, value in zip(self._parts, found, keys, values, strict=True):
            if held is None:
                if key is None:
                    continue
                # Two rows of one newcomer may have been looked at before either was learned.
                held = part[0].get(key)
                if held is None:
                    held = part[0][key] = [0.0, part[1], day]
            _, prior, drift, daily = part
            spread = held[1]
            top = max(prior, spread)
            if daily:
                spread = min(spread + daily * max(day - held[2], 0.0), top)
            moved = spread * value
            held[0] += moved * push
            spread += drift - moved * moved * shrink
            held[1] = spread if spread < top else top  # noqa: FURB136  The call costs more.
            held[2] = day


def chance(mean: float, variance: float) -> float:
    """The probability that a Gaussian logit stands for."""
    return sigmoid(mean / sqrt(1 + SQUASH * variance))
