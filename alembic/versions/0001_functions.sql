-- What must look before or across tenants. Each function runs as nexusrag_system, reads what its name says and returns no
-- document text. The list is asserted by a test.

-- The credential with this keyed hash, whatever its tenant: the only way from a key to its tenant.
create function auth_key(p_hash bytea)
returns table (
    tenant_id text, key_id text, user_id text, key_role text, user_role text, user_status text, tenant_status text, is_home boolean,
    active boolean, created_at timestamptz, last_used_at timestamptz, expires_at timestamptz, revoked_at timestamptz
)
language sql stable security definer set search_path = public, pg_temp as $$
    select k.tenant_id, k.id, k.user_id, k.role, u.role, u.status, t.status, t.is_home,
           k.active, k.created_at, k.last_used_at, k.expires_at, k.revoked_at
    from api_keys k
    join users u on u.tenant_id = k.tenant_id and u.id = k.user_id
    join tenants t on t.id = k.tenant_id
    where k.hash = p_hash
$$;

-- Makes the tenant unless it exists; the first one made is the home tenant. Returns whether it was made.
create function tenant_ensure(p_id text, p_name text) returns boolean
language plpgsql volatile security definer set search_path = public, pg_temp as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('tenant_ensure', 0));
    insert into tenants (id, name, is_home) values (p_id, p_name, not exists (select 1 from tenants))
    on conflict (id) do nothing;
    return found;
end $$;

-- The space of an embedding model; registering one makes its index. Raises when the model is known with another dimension.
create function space_ensure(p_model text, p_dimensions integer) returns integer
language plpgsql volatile security definer set search_path = public, pg_temp as $$
declare
    found_space embedding_spaces;
begin
    select * into found_space from embedding_spaces where model = p_model;
    if not found then
        perform pg_advisory_xact_lock(hashtextextended('space_ensure', 0));
        select * into found_space from embedding_spaces where model = p_model;
        if not found then
            insert into embedding_spaces (model, dimensions) values (p_model, p_dimensions) returning * into found_space;
            execute format(
                'create index embeddings_hnsw_%s on embeddings using hnsw ((v::halfvec(%s)) halfvec_cosine_ops) '
                'with (m = 16, ef_construction = 64) where space_id = %s',
                found_space.id, p_dimensions, found_space.id);
        end if;
    end if;
    if found_space.dimensions <> p_dimensions then
        raise exception 'embedding model % has % dimensions, not %', p_model, found_space.dimensions, p_dimensions
            using errcode = 'check_violation';
    end if;
    return found_space.id;
end $$;

-- Up to p_limit due jobs of the queue for one worker. Fair: the tenant with the fewest running jobs first, then the one
-- served longest ago. Kinds that this worker does not know are left for one that does.
create function jobs_claim(p_worker text, p_queue text, p_kinds text[], p_limit integer, p_lease interval)
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
               (select count(*) from jobs r where r.queue = p_queue and r.tenant_id = w.tenant and r.state = 'running') as busy,
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

-- Renews leases; returns the ids that are still held with the given epoch.
create function jobs_renew(p_ids text[], p_epochs integer[], p_lease interval) returns setof text
language sql volatile security definer set search_path = public, pg_temp as $$
    update jobs j set leased_until = clock_timestamp() + p_lease
    from unnest(p_ids, p_epochs) as held (id, epoch)
    where j.id = held.id and j.epoch = held.epoch and j.state = 'running'
    returning j.id
$$;

-- Puts jobs whose worker went away back in the queue; returns how many.
create function jobs_reap() returns integer
language sql volatile security definer set search_path = public, pg_temp as $$
    with gone as (
        select id from jobs where state = 'running' and leased_until < clock_timestamp() for update skip locked
    ), put_back as (
        update jobs j set state = 'queued', run_at = clock_timestamp(), leased_until = null,
               cause = 'The worker went away while the job was running.'
        from gone where j.id = gone.id returning 1
    )
    select count(*)::integer from put_back
$$;

-- How many jobs wait and run in a queue, and the age of the oldest due one, over all tenants.
create function jobs_depth(p_queue text)
returns table (queued bigint, running bigint, oldest_age_s double precision)
language sql stable security definer set search_path = public, pg_temp as $$
    select count(*) filter (where state = 'queued'), count(*) filter (where state = 'running'),
           extract(epoch from clock_timestamp() - min(run_at) filter (where state = 'queued'))::double precision
    from jobs where queue = p_queue and state in ('queued', 'running')
$$;

-- Renews the leases of one process's runs; returns the ids that it still holds, and whether cancelling was asked for.
create function runs_renew(p_ids text[], p_process text, p_lease interval)
returns table (id text, cancel_requested boolean)
language sql volatile security definer set search_path = public, pg_temp as $$
    update runs r set leased_until = clock_timestamp() + p_lease
    where r.id = any (p_ids) and r.process = p_process and r.state = 'running'
    returning r.id, r.cancel_requested
$$;

-- Takes over runs whose process went away, so that their journal can be closed. Raising the epoch shuts the old process out.
create function runs_take_abandoned(p_process text, p_limit integer, p_lease interval)
returns table (tenant_id text, id text, epoch integer)
language sql volatile security definer set search_path = public, pg_temp as $$
    with gone as (
        select r.id from runs r where r.state = 'running' and r.leased_until < clock_timestamp()
        order by r.leased_until limit p_limit for update skip locked
    )
    update runs r set epoch = r.epoch + 1, process = p_process, leased_until = clock_timestamp() + p_lease
    from gone where r.id = gone.id
    returning r.tenant_id, r.id, r.epoch
$$;

-- Makes the partitions of the journal (days) and the audit log (months) for the near future and drops journal days that
-- ended more than p_keep ago. Returns how many partitions were made or dropped.
create function partitions_roll(p_keep interval) returns integer
language plpgsql volatile security definer set search_path = public, pg_temp as $$
declare
    today date := (now() at time zone 'utc')::date;
    first date;
    name text;
    changed integer := 0;
begin
    perform pg_advisory_xact_lock(hashtextextended('partitions_roll', 0));
    for offset_days in -1..2 loop
        first := today + offset_days;
        name := 'run_events_' || to_char(first, 'YYYYMMDD');
        if to_regclass(name) is null then
            execute format('create table %I partition of run_events for values from (%L) to (%L)', name, first, first + 1);
            changed := changed + 1;
        end if;
    end loop;
    for offset_months in 0..1 loop
        first := (date_trunc('month', today) + make_interval(months => offset_months))::date;
        name := 'audit_events_' || to_char(first, 'YYYYMM');
        if to_regclass(name) is null then
            execute format('create table %I partition of audit_events for values from (%L) to (%L)', name,
                first::timestamp at time zone 'utc', (first + interval '1 month')::timestamp at time zone 'utc');
            changed := changed + 1;
        end if;
    end loop;
    for name in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'run_events'::regclass
          and to_date(substring(c.relname from '\d{8}$'), 'YYYYMMDD') + 1 < (now() at time zone 'utc') - p_keep
    loop
        execute format('drop table %I', name);
        changed := changed + 1;
    end loop;
    return changed;
end $$;

revoke execute on all functions in schema public from public;
