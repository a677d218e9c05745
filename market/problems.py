"""TABLE: refusal -> HTTP status and problem type (RFC 9457)."""

import re
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    SerializationException,
    ValidationException,
)
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from sqlalchemy.exc import DataError, OperationalError

from market import (
    auth,
    broker,
    egress,
    http,
    imports,
    language,
    once,
    operations,
    states,
    streams,
    uploads,
)
from market.admissions import rules as admissions
from market.alarms import rules as alarms
from market.appeals import rules as appeals
from market.attempts import rules as attempts
from market.availability import rules as availability
from market.baselines import rules as baselines
from market.books import rules as books
from market.chargebacks import rules as chargebacks
from market.deliveries import rules as deliveries
from market.departures import rules as departures
from market.disputes import rules as disputes
from market.earnings import rules as earnings
from market.edits import rules as edits
from market.eligibility import rules as eligibility
from market.errors import MarketError
from market.experiments import rules as experiments
from market.experts import rules as experts
from market.explanations import rules as explanations
from market.expressions import rules as expressions
from market.fixes import rules as fixes
from market.frauds import rules as frauds
from market.fundings import rules as fundings
from market.golds import rules as golds
from market.histories import rules as histories
from market.inbox import rules as inbox
from market.item_banks import rules as item_banks
from market.lifts import rules as lifts
from market.messages import rules as messages
from market.notices import rules as notices
from market.offers import rules as offers
from market.panels import rules as panels
from market.pay_tiers import rules as pay_tiers
from market.payees import rules as payees
from market.payout_runs import rules as payout_runs
from market.payroll import rules as payroll
from market.people import rules as people
from market.policies import rules as policies
from market.predictions import rules as predictions
from market.previews import rules as previews
from market.projects import rules as projects
from market.qualifications import rules as qualifications
from market.quality_rules import rules as quality_rules
from market.records import rules as records
from market.recoveries import rules as recoveries
from market.releases import rules as releases
from market.repairs import rules as repairs
from market.returns import rules as returns
from market.review_plans import rules as review_plans
from market.reviews import rules as reviews
from market.runs import rules as runs
from market.screeners import rules as screeners
from market.sittings import rules as sittings
from market.snapshots import rules as snapshots
from market.standings import rules as standings
from market.submissions import rules as submissions
from market.targets import rules as targets
from market.tasks import rules as tasks
from market.threads import rules as threads
from market.treasury import rules as treasury
from market.votes import rules as votes
from market.work import rules as work
from payouts import errors as money
from payouts.errors import PayoutsError

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"

