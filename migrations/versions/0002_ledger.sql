-- The rules of the ledger that PostgreSQL holds itself; run by 0002_ledger.py.

create function payouts.open_balance() returns trigger language plpgsql security definer
set search_path = payouts, pg_temp as $$
begin
    insert into payouts.ledger_balance (account_id, normal_side, has_floor)
    values (new.id, new.normal_side, new.has_floor);
    return null;
end $$;

-- Moves or reserves one posting's amount on its two accounts, and notes each account's version and
-- balance after it. Whatever the writer put into those four columns is overwritten.
create function payouts.apply_posting() returns trigger language plpgsql security definer
set search_path = payouts, pg_temp as $$
declare
    entry record;
    floor record;
    reserved bigint;
    spent bigint;
begin
    select phase, line_count, resolves_id into entry
    from payouts.journal_entry where id = new.entry_id;
    if not found then
        raise exception 'entry % is not there yet', new.entry_id
            using errcode = 'foreign_key_violation';
    end if;
    if new.number not between 1 and entry.line_count then
        raise exception 'entry % has % lines, none is %', new.entry_id, entry.line_count, new.number
            using errcode = 'check_violation', constraint = 'posting_number';
    end if;
    new.debit_version := null;
    new.debit_balance_after_minor := null;
    new.credit_version := null;
    new.credit_balance_after_minor := null;
    if entry.phase = 'pending' then
        perform payouts.promise(new.debit_account_id, new.credit_account_id, new.amount_minor);
        return new;
    end if;
    if entry.resolves_id is not null then
        select coalesce(sum(amount_minor) filter (where entry_id = entry.resolves_id), 0),
               coalesce(sum(amount_minor) filter (where entry_id = new.entry_id), 0)
        into reserved, spent
        from payouts.posting
        where entry_id in (entry.resolves_id, new.entry_id)
          and debit_account_id = new.debit_account_id
          and credit_account_id = new.credit_account_id;
        if spent + new.amount_minor > reserved then
            raise exception 'entry % posts % where % was reserved',
                new.entry_id, spent + new.amount_minor, reserved
                using errcode = 'check_violation', constraint = 'posting_reserved';
        end if;
    end if;
    for floor in
        update payouts.ledger_balance
        set version = version + 1, posted_minor = posted_minor + case
            when (account_id = new.debit_account_id) = (normal_side = 'debit')
            then new.amount_minor else -new.amount_minor end
        where account_id in (new.debit_account_id, new.credit_account_id) and has_floor
        returning account_id, version, posted_minor
    loop
        if floor.account_id = new.debit_account_id then
            new.debit_version := floor.version;
            new.debit_balance_after_minor := floor.posted_minor;
        else
            new.credit_version := floor.version;
            new.credit_balance_after_minor := floor.posted_minor;
        end if;
    end loop;
    if new.debit_version is null then
        insert into payouts.unfolded_line (account_id, posted_debit_minor)
        values (new.debit_account_id, new.amount_minor);
    end if;
    if new.credit_version is null then
        insert into payouts.unfolded_line (account_id, posted_credit_minor)
        values (new.credit_account_id, new.amount_minor);
    end if;
    return new;
end $$;

-- Promises an amount from one account to another, or, when it is negative, lets a promise go.
create function payouts.promise(p_debit uuid, p_credit uuid, p_amount bigint) returns void
language plpgsql security definer set search_path = payouts, pg_temp as $$
declare
    floor record;
    met_debit boolean := false;
    met_credit boolean := false;
begin
    for floor in
        update payouts.ledger_balance
        set promised_minor = promised_minor + case
                when (account_id = p_debit) = (normal_side = 'credit') then p_amount else 0 end,
            expected_minor = expected_minor + case
                when (account_id = p_debit) = (normal_side = 'debit') then p_amount else 0 end
        where account_id in (p_debit, p_credit) and has_floor
        returning account_id
    loop
        met_debit := met_debit or floor.account_id = p_debit;
        met_credit := met_credit or floor.account_id = p_credit;
    end loop;
    if not met_debit then
        insert into payouts.unfolded_line (account_id, pending_debit_minor)
        values (p_debit, p_amount);
    end if;
    if not met_credit then
        insert into payouts.unfolded_line (account_id, pending_credit_minor)
        values (p_credit, p_amount);
    end if;
