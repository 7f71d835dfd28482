-- What the planner is to think of a table that nobody has analyzed yet: that all of it is one tenant's. Knowing nothing it takes one
-- tenant's rows for one row, sees no difference between a table's indexes, and a fresh installation reads all of a tenant's rows to
-- find one. PostgreSQL 18 can be told.
do $$
declare
    scoped record;
begin
    if current_setting('server_version_num')::integer < 180000 then
        return;
    end if;
    for scoped in
        select n.nspname, c.relname
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
            join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
        where c.relkind = 'r' and n.nspname = 'public' and c.reltuples < 0
    loop
        perform pg_restore_attribute_stats(
            'schemaname', scoped.nspname::text, 'relname', scoped.relname::text, 'attname', 'tenant_id', 'inherited', false,
            'null_frac', 0::real, 'avg_width', 32, 'n_distinct', 1::real);
    end loop;
end $$;

-- All tables that are changed below, at once: who holds one of them and wants another must not wait for a migration that has the other
-- and wants the one. For the same reason none is held in a weaker mode first, so that its readers could go on while an index is made.
-- An attempt gives back what it has before PostgreSQL looks for deadlocks, after a second, and lets those go first who came meanwhile.
-- If all attempts fail, nothing was changed, and `nexusrag migrate` is run again.
do $$
declare
    patience text := current_setting('lock_timeout');
begin
    perform set_config('lock_timeout', '200ms', true);
    for attempt in 1..40 loop
        begin
            lock table tenants, ledger_lines, jobs, runs in access exclusive mode;
            perform set_config('lock_timeout', patience, true);
            return;
        exception when lock_not_available then
            perform pg_sleep(0.3);
        end;
    end loop;
    raise exception 'other work holds tenants, ledger_lines, jobs or runs for too long; nothing was changed: migrate again'
        using errcode = 'lock_not_available';
end $$;

-- Indexes that only those use who look for what is due. Without the second condition a lookup by id that asks for the state as well may
-- walk one of them from end to end, all that is running and all that was lately: it looks the smaller.
drop index runs_running;
create index runs_running on runs (leased_until) where state = 'running' and leased_until is not null;
drop index jobs_running;
create index jobs_running on jobs (queue, tenant_id) include (leased_until) where state = 'running' and leased_until is not null;

create or replace function jobs_claim(p_worker text, p_queue text, p_kinds text[], p_limit integer, p_lease interval)
returns setof jobs
language plpgsql volatile security definer set search_path = public, pg_temp as $$
declare
    chosen text[];
begin
    with recursive waiting (tenant) as (
        (select tenant_id from jobs where queue = p_queue and state = 'queued' order by tenant_id limit 1)
        union all
        select (select j.tenant_id from jobs j where j.queue = p_queue and j.state = 'queued' and j.tenant_id > w.tenant
                order by j.tenant_id limit 1)
        from waiting w where w.tenant is not null
    ), turns as (
        select w.tenant,
               (select count(*) from jobs r
                where r.queue = p_queue and r.tenant_id = w.tenant and r.state = 'running' and r.leased_until is not null) as busy,
               (select s.started_at from jobs s where s.queue = p_queue and s.tenant_id = w.tenant
                order by s.started_at desc nulls last limit 1) as served
        from waiting w where w.tenant is not null
    ), candidates as (
        select due.id, t.busy + due.place as place, t.served, due.run_at
        from turns t cross join lateral (
            select j.id, j.run_at, row_number() over (order by j.run_at, j.id) as place
            from (select q.id, q.run_at from jobs q
                  where q.queue = p_queue and q.tenant_id = t.tenant and q.state = 'queued'
                    and q.run_at <= clock_timestamp() and q.kind = any (p_kinds)
                  order by q.run_at, q.id limit p_limit * 4) j
        ) due
    )
    select array_agg(c.id order by c.place, c.served nulls first, c.run_at, c.id) into chosen
    from (select * from candidates order by place, served nulls first, run_at, id limit p_limit * 4) c;

    return query
    with locked as (
        select j.id from jobs j where j.id = any (chosen) and j.state = 'queued'
        order by array_position(chosen, j.id) limit p_limit for update skip locked
    )
    update jobs j
    set state = 'running', epoch = j.epoch + 1, attempt = j.attempt + 1, worker = p_worker,
        started_at = clock_timestamp(), leased_until = clock_timestamp() + p_lease
    from locked where j.id = locked.id
    returning j.*;
end $$;

-- Renews the leases of one process's runs; returns the ids that it still holds, and whether cancelling was asked for. A run whose row
-- somebody holds makes no other wait. It is renewed by whoever has it (the journal) or next time, and meanwhile nobody can take it over.
create or replace function runs_renew(p_ids text[], p_process text, p_lease interval)
returns table (id text, cancel_requested boolean)
language sql volatile security definer set search_path = public, pg_temp as $$
    with mine as (
        select r.id, r.cancel_requested from runs r where r.id = any (p_ids) and r.process = p_process and r.state = 'running'
    ), free as (
        select r.id from runs r where r.id = any (p_ids) and r.process = p_process and r.state = 'running' for no key update skip locked
    ), renewed as (
        update runs r set leased_until = clock_timestamp() + p_lease from free where r.id = free.id
    )
    select mine.id, mine.cancel_requested from mine
$$;

-- A line is written with its entry, whose tenant is known: it need not be looked up, and its row locked, once more for each of them.
alter table ledger_lines drop constraint ledger_lines_tenant_id_fkey;
