"""What every page shares: its menu, its headers, and what it says after a form."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import jinja2
from litestar import Request
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.response import Redirect, Template
from litestar.template import TemplateConfig

from market.auth import Part
from market.console import words
from market.console.visitors import Visitor
from market.db import now
from market.http import wire_id
from market.votes.rules import points_of

HERE = Path(__file__).parent
HOME = {Part.OPS: "/console/ops", Part.LAB: "/console/lab", Part.EXPERT: "/console/expert"}

MENUS: dict[Part, tuple[tuple[str, str], ...]] = {
    Part.OPS: (
        ("/console/ops", "Today"),
        ("/console/ops/runs", "Matching runs"),
        ("/console/ops/offers", "Offers"),
        ("/console/ops/experts", "Experts"),
        ("/console/ops/policies", "Policies"),
        ("/console/ops/signals", "Frontier"),
        ("/console/ops/money", "Money"),
        ("/console/ops/cases", "Cases"),
        ("/console/ops/rules", "Rules"),
        ("/console/ops/queues", "Queues"),
        ("/console/ops/audit", "Audit"),
    ),
    Part.LAB: (
        ("/console/lab", "Projects"),
        ("/console/lab/releases", "Releases"),
        ("/console/lab/money", "Spend"),
        ("/console/lab/hours", "Hours"),
        ("/console/lab/messages", "Messages"),
        ("/console/lab/webhooks", "Webhooks"),
    ),
    Part.EXPERT: (
        ("/console/expert", "Offers"),
        ("/console/expert/work", "Work"),
        ("/console/expert/earnings", "Earnings"),
        ("/console/expert/ability", "Ability"),
        ("/console/expert/tests", "Tests"),
        ("/console/expert/profile", "Profile"),
    ),
    Part.REVIEWER: (
        ("/console/reviewer", "Reviews"),
        ("/console/reviewer/earnings", "Earnings"),
    ),
}

STANDS_UNDER = {
    "/console/ops/held": "/console/ops/offers",
    "/console/ops/repairs": "/console/ops/offers",
    "/console/ops/edits": "/console/ops/offers",
    "/console/ops/people": "/console/ops/experts",
    "/console/ops/disputes": "/console/ops/cases",
    "/console/ops/webhooks": "/console/ops/queues",
    "/console/lab/invoice": "/console/lab/money",
    "/console/lab/disputes": "/console/lab/hours",
    "/console/lab/lift": "/console/lab",
    "/console/expert/submissions": "/console/expert/work",
    "/console/expert/attempts": "/console/expert/work",
    "/console/expert/disputes": "/console/expert/work",
    "/console/expert/statement": "/console/expert/earnings",
    "/console/expert/leaving": "/console/expert/profile",
    "/console/expert/cases": "/console/expert/profile",
}
"""Pages whose address does not begin as that of the item of the menu that leads to them."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:;"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """A line above a page that says what just happened."""

    text: str
    tone: str = ""


def _wire(value: UUID, prefix: str) -> str:
    return wire_id(prefix, value)


