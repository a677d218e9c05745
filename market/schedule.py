"""TABLE: time -> the job that runs then."""

from datetime import timedelta

from market.admissions.jobs import admit_waiting, follow_admissions
from market.alarms.jobs import read_frontier, watch_calibration, watch_known_votes
from market.appeals.jobs import miss_appeals
from market.approvals.jobs import approve_silent_lines, close_weeks
from market.audit.jobs import link_audit
from market.books.jobs import check_books, keep_books, prove_books
from market.clock import Entry
from market.departures.jobs import advance_departures
from market.disputes.jobs import end_due_disputes
from market.eligibility.jobs import widen_tasks
from market.enough.jobs import stop_when_sure
from market.experiments.jobs import look_at_experiments
from market.frauds.jobs import miss_fraud_appeals
from market.golds.jobs import drop_stale_checks
from market.heartbeats.jobs import warn_quiet_sessions
from market.impact.jobs import watch_spreads
from market.item_banks.jobs import calibrate_banks
from market.notices.jobs import forget_old_places
from market.offers.jobs import expire_offers
from market.payout_runs.jobs import open_weekly_payouts
from market.plans.jobs import note_opened_hours
from market.qualifications.jobs import expire_qualifications
from market.quality.jobs import refit_nightly
from market.quality_rules.jobs import apply_quality_rules
from market.returns.jobs import end_due_returns
from market.reviews.jobs import requeue_reviews, tell_reviewers
from market.runs.jobs import match_market
from market.sitting_pay.jobs import pay_left_baselines
from market.sittings.jobs import end_sittings
from market.standings.jobs import lift_measures
from market.submissions.jobs import end_left_offers
from market.targets.jobs import watch_targets
from market.tasks.jobs import settle_projects
from market.time_entries.jobs import confirm_recorded_time
from market.treasury.jobs import (
    catch_up_stripe,
    chase_invoices,
    reconcile_stripe,
    review_held_payouts,
    sweep_stripe,
    watch_budgets,
    write_off_recoveries,
)
from market.votes.jobs import approve_by_silence
from market.work.jobs import end_lost_sessions

TIMETABLE: tuple[Entry, ...] = (
    Entry(expire_offers, every=timedelta(seconds=10)),
    Entry(widen_tasks, every=timedelta(seconds=10)),
    Entry(note_opened_hours, every=timedelta(minutes=1)),
    Entry(end_lost_sessions, every=timedelta(seconds=30)),
    Entry(warn_quiet_sessions, every=timedelta(seconds=30)),
    Entry(end_left_offers, every=timedelta(minutes=1)),
    Entry(end_due_returns, every=timedelta(minutes=1)),
    Entry(approve_by_silence, every=timedelta(minutes=1)),
    Entry(expire_qualifications, every=timedelta(minutes=1)),
    Entry(end_sittings, every=timedelta(seconds=30)),
    Entry(miss_appeals, every=timedelta(minutes=1)),
    Entry(miss_fraud_appeals, every=timedelta(minutes=1)),
    Entry(lift_measures, every=timedelta(minutes=1)),
    Entry(advance_departures, every=timedelta(minutes=5), after=timedelta(minutes=2)),
    Entry(follow_admissions, every=timedelta(minutes=5), after=timedelta(minutes=1)),
    Entry(admit_waiting, every=timedelta(minutes=5), after=timedelta(minutes=2)),
    Entry(apply_quality_rules, every=timedelta(minutes=15)),
    Entry(watch_targets, every=timedelta(minutes=1)),
    Entry(look_at_experiments, every=timedelta(minutes=5)),
    Entry(requeue_reviews, every=timedelta(minutes=1)),
    Entry(stop_when_sure, every=timedelta(seconds=20)),
    Entry(confirm_recorded_time, every=timedelta(hours=1)),
    Entry(drop_stale_checks, every=timedelta(hours=1)),
    Entry(watch_spreads, every=timedelta(hours=1), after=timedelta(minutes=25)),
    Entry(watch_known_votes, every=timedelta(hours=1), after=timedelta(minutes=35)),
    # From Monday noon on the week before is credited; each hour, for what a crash left over.
    Entry(close_weeks, every=timedelta(hours=1), after=timedelta(minutes=1)),
    Entry(approve_silent_lines, every=timedelta(minutes=5)),
    Entry(end_due_disputes, every=timedelta(minutes=5)),
    # Asks for a run over everything once the last one is as old as the settings say.
    Entry(match_market, every=timedelta(minutes=1)),
    Entry(settle_projects, every=timedelta(minutes=1)),
    Entry(sweep_stripe, every=timedelta(minutes=1)),
    Entry(keep_books, every=timedelta(minutes=1)),
    Entry(link_audit, every=timedelta(minutes=1)),
    Entry(review_held_payouts, every=timedelta(hours=1), after=timedelta(minutes=20)),
    Entry(catch_up_stripe, every=timedelta(hours=1), after=timedelta(minutes=40)),
    Entry(watch_budgets, every=timedelta(minutes=10), after=timedelta(minutes=3)),
    Entry(chase_invoices, every=timedelta(hours=1), after=timedelta(minutes=50)),
    Entry(check_books, every=timedelta(days=1), after=timedelta(hours=3)),
    Entry(forget_old_places, every=timedelta(days=1), after=timedelta(hours=2)),
    # After the proof, which books what Stripe has changed into another currency.
    Entry(reconcile_stripe, every=timedelta(days=1), after=timedelta(hours=4, minutes=30)),
    Entry(write_off_recoveries, every=timedelta(days=1), after=timedelta(hours=5)),
    Entry(prove_books, every=timedelta(days=1), after=timedelta(hours=4)),
    Entry(pay_left_baselines, every=timedelta(days=1), after=timedelta(hours=6)),
    Entry(calibrate_banks, every=timedelta(days=1), after=timedelta(minutes=30)),
    Entry(tell_reviewers, every=timedelta(days=1), after=timedelta(hours=5, minutes=30)),
    Entry(refit_nightly, every=timedelta(days=1), after=timedelta(hours=1)),
    Entry(watch_calibration, every=timedelta(days=1), after=timedelta(hours=2, minutes=30)),
    Entry(read_frontier, every=timedelta(days=7), after=timedelta(hours=3, minutes=30)),
    # What was earned until Monday is paid on Wednesday evening.
    Entry(open_weekly_payouts, every=timedelta(days=7), after=timedelta(days=2, hours=18)),
)