end $$;

-- Lets a reservation go when the entry that ends it is written; its own postings come after.
create function payouts.release_pending() returns trigger language plpgsql security definer
set search_path = payouts, pg_temp as $$
begin
    if (select phase from payouts.journal_entry where id = new.resolves_id) <> 'pending' then
        raise exception 'entry % reserves nothing', new.resolves_id
            using errcode = 'check_violation', constraint = 'entry_resolves';
    end if;
    perform payouts.promise(debit_account_id, credit_account_id, -amount_minor)
    from payouts.posting where entry_id = new.resolves_id;
    return null;
end $$;

-- At commit an entry has exactly the lines it was announced with, so none can be added later.
create function payouts.refuse_incomplete() returns trigger language plpgsql security definer
set search_path = payouts, pg_temp set enable_seqscan = off as $$
begin
    if (select count(*) from payouts.posting where entry_id = new.id) <> new.line_count then
        raise exception 'entry % has not the % lines it announced', new.id, new.line_count
            using errcode = 'check_violation', constraint = 'entry_complete';
    end if;
    return null;
end $$;

create trigger ledger_account_balance after insert on payouts.ledger_account
    for each row execute function payouts.open_balance();
create trigger posting_apply before insert on payouts.posting
    for each row execute function payouts.apply_posting();
create trigger journal_entry_release after insert on payouts.journal_entry
    for each row when (new.resolves_id is not null) execute function payouts.release_pending();
create constraint trigger journal_entry_complete after insert on payouts.journal_entry
    deferrable initially deferred
    for each row when (new.line_count > 0) execute function payouts.refuse_incomplete();

-- Whether an entry tells what its key is used to tell again.
create function payouts.tells(
    entry payouts.journal_entry, p_kind text, p_phase text, p_resolves text, p_reverses text,
    p_debits uuid[], p_credits uuid[], p_amounts bigint[]
) returns boolean language sql stable set search_path = payouts, pg_temp as $$
    select entry.kind = coalesce(
            p_kind, case when p_resolves is null then 'reversal' else other.kind end)
        and entry.phase = p_phase
        and coalesce(entry.resolves_id, entry.reverses_id) is not distinct from other.id
        and (entry.resolves_id is null) = (p_resolves is null)
        and (p_reverses is not null
             or (lines.debits = p_debits and lines.credits = p_credits
                 and lines.amounts = p_amounts))
    from (
        select coalesce(array_agg(debit_account_id order by number), '{}') as debits,
               coalesce(array_agg(credit_account_id order by number), '{}') as credits,
               coalesce(array_agg(amount_minor order by number), '{}') as amounts
        from payouts.posting where entry_id = entry.id
    ) lines
    left join payouts.journal_entry other on other.key = coalesce(p_resolves, p_reverses)
$$;

-- Writes one entry under its key, or finds it written; a refusal is an answer and no error, so the
-- caller's transaction goes on. Only accounts with a floor are locked, in the order of their ids.
-- Its plans are made once, for any arrays, and never with a sequential scan: a plan that was right
-- for small tables is kept while they grow.
create function payouts.post_entry(
    p_id uuid, p_key text, p_kind text, p_phase text, p_at timestamptz, p_memo text,
    p_expires_at timestamptz, p_resolves text, p_reverses text, p_accounts uuid[],
    p_debits uuid[], p_credits uuid[], p_currencies text[], p_amounts bigint[],
    out refusal text, out debit_id uuid, out credit_id uuid,
    out available_minor bigint, out wanted_minor bigint, out entry payouts.journal_entry
) language plpgsql security definer
set search_path = payouts, pg_temp set enable_seqscan = off
set plan_cache_mode = force_generic_plan as $$
declare
    target payouts.journal_entry;
    bound uuid[] := p_accounts;
    told uuid;
    known bigint;
    floor record;
