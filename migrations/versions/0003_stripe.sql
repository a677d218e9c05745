-- The rules of Stripe's side that PostgreSQL holds itself, whatever the application does.

create function payouts.guard_state() returns trigger language plpgsql as $$
declare
    came_from text := case when tg_op = 'INSERT' then '' else old.state end;
begin
    if came_from is distinct from new.state and not exists (
        select from payouts.state_rule r
        where r.machine = tg_table_name and r.from_state = came_from and r.to_state = new.state
    ) then
        raise exception '% %: no step leads from % to %', tg_table_name, new.id,
            coalesce(nullif(came_from, ''), 'nothing'), new.state
            using errcode = 'check_violation', constraint = 'state_rule';
    end if;
    return new;
end $$;

create trigger external_call_state before insert or update of state on payouts.external_call
    for each row execute function payouts.guard_state();
create trigger payout_state before insert or update of state on payouts.payout
    for each row execute function payouts.guard_state();

-- A key is sent with one body only: what is asked never changes once it is there.
create function payouts.keep_asked() returns trigger language plpgsql as $$
begin
    if (new.id, new.operation, new.natural_key, new.attempt, new.subject_id, new.params,
        new.params_sha256, new.planned_at)
        is distinct from
       (old.id, old.operation, old.natural_key, old.attempt, old.subject_id, old.params,
        old.params_sha256, old.planned_at)
    or (old.first_sent_at is not null and new.first_sent_at is distinct from old.first_sent_at)
    or (old.object_id is not null and new.object_id is distinct from old.object_id)
    then
        raise exception 'call %: what was asked and answered cannot be changed', old.id
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;

create trigger external_call_asked before update on payouts.external_call
    for each row execute function payouts.keep_asked();

-- Whose payout it is and how much never changes either; another amount is another payout.
create function payouts.keep_payout() returns trigger language plpgsql as $$
begin
    if (new.id, new.owner_id, new.currency, new.period_end, new.reason_code, new.amount_minor)
        is distinct from
       (old.id, old.owner_id, old.currency, old.period_end, old.reason_code, old.amount_minor)
    then
        raise exception 'payout %: its owner, period and amount cannot be changed', old.id
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;

create trigger payout_kept before update on payouts.payout
    for each row execute function payouts.keep_payout();

-- A state without the step that led to it is refused when the transaction ends.
create function payouts.want_move() returns trigger language plpgsql as $$
declare
    kept payouts.payout;
    last payouts.payout_move;
begin
    select * into kept from payouts.payout where id = new.id;
    select * into last from payouts.payout_move where payout_id = new.id
        order by number desc limit 1;
    if kept.id is not null and kept.state is distinct from coalesce(last.to_state, 'accrued') then
        raise exception 'payout % is % and its history ends in %', kept.id, kept.state,
            coalesce(last.to_state, 'nothing')
            using errcode = 'integrity_constraint_violation';
    end if;
    return null;
end $$;

create constraint trigger payout_history after insert or update of state on payouts.payout
    deferrable initially deferred for each row execute function payouts.want_move();