PROBLEMS: dict[type[Exception], tuple[int, str]] = {
    auth.KeyMissing: (401, "key_missing"),
    auth.KeyRefused: (401, "key_refused"),
    auth.ScopeMissing: (403, "scope_missing"),
    http.NotFound: (404, "not_found"),
    http.BadCursor: (400, "bad_cursor"),
    http.UnknownParameter: (400, "unknown_parameter"),
    http.VersionMissing: (428, "version_missing"),
    http.VersionConflict: (412, "version_conflict"),
    once.IdempotencyKeyMissing: (400, "idempotency_key_missing"),
    once.IdempotencyKeyInvalid: (400, "idempotency_key_invalid"),
    once.IdempotencyKeyReused: (422, "idempotency_key_reused"),
    once.IdempotencyInFlight: (409, "idempotency_in_flight"),
    once.IdempotencyReplyLost: (409, "idempotency_reply_lost"),
    operations.OperationNotFound: (404, "not_found"),
    states.StateConflict: (409, "state_conflict"),
    people.EmailTaken: (409, "email_taken"),
    people.ClaimInvalid: (422, "claim_invalid"),
    people.EmailInvalid: (422, "email_invalid"),
    people.NameBlank: (422, "name_blank"),
    people.KeyNotFound: (404, "not_found"),
    people.PersonNotFound: (404, "not_found"),
    people.ScopesBeyond: (403, "scopes_beyond"),
    people.KeyLifetime: (422, "key_lifetime"),
    experts.ExpertNotFound: (404, "not_found"),
    experts.DomainInvalid: (422, "domain_invalid"),
    experts.TooManyDomains: (422, "too_many_domains"),
    experts.ProfileInvalid: (422, "profile_invalid"),
    availability.AvailabilityInvalid: (422, "availability_invalid"),
    experts.ProfileExists: (409, "profile_exists"),
    experts.ReasonMissing: (422, "reason_missing"),
    standings.EvidenceMissing: (422, "evidence_missing"),
    standings.MeasureUnfit: (422, "measure_unfit"),
    pay_tiers.TierInForce: (409, "tier_in_force"),
    pay_tiers.TierInPast: (409, "tier_in_past"),
    language.ExpressionInvalid: (422, "expression_invalid"),
    language.ExpressionTooLarge: (422, "expression_too_large"),
    language.FieldGone: (409, "field_gone"),
    expressions.CohortNotFound: (404, "not_found"),
    expressions.CohortNameInvalid: (422, "cohort_name_invalid"),
    expressions.TooManyCohorts: (409, "too_many_cohorts"),
    qualifications.QualificationNotFound: (404, "not_found"),
    qualifications.QualificationHeld: (409, "qualification_held"),
    qualifications.QualificationUnfit: (422, "qualification_unfit"),
    qualifications.RetakeTooSoon: (409, "retake_too_soon"),
    item_banks.ItemNotFound: (404, "not_found"),
    item_banks.ItemUnfit: (422, "item_unfit"),
    item_banks.BankMissing: (409, "item_bank_missing"),
    baselines.EvalSetNotFound: (404, "not_found"),
    baselines.EvalSetUnfit: (422, "eval_set_unfit"),
    baselines.EvalSetFull: (409, "eval_set_full"),
    baselines.EvalItemClosed: (409, "eval_item_closed"),
    baselines.EvalAnswerUnfit: (422, "eval_answer_unfit"),
    lifts.LiftStudyNotFound: (404, "not_found"),
    lifts.LiftStudyUnfit: (422, "lift_study_unfit"),
    sittings.SittingNotFound: (404, "not_found"),
    sittings.SittingHeld: (409, "sitting_held"),
    sittings.SittingsUsedUp: (409, "sittings_used_up"),
    sittings.BankExhausted: (409, "item_bank_exhausted"),
    sittings.BankOutOfReach: (409, "item_bank_out_of_reach"),
    sittings.ItemNotOpen: (409, "item_not_open"),
    sittings.AnsweredOtherwise: (409, "answered_otherwise"),
    sittings.AnswerTooLate: (409, "answer_too_late"),
    sittings.AnswerUnfit: (422, "answer_unfit"),
    projects.ProjectNotFound: (404, "not_found"),
    projects.ProjectIncomplete: (409, "project_incomplete"),
    projects.PauseReasonUnknown: (422, "pause_reason_unknown"),
    projects.MoveAutomatic: (409, "move_automatic"),
    projects.ReopenTooLate: (409, "reopen_too_late"),
    projects.ProjectFieldInvalid: (422, "project_field_invalid"),
    projects.BudgetCurrencyWrong: (422, "budget_currency_wrong"),
    projects.FundsShort: (409, "funds_short"),
    projects.TargetModelNotFound: (404, "not_found"),
    projects.BaseUrlInvalid: (422, "base_url_invalid"),
    tasks.TaskNotFound: (404, "not_found"),
    tasks.TaskMoveUnasked: (422, "task_move_unasked"),
    tasks.InterestInvalid: (422, "interest_invalid"),
    eligibility.StepsInvalid: (422, "steps_invalid"),
    eligibility.EligibilityNotFound: (404, "not_found"),
    imports.ImportNotFound: (404, "not_found"),
    imports.ImportRunning: (409, "import_running"),
    uploads.UploadTypeUnknown: (415, "upload_type_unknown"),
    uploads.UploadCut: (400, "upload_cut"),
    uploads.CharsetUnknown: (415, "charset_unknown"),
    uploads.EncodingRefused: (422, "encoding_refused"),
    uploads.HeaderRefused: (422, "header_refused"),
    uploads.FileUnreadable: (422, "file_unreadable"),
    fundings.FundingNotFound: (404, "not_found"),
    fundings.FundingAmount: (422, "funding_amount"),
    fundings.PaymentMethodInvalid: (422, "payment_method_invalid"),
    fundings.FundingWayUnclear: (422, "funding_way_unclear"),
    fundings.InvoiceTermsInvalid: (422, "invoice_terms_invalid"),
    fundings.InvoiceNotVoidable: (409, "invoice_not_voidable"),
    fundings.RefundTooLarge: (409, "refund_too_large"),
    earnings.OfferNotOver: (409, "offer_not_over"),
    chargebacks.DisputeNotFound: (404, "not_found"),
    chargebacks.DisputeAnswered: (409, "dispute_answered"),
    chargebacks.EvidenceMissing: (422, "evidence_missing"),
    earnings.LineNotFound: (404, "not_found"),
    books.BooksBroken: (500, "books_broken"),
    books.BreaksOverdue: (500, "breaks_overdue"),
    books.ProofsBroken: (500, "proofs_broken"),
    books.BreakNotFound: (404, "not_found"),
    books.BreakUnbookable: (409, "break_unbookable"),
    books.ResolutionUnknown: (422, "resolution_unknown"),
    books.ExplanationMissing: (422, "explanation_missing"),
    books.ProofNotFound: (404, "not_found"),
    books.OwnMoneyShort: (409, "own_money_short"),
    treasury.StripeDiffers: (500, "stripe_differs"),
    payees.CountryInvalid: (422, "country_invalid"),
    payees.CountryOutOfReach: (422, "country_out_of_reach"),
    payees.NotAPayee: (404, "not_a_payee"),
    payees.OnboardingNotReady: (409, "onboarding_not_ready"),
    departures.DepartureNotFound: (404, "departure_not_found"),
    departures.ReasonUnfit: (422, "reason_unfit"),
    departures.CannotComeBack: (409, "cannot_come_back"),
    departures.CountryClosed: (409, "country_closed"),
    treasury.PeriodEndInvalid: (422, "period_end_invalid"),
    payroll.WeeksUnfit: (422, "weeks_unfit"),
    treasury.PayoutNotFound: (404, "not_found"),
    payout_runs.PayoutRunNotFound: (404, "not_found"),
    payout_runs.PayoutRunStopping: (409, "payout_run_stopping"),
    treasury.HoldNotFound: (404, "not_found"),
    treasury.CallNotFound: (404, "not_found"),
    treasury.CallStillOpen: (409, "call_still_open"),
    treasury.NoteMissing: (422, "note_missing"),
    treasury.ExtraReasonUnknown: (422, "extra_reason_unknown"),
    treasury.NothingOwed: (409, "nothing_owed"),
    treasury.PayoutNotMovable: (409, "payout_not_movable"),
    recoveries.EarningNotFound: (404, "not_found"),
    recoveries.CaseNotFound: (404, "not_found"),
    recoveries.CaseReasonMissing: (422, "case_reason_missing"),
    recoveries.CaseExists: (409, "case_exists"),
    recoveries.SamePerson: (403, "second_person_needed"),
    recoveries.AnswerStillDue: (409, "answer_still_due"),
    snapshots.SnapshotNotFound: (404, "not_found"),
    snapshots.NothingToDeliver: (409, "nothing_to_deliver"),
    edits.DraftUnedited: (422, "draft_unedited"),
    edits.EditNotFound: (404, "edit_not_found"),
    returns.ReturnRequestNotFound: (404, "return_request_not_found"),
    returns.ReturnUnfit: (422, "return_unfit"),
    returns.NobodyHolds: (409, "nobody_holds"),
    repairs.RepairNotFound: (404, "repair_not_found"),
    repairs.RepairUnfit: (422, "repair_unfit"),
    screeners.ScreenerNotFound: (404, "screener_not_found"),
    screeners.ScreenerUnfit: (422, "screener_unfit"),
    screeners.ScreenerCodeUnknown: (422, "screener_code_unknown"),
    frauds.FraudCaseNotFound: (404, "not_found"),
    frauds.FraudCaseExists: (409, "case_exists"),
    frauds.PayInDispute: (409, "pay_in_dispute"),
    money.RecoveryUnderWay: (409, "recovery_under_way"),
    money.UnknownCurrency: (422, "currency_unknown"),
    money.BadAmount: (422, "amount_invalid"),
    money.SignatureRefused: (400, "signature_refused"),
    money.EventRefused: (400, "event_refused"),
    egress.AddressRefused: (422, "address_refused"),
    egress.Unanswered: (502, "target_unanswered"),
    notices.TypeUnknown: (422, "event_type_unknown"),
    notices.PositionInvalid: (400, "position_invalid"),
    notices.PositionGone: (410, "position_gone"),
    deliveries.EndpointNotFound: (404, "not_found"),
    deliveries.DeliveryNotFound: (404, "not_found"),
    deliveries.EndpointUrlInvalid: (422, "endpoint_url_invalid"),
    deliveries.TooManyEndpoints: (409, "too_many_endpoints"),
    deliveries.EndpointDisabled: (409, "endpoint_disabled"),
    deliveries.DeliveryOpen: (409, "delivery_open"),
    deliveries.ReplayRangeInvalid: (422, "replay_range_invalid"),
    deliveries.OverlapInvalid: (422, "overlap_invalid"),
    inbox.NotificationNotFound: (404, "not_found"),
    inbox.TopicUnknown: (422, "topic_unknown"),
    inbox.PreferenceInvalid: (422, "preference_invalid"),
    broker.DeadLetterUnknown: (404, "not_found"),
    broker.JobUnknown: (409, "job_unknown"),
    streams.TooManyStreams: (503, "too_many_streams"),
    policies.PolicyNotFound: (404, "not_found"),
    policies.PolicyRefused: (422, "policy_refused"),
    policies.PolicyNameInvalid: (422, "policy_name_invalid"),
    policies.ReasonBlank: (422, "reason_blank"),
    experiments.ExperimentNotFound: (404, "not_found"),
    experiments.ExperimentInvalid: (422, "experiment_invalid"),
    experiments.ExperimentBegun: (409, "experiment_begun"),
    experiments.CohortEmpty: (422, "cohort_empty"),
    experiments.ExperimentOverlaps: (409, "experiment_overlaps"),
    previews.PreviewNotFound: (404, "not_found"),
    previews.StretchInvalid: (422, "stretch_invalid"),
    previews.StretchEmpty: (422, "stretch_empty"),
    previews.GoalInvalid: (422, "goal_invalid"),
    policies.PolicyWorthless: (422, "policy_worthless"),
    policies.PolicyMoved: (412, "version_conflict"),
    policies.ApprovalMissing: (409, "approval_missing"),
    policies.ApprovalByAuthor: (403, "approval_by_author"),
    policies.NothingToReturnTo: (409, "nothing_to_return_to"),
    offers.OfferNotFound: (404, "not_found"),
    offers.OfferExpired: (409, "offer_expired"),
    offers.OverlapFull: (409, "overlap_full"),
    offers.NotEligible: (409, "not_eligible"),
    offers.ProjectNotLive: (409, "project_not_live"),
    offers.LeaseLost: (409, "lease_lost"),
    offers.AnswerReasonUnknown: (422, "answer_reason_unknown"),
    runs.RunNotFound: (404, "not_found"),
    runs.SeedOutOfRange: (422, "seed_out_of_range"),
    explanations.RunNotOver: (409, "run_not_over"),
    runs.OperationNotCancellable: (409, "operation_not_cancellable"),
    work.SessionNotFound: (404, "not_found"),
    submissions.SubmissionNotFound: (404, "not_found"),
    work.TimeEntryNotFound: (404, "not_found"),
    work.SessionAlreadyOpen: (409, "session_already_open"),
    work.SessionNotOpen: (409, "session_not_open"),
    work.FromTheFuture: (422, "from_the_future"),
    work.TimeTaken: (409, "time_taken"),
    submissions.NoSessionTime: (409, "no_session_time"),
    submissions.AlreadySubmitted: (409, "already_submitted"),
    submissions.PayloadTooLarge: (413, "payload_too_large"),
    submissions.PayloadEmpty: (422, "payload_empty"),
    work.TimeHandedIn: (409, "time_handed_in"),
    disputes.DisputeNotFound: (404, "not_found"),
    disputes.DisputeReasonMissing: (422, "dispute_reason_missing"),
    disputes.NothingToDispute: (409, "nothing_to_dispute"),
    disputes.RangeInvalid: (422, "range_invalid"),
    disputes.NotYoursToDecide: (403, "not_yours_to_decide"),
    disputes.AwardInvalid: (422, "award_invalid"),
    disputes.AppealTooLate: (409, "appeal_too_late"),
    attempts.AttemptNotFound: (404, "not_found"),
    attempts.NoTargetModel: (409, "no_target_model"),
    attempts.PromptUnfit: (422, "prompt_unfit"),
    attempts.TooManyAttempts: (409, "too_many_attempts"),
    attempts.AttemptOpen: (409, "attempt_open"),
    attempts.AttemptNotReady: (409, "attempt_not_ready"),
    attempts.AnswerFailed: (502, "answer_failed"),
    attempts.LeaseHeld: (409, "lease_held"),
    panels.PanelUnfit: (422, "panel_unfit"),
    golds.GoldUnfit: (422, "gold_unfit"),
    golds.GoldUnproven: (409, "gold_unproven"),
    golds.GoldNotFound: (404, "not_found"),
    panels.PanelUnanswered: (409, "panel_unanswered"),
    predictions.FitHeld: (409, "fit_held"),
    alarms.AlarmNotFound: (404, "not_found"),
    targets.TargetUnfit: (422, "target_unfit"),
    targets.TargetNotFound: (404, "not_found"),
    quality_rules.QualityRuleNotFound: (404, "not_found"),
    quality_rules.QualityRuleUnfit: (422, "quality_rule_unfit"),
    quality_rules.RuleNotSimulated: (409, "rule_not_simulated"),
    quality_rules.StretchRefused: (422, "stretch_refused"),
    releases.ReleaseNotFound: (404, "not_found"),
    releases.CalibrationTooFew: (409, "calibration_too_few"),
    predictions.VersionUnreadable: (409, "version_unreadable"),
    predictions.ObservationNotFound: (404, "not_found"),
    attempts.NoOpenSession: (409, "no_open_session"),
    admissions.AdmissionNotFound: (404, "not_found"),
    admissions.AlreadyApplied: (409, "already_applied"),
    admissions.AdmissionUnfit: (422, "admission_unfit"),
    appeals.AppealNotFound: (404, "not_found"),
    appeals.NothingToAppeal: (404, "nothing_to_appeal"),
    appeals.AppealTooLate: (409, "appeal_too_late"),
    appeals.AlreadyAppealed: (409, "already_appealed"),
    appeals.DeciderInvolved: (403, "decider_involved"),
    appeals.AppealUnfit: (422, "appeal_unfit"),
    reviews.ReviewNotFound: (404, "not_found"),
    reviews.SelfReview: (403, "self_review_forbidden"),
    reviews.AlreadyReviewing: (409, "already_reviewing"),
    reviews.ReviewTaken: (409, "review_taken"),
    reviews.ReviewLapsed: (409, "review_lapsed"),
    reviews.QueueEmpty: (404, "queue_empty"),
    reviews.ConflictOfInterest: (403, "conflict_of_interest"),
    reviews.LevelTooLow: (403, "level_too_low"),
    fixes.FixNotFound: (404, "not_found"),
    fixes.FixUnfit: (422, "fix_unfit"),
    votes.RejectionUnfounded: (422, "evidence_required"),
    votes.VoteIncomplete: (422, "vote_incomplete"),
    votes.VoteUnfit: (422, "vote_unfit"),
    votes.ChecklistUnmet: (409, "checklist_unmet"),
    votes.ReworkRefused: (409, "rework_refused"),
    messages.MessageNotFound: (404, "not_found"),
    messages.MessageUnfit: (422, "message_unfit"),
    messages.NobodyToTell: (422, "nobody_to_tell"),
    records.AttestationRefused: (422, "attestation_refused"),
    records.NothingVerified: (409, "nothing_verified"),
    histories.NoHistory: (404, "no_history"),
    threads.ThreadNotFound: (404, "not_found"),
    threads.SubjectNotFound: (404, "not_found"),
    threads.PinUnfit: (422, "pin_unfit"),
    threads.RemarkUnfit: (422, "remark_unfit"),
    threads.ThreadFull: (409, "thread_full"),
    review_plans.PlanRefused: (422, "plan_refused"),
}

