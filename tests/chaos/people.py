"""The people of a market under chaos: each looks at what is there, does the next thing, repeats.

They speak HTTP only, and keep nothing in mind between two looks but what they were told was done. A
call that got no answer is made again later, so that a repeat must be harmless.
"""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from market.reviews.rules import REASON_CODES

PAUSE_S = 0.2
TIMEOUT_S = 20.0

WORK = {"why": "the answer kept shows it"}
FIX = {
    "fix": {"why": "the answer that was kept shows it"},
    "note": "The answer was kept, and so it can be looked at by anybody.",
}
REJECTION = {"reason_code": REASON_CODES[0], "note": "It is not what the brief asks for. " * 4}


class NoAnswer(Exception):
    """A call that was not answered, or with the news that the service is not well just now."""


class Refused(Exception):
    """A call that was answered with no."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code


@dataclass(slots=True)
class Tally:
    """What the people were told, together; the judge compares it with the rows."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    counts: Counter[str] = field(default_factory=Counter)
    submissions: set[str] = field(default_factory=set)
    votes: set[str] = field(default_factory=set)
    fixes: set[str] = field(default_factory=set)
    admissions: set[str] = field(default_factory=set)

    def count(self, what: str) -> None:
        """One more of something."""
        with self.lock:
            self.counts[what] += 1


class Person:
    """One person with a key."""

    def __init__(self, url: str, key: str, tally: Tally, seed: str) -> None:
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=TIMEOUT_S,
            trust_env=False,
        )
        self.tally = tally
        self.draw = Random(seed)

    def call(
        self, method: str, path: str, body: object = None, *, version: int = 0, **query: str
    ) -> Any:
        """One call, about this version of a thing where one is named.

        Raises:
            NoAnswer, Refused.
        """
        self.tally.count("calls")
        headers = {"If-Match": f'"{version}"'} if version else {}
        try:
            answer = self._http.request(method, path, json=body, params=query, headers=headers)
        except httpx.HTTPError as lost:
            self.tally.count("calls without an answer")
            raise NoAnswer(str(lost)) from lost
        if answer.status_code >= 500:
            self.tally.count(f"calls answered with {answer.status_code}")
            raise NoAnswer(answer.text[:200])
        if not answer.is_success:
            code = str(answer.json().get("code", ""))
            self.tally.count(f"refused: {answer.status_code} {code}")
            raise Refused(answer.status_code, code)
        return answer.json() if answer.content else None

    def live(self, stop: threading.Event) -> None:
        """Look and act until told to stop."""
        with self._http:
            while not stop.is_set():
                try:
                    is_idle = not self.act()
                except (NoAnswer, Refused):
                    is_idle = True
                stop.wait(self.draw.uniform(1, 3) if is_idle else PAUSE_S)

    def act_once(self) -> None:
        """Look and act, and leave for good.

        Raises:
            NoAnswer, Refused.
        """
        with self._http:
            self.act()

    def act(self) -> bool:
        """The next thing there is to do; whether there was one."""
        return False


class Expert(Person):
    """Takes most offers, asks the model, claims, and hands in; declines some, and leaves some."""

    def act(self) -> bool:
        """Do one step of every offer that is open."""
        did = is_at_work = False
        for state in ("active", "accepted", "pending"):
            if is_at_work and state == "accepted":
                # One session at a time.
                continue
            for offer in self.call("GET", "/v1/offers", state=state)["items"]:
                is_at_work = is_at_work or state == "active"
                try:
                    getattr(self, f"_{state}")(offer["id"], offer["version"])
                    did = True
                except Refused:
                    continue
        return did

    def _pending(self, offer: str, version: int) -> None:
        luck = self.draw.random()
        if luck < 0.1:
            self.call("POST", f"/v1/offers/{offer}/decline", {"reason": "no_time"})
            self.tally.count("offers declined")
        elif luck < 0.9:
            self.call("POST", f"/v1/offers/{offer}/accept", version=version)
            self.tally.count("offers accepted")

    def _accepted(self, offer: str, _version: int) -> None:
        self.call("POST", f"/v1/offers/{offer}/sessions")
        self.tally.count("sessions started")

    def _active(self, offer: str, _version: int) -> None:
        attempts = self.call("GET", f"/v1/offers/{offer}/attempts")["items"]
        last = attempts[-1] if attempts else None
        if last is None or last["state"] == "failed":
            question = {"prompt": f"What follows from {offer}?", "reference": "Nothing does."}
            self.call("POST", f"/v1/offers/{offer}/attempts", question)
            self.tally.count("questions asked")
            return
        if last["state"] == "sent":
            self._beat(offer)
            return
        if last["claims_stump"] is None:
            claim = {"claims_stump": self.draw.random() < 0.5}
            self.call("POST", f"/v1/attempts/{last['id']}/claim", claim)
        self._beat(offer)
        work = {"payload": WORK, "attempt_id": last["id"]}
        handed_in = self.call("POST", f"/v1/offers/{offer}/submission", work)
        with self.tally.lock:
            self.tally.submissions.add(handed_in["id"])

    def _beat(self, offer: str) -> None:
        for session in self.call("GET", "/v1/sessions", offer_id=offer)["items"]:
            if session["state"] == "running":
                pulse = {"seq": session["last_seq"] + 1, "is_active": True}
                self.call("POST", f"/v1/sessions/{session['id']}/heartbeats", pulse)


class Reviewer(Person):
    """Takes the review that waits longest, and accepts most work, some of it fixed."""

    def act(self) -> bool:
        """Vote on what was claimed, or claim."""
        mine = self.call("GET", "/v1/reviews", state="claimed")["items"]
        if not mine:
            try:
                mine = [self.call("POST", "/v1/review-claims")]
            except Refused:
                return False
        for review in mine:
            is_good, is_fixed = self.draw.random() < 0.8, self.draw.random() < 0.4
            vote = {
                "verdict": "accept" if is_good else "reject",
                "model_failed": self.draw.random() < 0.5,
                "attempt_fair": is_good,
                "seconds": 60,
                **(REJECTION if not is_good else FIX if is_fixed else {}),
            }
            self.call("POST", f"/v1/reviews/{review['id']}/vote", vote)
            with self.tally.lock:
                self.tally.votes.add(review["id"])
                if is_good and is_fixed:
                    self.tally.fixes.add(review["id"])
        return True


class Matcher(Person):
    """Someone of ops who asks for a matching run whenever the last one has ended."""

    def __init__(self, url: str, key: str, tally: Tally, seed: str, project: str) -> None:
        super().__init__(url, key, tally, seed)
        self._project = project
        self._operation = ""
        self._asked_at = 0.0

    def act(self) -> bool:
        """Ask, and wait."""
        if self._operation:
            found = self.call("GET", f"/v1/operations/{self._operation}")
            is_open = found["state"] not in ("succeeded", "failed", "cancelled")
            if is_open or time.monotonic() < self._asked_at + 5:
                return False
            self.tally.count(f"matching runs {found['state']}")
        body = {"project_id": self._project, "policy_id": None, "seed": 1}
        self._operation = self.call("POST", "/v1/matching-runs", body)["operation_id"]
        self._asked_at = time.monotonic()
        return False