begin
    select (select id from payouts.journal_entry where key = p_key),
           (select count(*) from payouts.ledger_account where id = any (p_accounts))
    into told, known;
    if told is not null then
        select * into entry from payouts.journal_entry where id = told;
        if not payouts.tells(
            entry, p_kind, p_phase, p_resolves, p_reverses, p_debits, p_credits, p_amounts
        ) then
            refusal := 'entry_conflict';
        end if;
        return;
    end if;
    if p_resolves is not null or p_reverses is not null then
        -- Locked, so that it is posted, voided or reversed once even if two come at once.
        select * into target from payouts.journal_entry
        where key = coalesce(p_resolves, p_reverses) for no key update;
        if not found then
            refusal := 'unknown_entry';
            return;
        end if;
        -- Whoever held the lock may have told the same thing under the same key.
        select * into entry from payouts.journal_entry where key = p_key;
        if found then
            if not payouts.tells(
                entry, p_kind, p_phase, p_resolves, p_reverses, p_debits, p_credits, p_amounts
            ) then
                refusal := 'entry_conflict';
            end if;
            return;
        end if;
        if p_resolves is not null then
            if target.phase <> 'pending' then
                refusal := 'not_pending';
                return;
            end if;
            if exists (select from payouts.journal_entry where resolves_id = target.id) then
                refusal := 'pending_resolved';
                return;
            end if;
            p_kind := coalesce(p_kind, target.kind);
            for floor in
                select wanted.debit, wanted.credit, wanted.amount, coalesce(sum(p.amount_minor), 0)
                    as reserved
                from (
                    select debit, credit, sum(amount) as amount
                    from unnest(p_debits, p_credits, p_amounts) as line (debit, credit, amount)
                    group by debit, credit
                ) wanted
                left join payouts.posting p on p.entry_id = target.id
                    and p.debit_account_id = wanted.debit and p.credit_account_id = wanted.credit
                group by wanted.debit, wanted.credit, wanted.amount
                having wanted.amount > coalesce(sum(p.amount_minor), 0)
            loop
                refusal := 'pending_exceeded';
                debit_id := floor.debit;
                credit_id := floor.credit;
                available_minor := floor.reserved;
                wanted_minor := floor.amount;
                return;
            end loop;
        else
            if target.phase <> 'posted'
                or exists (select from payouts.journal_entry where reverses_id = target.id)
            then
                refusal := 'not_reversible';
                return;
            end if;
            p_kind := coalesce(p_kind, 'reversal');
            select array_agg(credit_account_id order by number),
                   array_agg(debit_account_id order by number),
                   array_agg(currency order by number), array_agg(amount_minor order by number)
            into p_debits, p_credits, p_currencies, p_amounts
            from payouts.posting where entry_id = target.id;
        end if;
        select bound || array_agg(debit_account_id) || array_agg(credit_account_id) into bound
        from payouts.posting where entry_id = target.id;
    end if;
    if known <> cardinality(p_accounts) then
        refusal := 'unknown_account';
        return;
    end if;
    for floor in
        select account_id, normal_side, posted_minor - promised_minor as available_minor
        from payouts.ledger_balance where account_id = any (bound) and has_floor
        order by account_id for no key update
    loop
        -- What a reservation holds is there by the floor's own rule.
        continue when p_resolves is not null;
        available_minor := floor.available_minor;
        wanted_minor := 0;
        for i in 1 .. cardinality(p_amounts) loop
            if floor.account_id = (
                case floor.normal_side when 'credit' then p_debits[i] else p_credits[i] end
            ) then
                wanted_minor := wanted_minor + p_amounts[i];
            end if;
        end loop;
        if wanted_minor > available_minor then
            -- Whoever held the lock may have told the same thing under the same key.
            select * into entry from payouts.journal_entry where key = p_key;
            if not found then
                refusal := 'floor_breached';
                debit_id := floor.account_id;
            elsif not payouts.tells(
                entry, p_kind, p_phase, p_resolves, p_reverses, p_debits, p_credits, p_amounts
            ) then
                refusal := 'entry_conflict';
            end if;
            return;
        end if;
    end loop;
    insert into payouts.journal_entry (
        id, key, kind, phase, line_count, at, memo, expires_at, resolves_id, reverses_id
    ) values (
        p_id, p_key, p_kind, p_phase, cardinality(p_debits), p_at, p_memo, p_expires_at,
        case when p_resolves is not null then target.id end,
        case when p_reverses is not null then target.id end
    ) on conflict (key) do nothing returning * into entry;
    if not found then
        select * into entry from payouts.journal_entry where key = p_key;
        if not payouts.tells(
            entry, p_kind, p_phase, p_resolves, p_reverses, p_debits, p_credits, p_amounts
        ) then
            refusal := 'entry_conflict';
        end if;
        return;
    end if;
    insert into payouts.posting (
        entry_id, number, debit_account_id, credit_account_id, currency, amount_minor
    )
    select p_id, number, debit, credit, currency, amount
    from unnest(p_debits, p_credits, p_currencies, p_amounts) with ordinality
        as line (debit, credit, currency, amount, number);