FRAMEWORK: dict[int, str] = {
    400: "bad_request",
    404: "no_such_address",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "media_type_unsupported",
}

RETRYABLE = {"idempotency_in_flight", "import_running", "database_unavailable"}

TITLES: dict[str, str] = {
    "invalid_body": "The body has fields that do not fit",
    "malformed_body": "The body cannot be read",
    "invalid_parameter": "A parameter does not fit",
    "value_unstorable": "A value cannot be stored",
    "database_unavailable": "The database cannot be reached",
    "internal_error": "Something went wrong here",
}


def problem(
    request: Request[Any, Any, Any] | None, status: int, code: str, detail: str, **members: object
) -> Response[dict[str, object]]:
    """A problem document: what happened, where, and what to change."""
    body: dict[str, object] = {
        "type": f"/problems/{code}",
        "title": TITLES.get(code, code.replace("_", " ").capitalize()),
        "status": status,
        "detail": detail,
        "code": code,
        "retryable": code in RETRYABLE or status in (429, 503),
        **members,
    }
    headers = {}
    if request is not None:
        body["instance"] = request.url.path
        body["request_id"] = request.scope.get("state", {}).get("request_id", "")
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="stumpwork"'
    if status == 503:
        headers["Retry-After"] = "2"
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def code_of(refusal: Exception) -> tuple[int, str] | None:
    """The status and code of a refusal, by its class or the nearest one above it."""
    for kind in type(refusal).__mro__:
        if kind in PROBLEMS:
            return PROBLEMS[kind]
    return None


