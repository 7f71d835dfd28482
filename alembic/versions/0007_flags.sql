-- What operators switch at run time. Stored rows hold until they are changed, forced ones until they end; a forced row of one tenant
-- stands above everyone's ('*').
create table flags (
    key text not null,
    scope text not null default '*',
    forced boolean not null,
    value jsonb not null,
    reason text,
    set_by text not null,
    set_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz,
    primary key (key, scope, forced),
    check (forced = (expires_at is not null)),
    check (forced or scope = '*')
);

-- Each run of a task of maintenance. One that is running and whose lease is over was left behind by a process that died.
create table maintenance_runs (
    id bigint generated always as identity primary key,
    task text not null,
    started_by text,
    state text not null default 'running' check (state in ('running', 'succeeded', 'partial', 'failed')),
    deleted_rows bigint not null default 0,
    cause text,
    started_at timestamptz not null default clock_timestamp(),
    leased_until timestamptz not null,
    finished_at timestamptz
);
create index maintenance_runs_newest on maintenance_runs (task, started_at desc);

-- Old rows of the log lie together, so that finding them needs no large index.
create index audit_events_age on audit_events using brin (occurred_at);

-- Up to p_limit stored answers whose time was over p_grace ago. One that a request holds at this moment is left for the next time.
create function idempotency_prune(p_grace interval, p_limit integer) returns integer
language sql volatile security definer set search_path = public, pg_temp as $$
    with gone as (
        select tenant_id, scope, key from idempotency_keys where expires_at < now() - p_grace
        order by expires_at limit p_limit for update skip locked
    ), removed as (
        delete from idempotency_keys i using gone
        where i.tenant_id = gone.tenant_id and i.scope = gone.scope and i.key = gone.key returning 1
    )
    select count(*)::integer from removed
$$;

-- Up to p_limit events of the log older than p_keep, and the months of which nothing is left.
create function audit_prune(p_keep interval, p_limit integer) returns integer
language plpgsql volatile security definer set search_path = public, pg_temp as $$
declare
    month record;
    removed integer;
    held boolean;
begin
    if p_keep < interval '1 day' then
        raise exception 'the log is kept for a day at least' using errcode = 'check_violation';
    end if;
    with gone as (
        select id, occurred_at from audit_events where occurred_at < now() - p_keep limit p_limit for update skip locked
    )
    delete from audit_events e using gone where e.id = gone.id and e.occurred_at = gone.occurred_at;
    get diagnostics removed = row_count;
    if removed < p_limit then
        for month in
            select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
            where i.inhparent = 'audit_events'::regclass
              and to_date(substring(c.relname from '\d{6}$'), 'YYYYMM') + interval '1 month' < (now() at time zone 'utc') - p_keep
        loop
            execute format('select exists (select 1 from %I)', month.name) into held;
            continue when held;
            -- Whoever waits for this lock keeps everybody from writing to the log: another time, rather.
            begin
                perform set_config('lock_timeout', '250', true);
                execute format('drop table %I', month.name);
            exception when lock_not_available then
                null;
            end;
        end loop;
    end if;
    return removed;
end $$;

-- Up to p_limit jobs that ended more than p_keep ago: those of p_kinds, or where p_others all but those.
create function jobs_prune(p_kinds text[], p_others boolean, p_keep interval, p_limit integer) returns integer
language sql volatile security definer set search_path = public, pg_temp as $$
    with gone as (
        select id from jobs
        where finished_at < now() - p_keep and state in ('succeeded', 'failed') and (kind = any (p_kinds)) <> p_others
        order by finished_at limit p_limit for update skip locked
    ), removed as (
        delete from jobs j using gone where j.id = gone.id returning 1
    )
    select count(*)::integer from removed
$$;
create index jobs_age on jobs (finished_at) where finished_at is not null;

revoke execute on all functions in schema public from public;
