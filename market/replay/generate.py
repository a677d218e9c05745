"""A market made up from a seed, with the shape of real ones.

Few people bring most of what counts: craft is drawn from a heavy-tailed distribution. Pay runs over
four tiers from 22 to 150 US dollars an hour. Each task is harder for the model or for the people;
who meets whom is left to the matcher, and what happens then follows from craft, domain and task.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from market.replay.script import (
    AttemptLine,
    ExpertLine,
    PairLine,
    Script,
    TaskLine,
    Terms,
    VoteLine,
)

FIELDS = (
    "chemistry.organic",
    "chemistry.physical",
    "biology.cell",
    "law.contracts",
    "mathematics.analysis",
    "physics.optics",
    "medicine.cardiology",
    "economics.macro",
)
TIERS = (("T1", 0.25), ("T2", 0.35), ("T3", 0.30), ("T4", 0.10))
COUNTRIES = ("US", "GB", "DE", "IN", "BR", "KE", "JP", "CA")
ZONES = {
    "US": "America/New_York",
    "GB": "Europe/London",
    "DE": "Europe/Berlin",
    "IN": "Asia/Kolkata",
    "BR": "America/Sao_Paulo",
    "KE": "Africa/Nairobi",
    "JP": "Asia/Tokyo",
    "CA": "America/Toronto",
}
GIVEN = (
    "Ada", "Emil", "Mara", "Kofi", "Ines", "Jun", "Lena", "Omar", "Priya", "Tomas",
    "Yuki", "Zoe", "Noor", "Pavel", "Rosa", "Sven", "Amina", "Bela", "Chidi", "Dora",
)  # fmt: skip
FAMILY = (
    "Adler", "Bianchi", "Castro", "Dlamini", "Eriksen", "Fischer", "Gupta", "Haddad", "Ito",
    "Jansen", "Kimani", "Lindgren", "Moreau", "Novak", "Okafor", "Petrov", "Quispe", "Rossi",
)  # fmt: skip
QUESTIONS = {
    "chemistry": "Predict the major product and say why the minor one is minor",
    "biology": "Name the step that fails and the assay that would show it",
    "law": "Find the clause that voids the indemnity and cite the rule",
    "mathematics": "Give a counterexample or prove that there is none",
    "physics": "Estimate the aberration and name the approximation that breaks first",
    "medicine": "Choose the next test and say which result would change the plan",
    "economics": "State which assumption carries the conclusion and drop it",
}
WEEK_S = 7 * 86_400
LATER = timedelta(hours=4)
"""How long ago the first work of everybody ended, so that more can follow before now."""


class Drawn:
    """Behaviour drawn from craft and difficulty; the same seed gives the same market.

    Each draw is made from the names that it concerns, so that it does not depend on the order in
    which offers are made.
    """

    def __init__(
        self,
        seed: int,
        craft: dict[str, float],
        hardness: dict[str, float],
        expected_s: dict[str, int],
        raters: Sequence[str],
        votes_each: int,
    ) -> None:
        self._seed = seed
        self._craft = craft
        self._hardness = hardness
        self._expected_s = expected_s
        self._raters = list(raters)
        self._votes_each = votes_each
        self._busy_from: dict[str, datetime] = {}
        self._busy_until: dict[str, datetime] = {}

    def attempt_of(
        self, expert: str, task: str, at: datetime, worked_until: datetime | None = None
    ) -> AttemptLine | None:
        """Some work on the task; one in twenty never starts.

        Nothing is made up that is still to come, so that what is left standing can be gone on with.
        What is done first lies some hours behind, each thing before the one made up earlier; the
        hours since are for what is done next, in their order, while there is time.
        """
        draw = self._draw(expert, task)
        if draw.random() < 0.05:
            return None
        active = int(np.clip(draw.lognormal(np.log(self._expected_s[task] * 0.6), 0.4), 60, 3500))
        gap = timedelta(seconds=int(draw.integers(30, 900)))
        if worked_until is None:
            sent = self._busy_from.get(expert, at - LATER) - gap
            self._busy_from[expert] = sent - timedelta(seconds=active + 5)
        else:
            since = max(worked_until, at - LATER, self._busy_until.get(expert, worked_until))
            sent = since + gap + timedelta(seconds=active)
            if sent >= at:
                return None
            self._busy_until[expert] = sent
        return AttemptLine(
            attempt=f"{expert}/{task}",
            expert=expert,
            task=task,
            sent_at=sent,
            active_s=active,
            prompt=f"{QUESTIONS[self._field(task)]} (case {task}, asked by {expert}).",
            # The stand-in for the model answers by its own rules.
            answer="",
        )

    def votes_on(self, attempt: AttemptLine) -> Sequence[VoteLine]:
        """Raters see the truth with some noise; each rater is as reliable as the next."""
        draw = self._draw(attempt.expert, attempt.task, "votes")
        edge = self._craft[attempt.expert] - self._hardness[attempt.task]
        failed = draw.random() < 1 / (1 + np.exp(-edge))
        fair = draw.random() < 0.85
        chosen = draw.permutation(len(self._raters))[: self._votes_each]
        return [
            VoteLine(
                attempt=attempt.attempt,
                rater=self._raters[int(index)],
                model_failed=bool(failed ^ (draw.random() < 0.1)),
                attempt_fair=bool(fair ^ (draw.random() < 0.08)),
                seconds=int(draw.integers(40, 600)),
            )
            for index in chosen
        ]

    def _draw(self, *names: str) -> np.random.Generator:
        text = "|".join((str(self._seed), *names)).encode()
        return np.random.default_rng(int.from_bytes(hashlib.sha256(text).digest()[:8], "big"))

    @staticmethod
    def _field(task: str) -> str:
        return task.split("-")[0]


def generate_market(seed: int = 1, *, experts: int = 100, tasks: int = 300) -> Script:
    """A market of some experts and tasks, one lab, and six raters."""
    draw = np.random.default_rng(seed)
    people: list[ExpertLine] = []
    craft: dict[str, float] = {}
    for number in range(experts):
        name = f"{GIVEN[number % len(GIVEN)]} {FAMILY[(number * 7 + number // 20) % len(FAMILY)]}"
        expert = f"{name.lower().replace(' ', '.')}.{number}"
        home = FIELDS[int(draw.integers(len(FIELDS)))]
        second = FIELDS[int(draw.integers(len(FIELDS)))]
        tier = str(draw.choice([t for t, _ in TIERS], p=[share for _, share in TIERS]))
        country = str(draw.choice(COUNTRIES))
        # Heavy tails in craft and in volume: few people bring most, as in the public records.
        craft[expert] = float(1.6 * np.log(draw.pareto(1.2) + 0.1))
        people.append(
            ExpertLine(
                expert=expert,
                domains=tuple(dict.fromkeys((home, second))),
                pay_tier=tier,
                capacity=min(40, 2 + int(3 * draw.pareto(1.2))),
                weekly_hours=int(draw.integers(10, 41)),
                country=country,
                timezone=ZONES[country],
                headline=f"{name}, {home.split('.')[1]} ({home.split('.')[0]})",
            )
        )
    work: list[TaskLine] = []
    hardness: dict[str, float] = {}
    for number in range(tasks):
        field = FIELDS[int(draw.integers(len(FIELDS)))]
        task = f"{field.split('.')[0]}-{number:04d}"
        complexity = int(draw.integers(1, 5))
        hardness[task] = float(draw.normal(0.9 - 0.35 * complexity, 0.5))
        work.append(
            TaskLine(
                task=task,
                domain=field,
                instructions=QUESTIONS[field.split(".")[0]] + ".",
                expected_s=600 * complexity,
                complexity=complexity,
            )
        )
    pairs = _inclinations(draw, people, work)
    raters = [f"rater-{number}" for number in range(6)]
    expected = {line.task: line.expected_s for line in work}
    return Script(
        title=f"generated market, seed {seed}",
        terms=Terms(
            name="Frontier questions, round 1",
            brief="Short expert questions on which the target model is confident and wrong.",
            domains=FIELDS,
            # Enough for every seat at the highest tier up to its cap of an hour, with the fee.
            budget_minor=tasks * 15_000 * 12 // 10 + 100_00,
            reviews=3,
            work_ttl_s=WEEK_S,
            review_ttl_s=WEEK_S,
        ),
        experts=people,
        tasks=work,
        pairs=pairs,
        raters=raters,
        behaviour=Drawn(seed, craft, hardness, expected, raters, 3),
    )


def _inclinations(
    draw: np.random.Generator, people: list[ExpertLine], work: list[TaskLine]
) -> list[PairLine]:
    """What experts said of some tasks of their fields before the market opened."""
    by_field: dict[str, list[str]] = {}
    for line in work:
        by_field.setdefault(line.domain, []).append(line.task)
    pairs = []
    for person in people:
        for field in person.domains:
            open_tasks = by_field.get(field, [])
            some = draw.permutation(len(open_tasks))[: max(1, len(open_tasks) // 3)]
            pairs += [
                PairLine(person.expert, open_tasks[int(i)], round(float(draw.beta(2, 2)), 3))
                for i in some
            ]
    return pairs