end $$;

-- Takes the unfolded lines into their balance rows; the sum of both is the same before and after.
create function payouts.fold_lines() returns bigint language plpgsql security definer
set search_path = payouts, pg_temp as $$
declare
    hot uuid[];
    folded bigint;
begin
    select array_agg(account_id) into hot from (
        select b.account_id from payouts.ledger_balance b
        where not b.has_floor
          and exists (select from payouts.unfolded_line u where u.account_id = b.account_id)
        order by b.account_id for no key update
    ) locked;
    with gone as (
        delete from payouts.unfolded_line where account_id = any (hot) returning *
    ), total as (
        select account_id, count(*) as lines,
               sum(posted_debit_minor - posted_credit_minor) as posted_debit,
               sum(pending_debit_minor) as pending_debit,
               sum(pending_credit_minor) as pending_credit
        from gone group by account_id
    ), taken as (
        update payouts.ledger_balance b
        set posted_minor = b.posted_minor
                + case b.normal_side when 'debit' then posted_debit else -posted_debit end,
            promised_minor = b.promised_minor
                + case b.normal_side when 'debit' then pending_credit else pending_debit end,
            expected_minor = b.expected_minor
                + case b.normal_side when 'debit' then pending_debit else pending_credit end,
            version = b.version + total.lines
        from total where b.account_id = total.account_id
        returning total.lines
    )
    select coalesce(sum(lines), 0) into folded from taken;
    return folded;
end $$;

-- What the hash chain holds of an entry: every column of it and of its postings.
create function payouts.entry_digest(p_entry uuid) returns bytea language sql stable
set search_path = payouts, pg_temp as $$
    select sha256(convert_to(jsonb_build_array(
        e.id, e.key, e.kind, e.phase, e.line_count, extract(epoch from e.at), e.memo,
        extract(epoch from e.expires_at), e.resolves_id, e.reverses_id,
        extract(epoch from e.recorded_at),
        (select jsonb_agg(jsonb_build_array(
            p.number, p.debit_account_id, p.credit_account_id, p.currency, p.amount_minor,
            p.debit_version, p.debit_balance_after_minor,
            p.credit_version, p.credit_balance_after_minor
        ) order by p.number) from payouts.posting p where p.entry_id = e.id)
    )::text, 'UTF8'))
    from payouts.journal_entry e where e.id = p_entry
$$;

-- Appends committed entries to the hash chain, in the order in which they were recorded. One that
-- commits late is chained late: those recorded up to a day before the last link are looked at.
create function payouts.chain_entries(p_limit integer) returns integer language plpgsql
security definer set search_path = payouts, pg_temp as $$
declare
    last record;
    entry uuid;
    links integer := 0;
begin
    lock table payouts.chain_link in share row exclusive mode;
    select c.number, c.digest, e.recorded_at into last
    from payouts.chain_link c join payouts.journal_entry e on e.id = c.entry_id
    order by c.number desc limit 1;
    if not found then
        select 0::bigint as number, ''::bytea as digest, '-infinity'::timestamptz as recorded_at
        into last;
    end if;
    for entry in
        select e.id from payouts.journal_entry e
        where e.recorded_at >= last.recorded_at - interval '1 day'
          and not exists (select from payouts.chain_link c where c.entry_id = e.id)
        order by e.recorded_at, e.id limit p_limit
    loop
        last.number := last.number + 1;
        last.digest := sha256(last.digest || payouts.entry_digest(entry));
        insert into payouts.chain_link (number, entry_id, digest)
        values (last.number, entry, last.digest);
        links := links + 1;
    end loop;
    return links;
end $$;
