"""What must be true of the way to Stripe and back: calls, payouts, transfers, webhooks, breaks."""

STRIPE_INVARIANTS: dict[str, tuple[str, str]] = {
    "I15": (
        "A payout has at most one live transfer, and every transfer is what its call was told.",
        """
        select payout_id::text from payouts.transfer
        where reversed_minor < amount_minor group by payout_id having count(*) > 1
        union all
        select t.stripe_id from payouts.transfer t
        join payouts.external_call c on c.id = t.call_id
        join payouts.payout p on p.id = t.payout_id
        where c.operation <> 'transfer' or c.state <> 'confirmed' or c.subject_id <> t.payout_id
           or c.object_id is distinct from t.stripe_id
           or (t.owner_id, t.amount_minor, t.currency)
                is distinct from (p.owner_id, p.amount_minor, p.currency)
        union all
        select c.natural_key from payouts.external_call c
        where c.operation = 'transfer' and c.state = 'confirmed'
          and not exists (select from payouts.transfer t where t.call_id = c.id)
        """,
    ),
    "I16": (
        "Every key was sent with one body only, and no transfer anew before the last was refused.",
        """
        select natural_key || ' ' || attempt from payouts.external_call
        where params_sha256 <> encode(sha256(convert_to(params, 'UTF8')), 'hex')
           or case state when 'planned' then tries > 0 or first_sent_at is not null
                when 'refused' then tries > 0 and first_sent_at is null
                when 'confirmed' then tries = 0 or first_sent_at is null
                -- Leased together with others, it may not have had its turn.
                else first_sent_at is null end
        union all
        select c.natural_key || ' ' || c.attempt from payouts.external_call c
        join payouts.external_call earlier
            on earlier.natural_key = c.natural_key and earlier.attempt < c.attempt
        where c.operation = 'transfer' and earlier.state <> 'refused'
        union all
        select natural_key || ' ' || attempt from payouts.external_call
        group by natural_key, attempt having count(*) > 1
        """,
    ),
    "I17": (
        "While nobody can tell what became of a call, its money is neither free nor paid.",
        """
        select c.natural_key || ' ' || c.attempt from payouts.external_call c
        left join payouts.payout p on p.id = c.subject_id and c.operation = 'transfer'
        where c.state in ('planned', 'sent', 'unknown')
          and (c.operation in ('reversal', 'refund', 'platform_payout') or p.id is not null)
          and not exists (
            select from payouts.journal_entry e
            join payouts.posting g on g.entry_id = e.id
            where e.phase = 'pending' and e.key = case c.operation
                    when 'transfer' then p.reservation_key
                    when 'platform_payout' then c.natural_key
                    else c.natural_key || ':' || c.attempt end
              and g.amount_minor = (c.params::jsonb ->> 'amount')::bigint
              and not exists (
                select from payouts.journal_entry r where r.resolves_id = e.id))
        """,
    ),
    "I18": (
        "Every payout came to its state by steps that the table of its machine has.",
        """
        select payout_id || ' ' || number from (
            select m.payout_id, m.number, m.from_state, m.to_state,
                lag(m.to_state, 1, 'accrued') over steps as came_from,
                row_number() over steps as place
            from payouts.payout_move m
            window steps as (partition by m.payout_id order by m.number)
        ) step
        where number <> place or from_state <> came_from or not exists (
            select from payouts.state_rule r where r.machine = 'payout'
              and r.from_state = step.from_state and r.to_state = step.to_state)
        union all
        select p.id || ' is ' || p.state from payouts.payout p
        where p.state <> coalesce((
            select m.to_state from payouts.payout_move m
            where m.payout_id = p.id order by m.number desc limit 1), 'accrued')
        """,
    ),
    "I19": (
        "Every webhook is kept once, and is over when, and only when, it says when it ended.",
        """
        select endpoint || ' ' || event_id from payouts.stripe_event
        group by endpoint, event_id having count(*) > 1
        union all
        select endpoint || ' ' || event_id from payouts.stripe_event
        where (state in ('stored', 'parked')) <> (applied_at is null)
        """,
    ),
    "I20": (
        "What Stripe says of its balances is what the books say, or a break younger than a day.",
        """
        select place || ' ' || reference || ' ' || currency from payouts.reconciliation_break
        where resolved_at is null and seen_at - found_at > interval '24 hours'
        union all
        select place || ' ' || id from payouts.stripe_line
        where net_minor <> amount_minor - fee_minor
        """,
    ),
}
"""Like `payouts.invariants.INVARIANTS`, which they are a part of."""
