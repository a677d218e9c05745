"""What must be true of the books at every moment: queries that must return no rows.

PostgreSQL refuses most of this at once, by constraint, trigger or grant. These queries say it
again, from the postings up, to find what slipped in by another way: a restored backup, a disabled
trigger, a superuser's hand. What lies beyond money, such as whether a line of pay equals its
seconds at its rate (I10 to I13, I22), `market.books.queries.untrue` adds.
"""

from dataclasses import dataclass
from types import MappingProxyType

from sqlalchemy import text
from sqlalchemy.orm import Session

from payouts.stripe_invariants import STRIPE_INVARIANTS

_LEGS = """
with leg as (
    select e.id as entry_id, e.phase, a.id as account_id, a.code, a.owner_id, a.tenant_id,
        a.currency, a.normal_side, a.has_floor, p.currency as posting_currency, p.number,
        other.code as other_code, other.tenant_id as other_tenant_id,
        case when side.is_debit then p.amount_minor else 0 end as debit,
        case when side.is_debit then 0 else p.amount_minor end as credit,
        case when side.is_debit = (a.normal_side = 'debit')
            then p.amount_minor else -p.amount_minor end as change,
        case when side.is_debit then p.debit_version else p.credit_version end as version,
        case when side.is_debit
            then p.debit_balance_after_minor else p.credit_balance_after_minor end as after,
        e.phase = 'pending' and not exists (
            select from payouts.journal_entry r where r.resolves_id = e.id) as is_open
    from payouts.posting p
    join payouts.journal_entry e on e.id = p.entry_id
    cross join (values (true), (false)) as side (is_debit)
    join payouts.ledger_account a
        on a.id = case when side.is_debit then p.debit_account_id else p.credit_account_id end
    join payouts.ledger_account other
        on other.id = case when side.is_debit then p.credit_account_id else p.debit_account_id end
), summed as (
    select account_id,
        coalesce(sum(change) filter (where phase = 'posted'), 0) as posted,
        -coalesce(sum(change) filter (where is_open and change < 0), 0) as promised,
        coalesce(sum(change) filter (where is_open and change > 0), 0) as expected
    from leg group by account_id
), kept as (
    select b.account_id, b.has_floor, b.version,
        b.posted_minor + coalesce(sum(case b.normal_side
            when 'debit' then u.posted_debit_minor - u.posted_credit_minor
            else u.posted_credit_minor - u.posted_debit_minor end), 0) as posted,
        b.promised_minor + coalesce(sum(case b.normal_side
            when 'debit' then u.pending_credit_minor else u.pending_debit_minor end), 0)
            as promised,
        b.expected_minor + coalesce(sum(case b.normal_side
            when 'debit' then u.pending_debit_minor else u.pending_credit_minor end), 0)
            as expected
    from payouts.ledger_balance b
    left join payouts.unfolded_line u on u.account_id = b.account_id
    group by b.account_id
)
"""


def _over_legs(query: str) -> str:
    """A query over every leg of every posting: one row for each side of it."""
    return _LEGS + query


