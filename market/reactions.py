"""TABLE: event -> the jobs that follow it. What may come later is here; nothing else is later."""

from market.alarms.jobs import read_released_frontier
from market.approvals.jobs import settle_paid_time
from market.attempts.jobs import ask_model
from market.baselines.jobs import ask_eval_items, compare_baseline, pause_exhausted
from market.books.jobs import check_books_now, reconcile_now
from market.broker import Job
from market.departures.jobs import follow_departure
from market.earnings.jobs import credit_decided_time, credit_earning, credit_time
from market.events import Event
from market.golds.jobs import follow_checks
from market.impact.jobs import count_lift, measure_impact, rank_experts
from market.item_banks.jobs import calibrate_banks
from market.lifts.jobs import weigh_lift
from market.messages.jobs import tell_cohort
from market.offers.jobs import (
    withdraw_expert_offers,
    withdraw_project_offers,
    withdraw_task_offers,
)
from market.payout_runs.jobs import clear_run, run_payouts
from market.plans.jobs import (
    note_expert,
    note_import,
    note_offer,
    note_project,
    note_run,
    note_task,
)
from market.previews.jobs import preview_policy
from market.quality.jobs import learn_offer, learn_verdict, refit_stump_model, watch_frontier
from market.regrades.jobs import regrade_item
from market.releases.jobs import follow_calibration, propose_calibration, reprice_experts
from market.repairs.jobs import note_skip
from market.reviews.jobs import clear_claim, open_reviews, recuse_conflicted
from market.runs.jobs import check_run, match_anew, run_matching
from market.sitting_pay.jobs import pay_baseline, pay_sitting
from market.tasks.jobs import reseat_tasks
from market.treasury.jobs import (
    apply_stripe_event,
    create_payee,
    make_stripe_call,
    review_payee,
    send_payout,
    start_funding,
)

REACTIONS: dict[Event, tuple[Job, ...]] = {
    Event.PREVIEW_REQUESTED: (preview_policy,),
    Event.MESSAGE_ASKED: (tell_cohort,),
    Event.RUN_REQUESTED: (run_matching,),
    Event.RUN_CHECK_REQUESTED: (check_run,),
    Event.PROJECT_DRAINING: (withdraw_project_offers, note_project),
    Event.OVERLAP_CHANGED: (reseat_tasks,),
    Event.ELIGIBILITY_CHANGED: (match_anew,),
    Event.TASK_CANCELLED: (withdraw_task_offers, note_task),
    Event.STANDING_CHANGED: (withdraw_expert_offers, note_expert, follow_departure),
    Event.ATTEMPT_SENT: (ask_model,),
    Event.SUBMISSION_SUBMITTED: (open_reviews, follow_checks),
    Event.SUBMISSION_UNJUDGED: (credit_earning,),
    Event.SUBMISSION_RETURNED: (clear_claim,),
    Event.IDENTITY_CLAIMED: (recuse_conflicted,),
    Event.TIME_ENTRY_CHANGED: (credit_decided_time,),
    Event.VERDICT_CORRECTED: (credit_earning, learn_verdict),
    Event.VERDICT_RECORDED: (credit_earning, learn_verdict),
    Event.OFFER_RELEASED: (credit_time, note_offer, learn_offer, note_skip),
    Event.OFFER_ABANDONED: (credit_time, note_offer, learn_offer),
    Event.FUNDING_REQUESTED: (start_funding,),
    Event.REFUND_REQUESTED: (make_stripe_call,),
    Event.INVOICE_VOID_REQUESTED: (make_stripe_call,),
    Event.DISPUTE_EVIDENCE_REQUESTED: (make_stripe_call,),
    Event.PLATFORM_PAYOUT_REQUESTED: (make_stripe_call,),
    Event.PAYOUT_RECALL_REQUESTED: (make_stripe_call,),
    Event.RECOVERY_REVERSAL_REQUESTED: (make_stripe_call,),
    Event.RECONCILIATION_REQUESTED: (reconcile_now,),
    Event.BOOKS_CHECK_REQUESTED: (check_books_now,),
    Event.PAYEE_REQUESTED: (create_payee,),
    Event.PAYEE_READY: (review_payee,),
    Event.PAYOUT_RUN_REQUESTED: (run_payouts,),
    Event.PAYOUT_RUN_STOPPED: (clear_run,),
    Event.PAYOUT_BATCHED: (send_payout,),
    Event.PAYOUTS_LEFT: (send_payout,),
    Event.PAYOUT_PAID: (settle_paid_time,),
    Event.STRIPE_EVENT_RECEIVED: (apply_stripe_event,),
    Event.VERDICT_WEIGHED: (measure_impact, watch_frontier, follow_calibration),
    Event.FIX_WITHDRAWN: (measure_impact,),
    Event.RELEASE_TOLD: (propose_calibration,),
    Event.RELEASE_CALIBRATED: (reprice_experts, read_released_frontier),
    Event.BASELINE_ASKED: (ask_eval_items,),
    Event.BASELINE_ANSWERED: (compare_baseline, pay_baseline),
    Event.QUALITY_ALERT: (pause_exhausted,),
    Event.SITTING_ENDED: (pay_sitting,),
    Event.LIFT_REPORTED: (weigh_lift,),
    Event.LIFT_ESTIMATED: (count_lift,),
    Event.MODEL_REFITTED: (rank_experts,),
    Event.REFIT_REQUESTED: (refit_stump_model,),
    Event.RUN_FINISHED: (note_run,),
    Event.OFFER_DECLINED: (note_offer, learn_offer, note_skip),
    Event.OFFER_TIMED_OUT: (note_offer,),
    Event.OFFER_CANCELED: (note_offer,),
    Event.OFFER_COMPLETED: (note_offer,),
    Event.EXPERT_CHANGED: (note_expert,),
    Event.TASK_QUEUED: (note_task,),
    Event.TASK_HELD: (note_task,),
    Event.PROJECT_LIVE: (note_project,),
    Event.PROJECT_PAUSED: (note_project,),
    Event.BUDGET_ALLOCATED: (note_project,),
    Event.TASKS_IMPORTED: (note_import,),
    Event.EXPERTS_IMPORTED: (note_import,),
    Event.ITEMS_IMPORTED: (calibrate_banks,),
    Event.ITEM_REKEYED: (regrade_item,),
    Event.ITEM_WITHDRAWN: (regrade_item,),
}

JOBS: tuple[Job, ...] = tuple(
    {job.name: job for jobs in REACTIONS.values() for job in jobs}.values()
)
"""Every job that follows from something, once."""