def facts_of(refusal: Exception) -> dict[str, object]:
    """The public facts of a refusal that a machine can use; ids of ours stay inside."""
    plain = (str, int, bool, list, tuple)
    return {
        name: value
        for name, value in vars(refusal).items()
        if not name.startswith("_") and isinstance(value, plain)
    }


def on_refusal(request: Request[Any, Any, Any], refusal: Exception) -> Response[Any]:
    """Answer a refusal of ours; one without a row in the table is a bug."""
    found = code_of(refusal)
    if found is None:
        return on_bug(request, refusal)
    status, code = found
    taken = {"type", "title", "status", "detail", "code", "retryable"}
    facts = {k: v for k, v in facts_of(refusal).items() if k not in taken}
    return problem(request, status, code, str(refusal), **facts)


MISSING = re.compile(r"Missing required (?:query|header|cookie) parameter '(?P<name>[^']+)'")
"""How the framework says that a parameter was left out."""


def on_validation(request: Request[Any, Any, Any], refused: ValidationException) -> Response[Any]:
    """Answer a body or a parameter that does not fit its description."""
    errors = []
    sources = set()
    missing = MISSING.match(refused.detail)
    if missing is not None:
        name = missing["name"]
        errors.append({"parameter": name, "detail": "it has to be given"})
        return problem(request, 400, "invalid_parameter", f"{name} is missing", errors=errors)
    extra = refused.extra if isinstance(refused.extra, list) else []
    for item in extra:
        key, source = str(item.get("key", "")), item.get("source", "body")
        source = str(getattr(source, "value", source))
        sources.add(source)
        if source == "body":
            path = key.removeprefix("data").strip(".").replace(".", "/").replace("[", "/")
            errors.append({"pointer": f"/{path.replace(']', '')}", "detail": item["message"]})
        else:
            errors.append({"parameter": key, "detail": item["message"]})
    if sources and sources <= {"query", "path", "header", "cookie"}:
        named = "; ".join(f"{error['parameter']}: {error['detail']}" for error in errors)
        return problem(request, 400, "invalid_parameter", named, errors=errors)
    detail = "; ".join(str(error["detail"]) for error in errors) or refused.detail
    return problem(request, 422, "invalid_body", detail, errors=errors)