LEDGER_INVARIANTS: MappingProxyType[str, tuple[str, str]] = MappingProxyType(
    {
        "I1": (
            "Every entry has exactly the lines it announced, each of two accounts and one amount.",
            """
            select e.key from payouts.journal_entry e
            left join payouts.posting p on p.entry_id = e.id
            group by e.id
            having count(p.entry_id) <> e.line_count
                or (e.line_count = 0 and e.phase <> 'voided')
                or coalesce(bool_or(p.amount_minor <= 0
                                    or p.debit_account_id = p.credit_account_id), false)
            """,
        ),
        "I2": (
            "Entries, postings, accounts and the chain can only be added to.",
            """
            select name from unnest(
                array['ledger_account', 'journal_entry', 'posting', 'chain_link']) as name
            where has_table_privilege(
                    'stumpwork_platform', 'payouts.' || name, 'update, delete, truncate')
               or (select count(*) from pg_trigger t
                   where t.tgrelid = ('payouts.' || name)::regclass
                     and t.tgenabled in ('O', 'A')
                     and t.tgname in (name || '_append_only', name || '_no_truncate')) <> 2
            """,
        ),
        "I3": (
            "Every balance is the sum of its lines, and what is pending that of open reservations.",
            _over_legs(
                """
            select k.account_id::text from kept k left join summed s using (account_id)
            where (k.posted, k.promised, k.expected) is distinct from
                (coalesce(s.posted, 0), coalesce(s.promised, 0), coalesce(s.expected, 0))
            """
            ),
        ),
        "I4": (
            "No ledger account with a floor is below it, reservations counted.",
            _over_legs(
                """
            select a.code || ' ' || a.id from summed s
            join payouts.ledger_account a on a.id = s.account_id
            where a.has_floor and s.posted < s.promised
            """
            ),
        ),
        "I5": (
            "Every line is in the currency of its accounts.",
            _over_legs("select entry_id::text from leg where currency <> posting_currency"),
        ),
        "I6": (
            "A reservation is resolved at most once, and for at most what was reserved.",
            """
            select e.key from payouts.journal_entry e
            join payouts.journal_entry r on r.resolves_id = e.id
            group by e.id having count(*) > 1 or e.phase <> 'pending'
            union all
            select r.key from payouts.journal_entry r
            join payouts.posting p on p.entry_id = r.id
            where r.resolves_id is not null
            group by r.id, p.debit_account_id, p.credit_account_id
            having sum(p.amount_minor) > coalesce((
                select sum(q.amount_minor) from payouts.posting q
                where q.entry_id = r.resolves_id
                  and q.debit_account_id = p.debit_account_id
                  and q.credit_account_id = p.credit_account_id), 0)
            """,
        ),
        "I7": (
            "One entry for each key.",
            "select key from payouts.journal_entry group by key having count(*) > 1",
        ),
        "I8": (
            "What a lab has funded is free, committed, spent, refunded or disputed; nothing else.",
            _over_legs(
                """
            , flow as (
                select tenant_id, currency, credit - debit as amount,
                    case
                        when other_code in ('stripe_clearing', 'stripe_fees', 'bank', 'suspense',
                                            'fx_position', 'fx_gain_loss') then 'funded'
                        when other_code in ('expert_payable', 'expert_held', 'reserve',
                                            'expert_receivable', 'platform_fee', 'tax_withheld')
                            then 'spent'
                        when other_code in ('refund_in_transit', 'dispute_clearing')
                            and other_tenant_id = tenant_id then 'returned'
                    end as purpose
                from leg
                where phase = 'posted'
                  and code in ('lab_funding', 'lab_funding_unsettled', 'project_escrow')
            ), moved as (
                select tenant_id, currency,
                    coalesce(sum(amount) filter (where purpose = 'funded'), 0) as funded,
                    coalesce(sum(-amount) filter (where purpose = 'spent'), 0) as spent,
                    coalesce(sum(-amount) filter (where purpose = 'returned'), 0) as returned
                from flow group by tenant_id, currency
            ), stands as (
                select a.tenant_id, a.currency, sum(k.posted) as stands
                from kept k join payouts.ledger_account a on a.id = k.account_id
                where a.code in ('lab_funding', 'lab_funding_unsettled', 'project_escrow')
                group by a.tenant_id, a.currency
            )
            select s.tenant_id || ' ' || s.currency
            from stands s left join moved m using (tenant_id, currency)
            where coalesce(m.funded, 0)
                <> s.stands + coalesce(m.spent, 0) + coalesce(m.returned, 0)
            """
            ),
        ),
        "I9": (
            "What a project has spent and promised never exceeds the settled money it was given.",
            _over_legs(
                """
            select owner_id::text from leg where code = 'project_escrow'
            group by owner_id, currency
            having sum(debit) filter (where phase = 'posted' or is_open)
                > coalesce(sum(credit) filter (where phase = 'posted'), 0)
            """
            ),
        ),
        "I14": (
            "No expert was sent more than was approved, less what was withheld and kept back.",
            _over_legs(
                """
            , approved as (
                select tenant_id, currency, sum(credit - debit) as amount from leg
                where phase = 'posted'
                  and code in ('expert_payable', 'expert_held', 'reserve', 'payout_in_transit',
                               'expert_receivable', 'connected_balance')
                  -- Into another currency it is the same money.
                  and other_code not in ('stripe_clearing', 'fx_position')
                  and other_tenant_id is distinct from tenant_id
                group by tenant_id, currency
            ), sent as (
                select tenant_id, currency, sum(debit - credit) as amount from leg
                where phase = 'posted' and code = 'connected_balance'
                  and other_code = 'stripe_clearing'
                group by tenant_id, currency
            ), kept_back as (
                select a.tenant_id, a.currency, sum(case a.normal_side
                    when 'credit' then k.posted else -k.posted end) as amount
                from kept k join payouts.ledger_account a on a.id = k.account_id
                where a.code in ('reserve', 'expert_held', 'expert_receivable')
                group by a.tenant_id, a.currency
            )
            select sent.tenant_id || ' ' || sent.currency from sent
            left join approved using (tenant_id, currency)
            left join kept_back using (tenant_id, currency)
            where sent.amount > coalesce(approved.amount, 0) - coalesce(kept_back.amount, 0)
            """
            ),
        ),
        "I21": (
            "All debits equal all credits, currency by currency.",
            _over_legs(
                """
            select a.currency from kept k join payouts.ledger_account a on a.id = k.account_id
            group by a.currency
            having sum(case a.normal_side when 'debit' then k.posted else -k.posted end) <> 0
                or sum(case a.normal_side when 'debit' then k.expected - k.promised
                       else k.promised - k.expected end) <> 0
            """
            ),
        ),
        "I23": (
            "On accounts with a floor versions have no gap, and each balance follows the last.",
            _over_legs(
                """
            , history as (
                select account_id, version, after, change,
                    row_number() over (partition by account_id order by version) as place,
                    lag(after, 1, 0::bigint)
                        over (partition by account_id order by version) as before
                from leg where has_floor and phase = 'posted'
            )
            select account_id || ' ' || place from history
            where version is distinct from place or after is distinct from before + change
            union all
            select k.account_id || ' head' from kept k
            where k.has_floor
              and k.version <> (select count(*) from history h where h.account_id = k.account_id)
            """
            ),
        ),
        "I24": (
            "The hash chain verifies, and left no entry out that is older than a day.",
            """
            select 'link ' || number from (
                select number, digest, payouts.entry_digest(entry_id) as entry,
                    lag(digest, 1, ''::bytea) over (order by number) as before,
                    row_number() over (order by number) as place
                from payouts.chain_link
            ) link
            where number <> place or digest is distinct from sha256(before || entry)
            union all
            select 'left out ' || e.key from payouts.journal_entry e
            where e.recorded_at < (
                select max(l.recorded_at) - interval '1 day'
                from payouts.chain_link c join payouts.journal_entry l on l.id = c.entry_id)
              and not exists (select from payouts.chain_link c where c.entry_id = e.id)
            """,
        ),
    }
)
"""What must be true of the ledger alone."""

INVARIANTS = MappingProxyType({**LEDGER_INVARIANTS, **STRIPE_INVARIANTS})
"""Invariant to its sentence and the SQL that must return no rows, one text a row if it does."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which the books are broken: which sentence is not true, and of what."""

    invariant: str
    sentence: str
    subject: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.sentence} Not true of {self.subject}."


def violations(session: Session) -> list[Violation]:
    """Check every invariant over all the books; an empty list is the only good answer.

    It reads everything, as the platform. While others post, it wants one snapshot for all its
    queries (`repeatable read`) only if their answers are to be compared; each is consistent alone.
    """
    return [
        Violation(invariant, sentence, subject)
        for invariant, (sentence, query) in INVARIANTS.items()
        for subject in session.scalars(text(query))
    ]
