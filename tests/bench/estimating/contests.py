"""Judges `Standings` on dated contests: who of two ends before the other, before it is known."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.special import expit, ndtr, ndtri

from matching.problem import Float64, Int64
from matching.standings import Standings
from tests.bench.estimating.responses import intervals, reals, scored

FIT_SHARE = 0.2
FEWEST = 10
"""Contests with fewer of the sampled contestants say little and are left out."""

Chance = Callable[[Int64, Int64, float], Float64]
Learn = Callable[[Int64, Float64, int, float], object]


class RunningMean:
    """The mean of a contestant's normal scores so far, shrunk as by two averages."""

    def __init__(self, contestants: int) -> None:
        self.total, self.count = np.zeros(contestants), np.zeros(contestants)

    def chance(self, first: Int64, second: Int64, day: float) -> Float64:
        """By the difference of the means."""
        mean = self.total / (self.count + 2)
        return np.asarray(ndtr(mean[first] - mean[second]), np.float64)

    def learn(self, who: Int64, rank: Float64, field: int, day: float) -> None:
        """Add a score."""
        self.total[who] += -ndtri((rank + 0.5) / (field + 1))
        self.count[who] += 1


class EloField:
    """Elo in logits against the mean of all opponents, with a step that shrinks at first."""

    def __init__(self, contestants: int, step: float = 0.6) -> None:
        self.rating, self.count, self.step = np.zeros(contestants), np.zeros(contestants), step

    def chance(self, first: Int64, second: Int64, day: float) -> Float64:
        """By the difference of the ratings."""
        return np.asarray(expit(self.rating[first] - self.rating[second]), np.float64)

    def learn(self, who: Int64, rank: Float64, field: int, day: float) -> None:
        """Every pair of the contest is a game."""
        rating = self.rating[who]
        said = expit(rating[:, None] - rating[None])
        won = (rank[:, None] < rank[None]) + 0.5 * (rank[:, None] == rank[None])
        gap = (won - said).sum(axis=1) / max(len(who) - 1, 1)
        self.rating[who] += self.step * (1 + 8 / (1 + self.count[who])) / 3 * gap
        self.count[who] += 1


class GlickoField:
    """Glicko-1 in logits, a contest a period; opponents count for no more than twenty."""

    def __init__(self, contestants: int) -> None:
        self.rating, self.variance = np.zeros(contestants), np.full(contestants, 2.0)

    def chance(self, first: Int64, second: Int64, day: float) -> Float64:
        """By the difference of the ratings, damped by both variances."""
        both = self.variance[first] + self.variance[second]
        gap = self.rating[first] - self.rating[second]
        return np.asarray(expit(gap / np.sqrt(1 + 0.304 * both)), np.float64)

    def learn(self, who: Int64, rank: Float64, field: int, day: float) -> None:
        """Equations 8 to 10 of Glickman (1999)."""
        variance, rating = self.variance[who] + 0.02, self.rating[who]
        scale = min(len(who), 20) / max(len(who) - 1, 1) / 4
        g = 1 / np.sqrt(1 + 0.304 * variance)
        said = expit(g[None] * (rating[:, None] - rating[None]))
        won = (rank[:, None] < rank[None]) + 0.5 * (rank[:, None] == rank[None])
        np.fill_diagonal(said, 0.0)
        np.fill_diagonal(won, 0.0)
        heavy = (g[None] ** 2 * said * (1 - said)).sum(axis=1) * scale
        spread = 1 / (1 / variance + heavy)
        self.rating[who] = rating + spread * (g[None] * (won - said)).sum(axis=1) * scale
        self.variance[who] = spread


def run(root: Path) -> dict[str, object]:
    """The last four fifths of the contests, random pairs of each, newcomers apart."""
    table = pq.read_table(root / "codeforces_ranks" / "ranks.parquet")
    user = np.asarray(table["user"].to_numpy(), np.int64)
    contest, when = reals(table["contest"]), reals(table["time_s"])
    rank = (reals(table["rank_lo"]) + reals(table["rank_hi"])) / 2
    field = reals(table["n_participants"])
    order = np.lexsort((reals(table["rank_lo"]), contest, when))
    edge = np.flatnonzero(np.diff(contest[order]) != 0) + 1
    parts = [part for part in np.split(order, edge) if len(part) >= FEWEST]
    people = int(user.max()) + 1
    ours = Standings(people)
    members: dict[str, tuple[Chance, Learn]] = {"ours": (ours.chance, ours.learn)}
    for name, one in (
        ("running_mean", RunningMean(people)),
        ("elo", EloField(people)),
        ("glicko", GlickoField(people)),
    ):
        members[name] = (one.chance, one.learn)
    rng = np.random.default_rng(0)
    played = np.zeros(people, np.int64)
    said: dict[str, list[Float64]] = {name: [] for name in members}
    truth: list[Float64] = []
    fresh: list[np.ndarray[tuple[int, ...], np.dtype[np.bool_]]] = []
    cluster: list[Int64] = []
    seconds, rows = 0.0, 0
    for n, part in enumerate(parts):
        pair = rng.integers(0, len(part), (min(400, 3 * len(part)), 2))
        who, place, day = user[part], rank[part], float(when[part[0]]) / 86_400
        pair = pair[place[pair[:, 0]] != place[pair[:, 1]]]
        if n >= FIT_SHARE * len(parts):
            truth.append((place[pair[:, 0]] < place[pair[:, 1]]).astype(np.float64))
            fresh.append(np.asarray((played[who[pair]] < 3).any(axis=1), np.bool_))
            cluster.append(np.full(len(pair), n))
            for name, (chance, _) in members.items():
                said[name].append(chance(who[pair[:, 0]], who[pair[:, 1]], day))
        for name, (_, learn) in members.items():
            begun = time.process_time()
            learn(who, place, int(field[part[0]]), day)
            if name == "ours":
                seconds += time.process_time() - begun
        rows += len(part)
        played[who] += 1
    y, new = np.concatenate(truth), np.concatenate(fresh)
    chances = {name: np.concatenate(found) for name, found in said.items()}

    def told(p: Float64) -> dict[str, object]:
        return {**scored(y, p), "newcomers": scored(y[new], p[new])["log_loss"]}

    answer: dict[str, object] = told(chances["ours"])
    answer["update_us"] = round(1e6 * seconds / rows, 2)
    answer["refit_s"] = round(seconds, 3)
    answer["rows"] = {"contests": len(parts), "pairs": len(y)}
    answer["intervals"] = intervals(y, chances["ours"], np.concatenate(cluster))
    answer["baselines"] = {name: told(p) for name, p in chances.items() if name != "ours"}
    return answer