def on_framework(request: Request[Any, Any, Any], refused: HTTPException) -> Response[Any]:
    """Answer what Litestar itself refused: an unknown address, a body that is no JSON, ..."""
    status = refused.status_code
    if isinstance(refused.__cause__, SerializationException) or (
        status == 400 and "deserializ" in refused.detail.lower()
    ):
        return problem(request, 400, "malformed_body", f"not readable as JSON: {refused.detail}")
    if status >= 500:
        return on_bug(request, refused)
    code = FRAMEWORK.get(status, "refused")
    details = {
        404: f"there is nothing at {request.url.path}",
        405: f"{request.method} is not possible at {request.url.path}",
    }
    return problem(request, status, code, details.get(status, refused.detail))


def on_malformed(request: Request[Any, Any, Any], refused: Exception) -> Response[Any]:
    """Answer a body that is no JSON."""
    return problem(request, 400, "malformed_body", f"not readable as JSON: {refused}")


def on_unstorable(request: Request[Any, Any, Any], refused: DataError) -> Response[Any]:
    """Answer a value that PostgreSQL cannot hold: a NUL in a text, a number out of range."""
    detail = "a value holds a NUL character or is out of range"
    log.info("value_unstorable", error=str(refused.orig)[:200])
    return problem(request, 422, "value_unstorable", detail)


def on_database_lost(request: Request[Any, Any, Any], lost: OperationalError) -> Response[Any]:
    """Answer while the database is away; nothing was half done."""
    log.warning("database_unavailable", error=str(lost.orig)[:200])
    return problem(request, 503, "database_unavailable", "nothing was changed; try again shortly")


def on_bug(request: Request[Any, Any, Any], bug: Exception) -> Response[Any]:
    """Answer anything else, which is our fault, without saying more than its request id."""
    log.error("internal_error", exc_info=bug)
    return problem(
        request, 500, "internal_error", "this is our fault; tell us the request_id when you ask"
    )


HANDLERS: dict[Any, Any] = {
    MarketError: on_refusal,
    PayoutsError: on_refusal,
    ValidationException: on_validation,
    SerializationException: on_malformed,
    NotFoundException: on_framework,
    MethodNotAllowedException: on_framework,
    RequestEntityTooLarge: on_framework,
    HTTPException: on_framework,
    DataError: on_unstorable,
    OperationalError: on_database_lost,
    Exception: on_bug,
}