def template_config() -> TemplateConfig[JinjaTemplateEngine]:
    """The pages' templates; a name that a page forgot to give is an error and not a blank."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        capital=words.capital,
        count=words.count,
        day=words.day,
        domain=words.domain,
        duration=words.duration,
        facts=words.facts,
        last_day=words.last_day,
        left=words.left,
        money=words.money,
        named_state=words.named_state,
        points=points_of,
        reasons=words.reasons,
        share=words.share,
        tone=words.tone,
        when=words.when,
        wire=_wire,
        words=words.words,
    )
    return TemplateConfig(instance=JinjaTemplateEngine.from_environment(environment))


def visitor_of(request: Request[Any, Any, Any]) -> Visitor | None:
    """Whoever looks at the page, if anyone came in."""
    state = request.scope["state"]
    visitor: Visitor | None = state.get("visitor") if state.get("principal") else None
    return visitor


def page(
    request: Request[Any, Any, Any],
    template: str,
    *,
    status: int = 200,
    notice: Notice | None = None,
    **context: object,
) -> Template:
    """A page in the frame, for whoever looks at it."""
    visitor = visitor_of(request)
    here = request.url.path
    menu = []
    if visitor is not None:
        items = MENUS[visitor.principal.part]
        place = STANDS_UNDER.get("/".join(here.split("/")[:4]), here)
        best = max(
            (h for h, _ in items if place == h or place.startswith(h + "/")), key=len, default=""
        )
        menu = [{"href": href, "label": label, "is_here": href == best} for href, label in items]
    said = request.query_params.get("said")
    if notice is None and said:
        notice = SAID.get(said)
    return Template(
        template,
        context={
            "visitor": visitor,
            "menu": menu,
            "notice": notice,
            "here": here,
            "at": now(),
            **context,
        },
        status_code=status,
        headers=HEADERS,
    )


SAID = {
    "leaves": Notice("You leave. What is left to do, and what you are owed, stands here."),
    "stays": Notice("The departure is called off; work is offered again."),
    "country-closed": Notice("The country is closed. Its experts begin to leave within minutes."),
    "country-opened": Notice("The country is open again; its departures are called off."),
    "accepted": Notice("The offer is yours. Its terms are fixed as shown; start when you like."),
    "declined": Notice("You declined the offer. This has no effect on how you are seen."),
    "started": Notice("The clock runs. Keep this page open while you work."),
    "ended": Notice("The clock has stopped. Every counted minute stands below."),
    "requested": Notice("The matching run was asked for; this page shows how far it is."),
    "proposed": Notice("Published. What it would change stands below; nothing obeys it yet."),
    "policy-approved": Notice("Approved, in your name. It may be put to use now."),
    "policy-used": Notice("Runs that name no policy obey this version from now on."),
    "policy-returned": Notice("The policy that was obeyed before is obeyed again."),
    "target-set": Notice("Wanted from now on. A miss is told of once, when it begins."),
    "target-ended": Notice("No longer wanted."),
    "rule-written": Notice("Written down. Try it on history; nobody is touched by that."),
    "rule-simulate": Notice("Tried. Whom it would have hit stands below."),
    "rule-start": Notice("In force, in your name. It looks at everybody each quarter of an hour."),
    "rule-end": Notice("It has ended. What it did stands until its end or an appeal."),
    "designed": Notice("Written down. Nothing is tried before you start it."),
    "experiment-start": Notice("It runs. The next runs draw their pairs by arm."),
    "experiment-look": Notice("Looked at. An extra look changes nothing: intervals hold at all."),
    "experiment-finish": Notice("It has ended. Everybody is back in the control."),
    "experiment-drop": Notice("Dropped. Nobody was touched."),
    "experiment-promote": Notice("Kept, in your name. One click takes a policy back."),
    "dispute-open": Notice("Asked. The other side answers within three working days."),
    "contested": Notice("Contested. That part of the pay waits; the expert answers."),
    "dispute-answer": Notice("Answered. Somebody decides who is no side of it."),
    "dispute-withdraw": Notice("Taken back. What was held is paid."),
    "dispute-appeal": Notice("Appealed. Another person decides it again."),
    "dispute-decide": Notice("Decided, in your name. Both sides read your reasons."),
    "fraud-open": Notice("Opened. Its author is told and answers; another person decides."),
    "fraud-answer": Notice("Said. It is read before anything is decided."),
    "fraud-appeal": Notice("Appealed. A third person decides it again within a week."),
    "fraud-decide": Notice("Decided, in your name. The author reads your reasons."),
    "fraud-decide-appeal": Notice("Decided for good, in your name. The author reads your reasons."),
    "message-sent": Notice("On its way: each gets one copy, as each chose to be told."),
    "alarm-seen": Notice("Noted, in your name. The alarm stands under those looked at."),
    "item-decided": Notice("Decided, in your name. Sittings that it touches are graded again."),
    "release-told": Notice("Told. Nothing is tested with it before you put tasks to it."),
    "release-calibrate": Notice("Its tasks are chosen, and go to experts as ever."),
    "release-settle": Notice("Settled. What was decided so far says how able it is."),
    "release-adopt": Notice("Your projects test it from the next task on."),
    "release-withdraw": Notice("Withdrawn. Its tasks are put to the earlier version."),
    "checking": Notice("The run is solved once more; this page says whether the answer is equal."),
    "preview-stopped": Notice("It is stopped. Nothing comes of it."),
    "run-cancelled": Notice("The run is stopped. It leaves no offer."),
    "letter-replay": Notice("The job is queued once more, with all its retries."),
    "letter-drop": Notice("The job is dropped, with your reason."),
    "appeal-take": Notice("The appeal is yours to decide."),
    "appeal-decide": Notice("Decided. Whoever appealed reads your reasons."),
    "case-decide": Notice("Decided, in your name."),
    "payrun": Notice("The payout run was asked for; this page follows it."),
    "payrun-stopped": Notice(
        "The run is stopped. What it had not sent is taken out, and owed again."
    ),
    "payout-withdraw": Notice("The payout is taken out. Its money is owed again."),
    "payout-recall": Notice("Stripe is asked for the money; it is owed again when it is back."),
    "payout-again": Notice("A second payout for the period is prepared."),
    "hold-ended": Notice("The hold has ended. The payout goes on as far as nothing else holds it."),
    "call-approved": Notice("Noted: it never happened. Its money is free again."),
    "books-checking": Notice("All of the books are being checked; what is found will stand here."),
    "reconciling": Notice("Stripe and the books are being matched; the proof follows."),
    "break-take": Notice("The difference is yours to look into."),
    "break-end": Notice("The difference has ended, with your reason."),
    "evidence": Notice("The answer is on its way to the bank."),
    "asked": Notice("The question is on its way; the answer appears below by itself."),
    "claimed": Notice("You claim a stump. Hand it in below, and reviewers look at it."),
    "conceded": Notice("Noted: the model was right. Your time is paid all the same."),
    "draft": Notice("Your draft is kept. Nobody else sees it while this work is yours."),
    "plan-set": Notice("Work that comes in is reviewed so from now on."),
    "begun": Notice("What was left is your draft now. Change what is wrong, and go on from there."),
    "handed_in": Notice("Handed in. The clock has stopped, and reviews follow."),
    "returned": Notice("The task went back. Minutes that you worked are paid."),
    "kept": Notice("You keep the task. Whoever asked reads why."),
    "asked-back": Notice("Whoever holds the task is asked, and told what silence means."),
    "asked-no-more": Notice("The request is withdrawn. The task stays where it is."),
    "repair-repair": Notice("Put right. Offers go on, and experts read what was done."),
    "repair-close": Notice("Closed. Offers go on."),
    "screened": Notice("The task was not for you. The screening is paid."),
    "applied": Notice("You asked to be taken on. Your place stands here."),
    "admitted": Notice("Admitted. The test and the promise are the same as for everybody."),
    "appealed": Notice("Your appeal is in. Somebody who had no part in it decides."),
    "sat": Notice("You sit. The clock of an item begins when you ask for it."),
    "challenged": Notice("Ops look at it. You are told if your test is graded again."),
    "key-ended": Notice("Ended. It opens nothing any more."),
    "saved": Notice("Saved. It holds from now on."),
    "payee": Notice("Stripe opens an account for you; this takes a moment."),
    "taken": Notice("This review is yours for two hours."),
    "voted": Notice("Your vote is in. Thank you."),
    "recused": Notice("You stepped back. Nothing is held against you."),
    "drafted": Notice("The draft is there. Go through the steps in any order."),
    "model": Notice("The target model is there, and its key is sealed."),
    "budgeted": Notice("The money is the project's now."),
    "drawn": Notice("Drawn. Download each batch, train on it alone, and say what came of it."),
    "reported": Notice("Thank you. What items added is worked out in a moment."),
    "gold": Notice("Added. It is put among the other tasks from now on."),
    "gold_retired": Notice("Retired. It is put to nobody any more."),
    "panel": Notice("Kept. Questions from now on go to these models."),
    "checked": Notice("Everything is there. Launch when you like."),
    "launched": Notice("The project is live. Experts get offers from the next matching run on."),
    "paused": Notice("The project is paused. Work under way goes on; no new offer is made."),
    "resumed": Notice("The project is live again."),
    "draining": Notice("No new offer is made. The project closes when the last work is decided."),
    "funding": Notice("Your bank was asked. The money can be used when it has settled."),
    "invoice": Notice("The invoice is being made. It appears below with its address."),
    "voided": Notice("Stripe is asked to take the invoice back."),
    "approved": Notice("Approved. It goes out with the next payout."),
    "endpoint": Notice("The endpoint hears what happens from now on."),
    "pinged": Notice("A test message is on its way; its log below says how it went."),
    "removed": Notice("The endpoint is gone; nothing more is sent to it."),
    "thread-opened": Notice("The thread is open. Whom it concerns is told."),
    "thread-answer": Notice("Said. Whom it concerns is told."),
    "thread-resolve": Notice("Resolved. It can be opened again."),
    "thread-reopen": Notice("Open again."),
    "unrejected": Notice("The rejection is taken back: the work is accepted."),
}
"""What a page may say after a form: named in the address, so that nothing foreign is shown."""


def back_to(path: str, said: str) -> Redirect:
    """Send the browser to a page that says what its form did."""
    return Redirect(f"{path}?said={said}", status_code=303, headers=HEADERS)
