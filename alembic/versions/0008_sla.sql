-- Service levels: policies, who is under which, what was measured, how each tenant stands, incidents; and autoscaling.

-- Without a tenant: a policy of the platform, to which every tenant can be assigned.
create table sla_policies (
    id text primary key,
    tenant_id text references tenants (id),
    name text not null,
    tier text not null check (tier in ('standard', 'pro', 'enterprise', 'custom')),
    version integer not null default 1,
    enabled boolean not null default true,
    config jsonb not null,
    created_by text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index sla_policies_of_tenant on sla_policies (tenant_id, created_at, id);

-- The policy that binds a tenant, with what differs for it. `evaluated_to`: the end of the last window that was judged.
create table sla_assignments (
    tenant_id text primary key references tenants (id),
    policy_id text not null references sla_policies (id),
    effective_from timestamptz not null default now(),
    effective_to timestamptz,
    override jsonb,
    evaluated_to timestamptz,
    updated_by text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index sla_assignments_of_policy on sla_assignments (policy_id);

-- What one process measured for one class of routes in one window, as it stands now: written over, never added to, so that a write
-- that is repeated changes nothing. Sketches are read and merged by nexusrag/operations/sla/sketch.py.
create table sla_measurements (
    tenant_id text not null,
    route_class text not null,
    window_start timestamptz not null,
    process text not null,
    count integer not null,
    failures integer not null,
    sketch bytea not null,
    first_event bytea not null,
    primary key (tenant_id, route_class, window_start, process)
);
create index sla_measurements_age on sla_measurements (window_start);

-- The same over all tenants.
create table sla_totals (
    route_class text not null,
    window_start timestamptz not null,
    process text not null,
    count integer not null,
    failures integer not null,
    sketch bytea not null,
    first_event bytea not null,
    primary key (route_class, window_start, process)
);
create index sla_totals_age on sla_totals (window_start);

-- Processes that answer requests and write what they measure. One that falls silent makes the signal doubtful.
create table sla_reporters (
    process text primary key,
    reported_at timestamptz not null default now()
);

-- How a tenant stands with its policy in one class of routes. `bad` and `good` count windows in a row.
create table sla_states (
    tenant_id text not null references tenants (id),
    route_class text not null,
    policy_id text not null,
    policy_version integer not null,
    status text not null check (status in ('healthy', 'warning', 'breached')),
    decision text not null check (decision in ('allow', 'warn', 'degrade', 'shed')),
    signal text not null default 'ok' check (signal in ('ok', 'degraded')),
    bad integer not null default 0,
    good integer not null default 0,
    window_end timestamptz not null,
    evidence jsonb,
    primary key (tenant_id, route_class)
);

create table sla_incidents (
    tenant_id text not null references tenants (id),
    id text not null,
    policy_id text not null,
    policy_version integer not null,
    route_class text not null,
    status text not null default 'open' check (status in ('open', 'resolved')),
    evidence jsonb,
    window_end timestamptz not null,
    opened_at timestamptz not null default now(),
    resolved_at timestamptz,
    resolved_by text,
    primary key (tenant_id, id)
);
-- However many evaluate at once: one incident.
create unique index sla_incidents_open on sla_incidents (tenant_id, route_class) where status = 'open';
create index sla_incidents_newest on sla_incidents (tenant_id, opened_at desc, id desc);

create table autoscaling_profiles (
    tenant_id text not null references tenants (id),
    id text not null,
    name text not null,
    scope text not null check (scope in ('global', 'tenant', 'route_class')),
    route_class text,
    min_replicas integer not null check (min_replicas >= 1),
    max_replicas integer not null check (max_replicas >= min_replicas),
    target_p95_ms integer not null check (target_p95_ms >= 1),
    target_queue_depth integer not null check (target_queue_depth >= 0),
    cooldown_seconds integer not null check (cooldown_seconds >= 0),
    step_up integer not null check (step_up >= 1),
    step_down integer not null check (step_down >= 1),
    enabled boolean not null default true,
    replicas integer,
    last_applied_at timestamptz,
    evaluated_at timestamptz,
    created_by text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id)
);

create table autoscaling_actions (
    tenant_id text not null,
    id text not null,
    profile_id text not null,
    route_class text not null,
    action text not null check (action in ('scale_up', 'scale_down', 'hold')),
    reason text not null,
    current_replicas integer not null,
    recommended_replicas integer not null,
    status text not null check (status in ('recommended', 'dry_run', 'pending', 'applied', 'failed')),
    executor text not null,
    signals jsonb not null,
    created_by text,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, profile_id) references autoscaling_profiles (tenant_id, id)
);
create index autoscaling_actions_newest on autoscaling_actions (tenant_id, created_at desc, id desc);

-- Writes a policy of the platform. Only its operators are let this far.
create function sla_policy_global_put(
    p_id text, p_name text, p_tier text, p_version integer, p_enabled boolean, p_config jsonb, p_by text
) returns setof sla_policies
language sql volatile security definer set search_path = public, pg_temp as $$
    insert into sla_policies (id, tenant_id, name, tier, version, enabled, config, created_by)
    values (p_id, null, p_name, p_tier, p_version, p_enabled, p_config, p_by)
    on conflict (id) do update set name = p_name, tier = p_tier, version = p_version, enabled = p_enabled, config = p_config,
        updated_at = now() where sla_policies.tenant_id is null
    returning *
$$;

-- What differs for each tenant that is assigned to a policy: whoever changes that must know that they can still read it.
create function sla_overrides(p_policy text) returns table (tenant_id text, override jsonb)
language sql stable security definer set search_path = public, pg_temp as $$
    select a.tenant_id, a.override from sla_assignments a where a.policy_id = p_policy and a.override is not null
$$;

-- What one process has measured, of all tenants at once. An empty tenant stands for all of them.
create function sla_record(
    p_process text, p_tenants text[], p_classes text[], p_windows timestamptz[], p_counts integer[], p_failures integer[],
    p_sketches bytea[], p_first_events bytea[]
) returns void
language sql volatile security definer set search_path = public, pg_temp as $$
    insert into sla_reporters (process) values (p_process) on conflict (process) do update set reported_at = now();
    insert into sla_totals (route_class, window_start, process, count, failures, sketch, first_event)
    select c, w, p_process, n, f, s, e
    from unnest(p_tenants, p_classes, p_windows, p_counts, p_failures, p_sketches, p_first_events) as given (t, c, w, n, f, s, e)
    where t = ''
    on conflict (route_class, window_start, process) do update
        set count = excluded.count, failures = excluded.failures, sketch = excluded.sketch, first_event = excluded.first_event;
    insert into sla_measurements (tenant_id, route_class, window_start, process, count, failures, sketch, first_event)
    select t, c, w, p_process, n, f, s, e
    from unnest(p_tenants, p_classes, p_windows, p_counts, p_failures, p_sketches, p_first_events) as given (t, c, w, n, f, s, e)
    where t <> ''
    on conflict (tenant_id, route_class, window_start, process) do update
        set count = excluded.count, failures = excluded.failures, sketch = excluded.sketch, first_event = excluded.first_event;
$$;

-- Every tenant that is under an enabled policy now, with how it stands: what a process keeps to decide by.
create function sla_directory()
returns table (
    tenant_id text, policy_id text, policy_version integer, config jsonb, override jsonb, effective_to timestamptz, states jsonb
)
language sql stable security definer set search_path = public, pg_temp as $$
    select a.tenant_id, p.id, p.version, p.config, a.override, a.effective_to,
           (select jsonb_agg(jsonb_build_object('route_class', s.route_class, 'status', s.status, 'decision', s.decision,
                                                'window_end', extract(epoch from s.window_end)))
            from sla_states s
            where s.tenant_id = a.tenant_id and s.policy_id = p.id and s.policy_version = p.version and s.signal = 'ok')
    from sla_assignments a join sla_policies p on p.id = a.policy_id and p.enabled
    where a.effective_from <= now() and (a.effective_to is null or a.effective_to > now())
$$;

-- Tenants under an enabled policy whose windows up to p_end were not judged yet.
create function sla_due(p_end timestamptz, p_limit integer) returns setof text
language sql stable security definer set search_path = public, pg_temp as $$
    select a.tenant_id from sla_assignments a join sla_policies p on p.id = a.policy_id and p.enabled
    where a.effective_from <= now() and (a.effective_to is null or a.effective_to > now())
      and (a.evaluated_to is null or a.evaluated_to < p_end)
    order by a.evaluated_to nulls first limit p_limit
$$;

-- Tenants with an open incident whom no enabled policy binds now.
create function sla_unbound(p_limit integer) returns setof text
language sql stable security definer set search_path = public, pg_temp as $$
    select distinct i.tenant_id from sla_incidents i
    where i.status = 'open' and not exists (
        select from sla_assignments a join sla_policies p on p.id = a.policy_id and p.enabled
        where a.tenant_id = i.tenant_id and a.effective_from <= now() and (a.effective_to is null or a.effective_to > now())
    ) limit p_limit
$$;

-- Whether a tenant breaches a policy that binds it now and is linked to an autoscaling profile; with p_platform also whether any tenant
-- so breaches a policy of the platform. What a tenant overrides counts for its own profiles alone.
create function sla_breached_with(p_tenant text, p_profile text, p_platform boolean) returns boolean
language sql stable security definer set search_path = public, pg_temp as $$
    select exists (
        select from sla_states s
        join sla_policies p on p.id = s.policy_id and p.version = s.policy_version and p.enabled
        join sla_assignments a on a.tenant_id = s.tenant_id and a.policy_id = p.id
        where s.status = 'breached' and a.effective_from <= now() and (a.effective_to is null or a.effective_to > now())
          and (s.tenant_id = p_tenant or (p_platform and p.tenant_id is null))
          and p_profile = case when s.tenant_id = p_tenant
              then coalesce(a.override #>> '{autoscaling_link,profile_id}', p.config #>> '{autoscaling_link,profile_id}')
              else p.config #>> '{autoscaling_link,profile_id}' end
    )
$$;

-- Removes what was measured longer ago than p_keep, and processes that have been silent for that long. Returns how many rows.
create function sla_prune(p_keep interval, p_limit integer) returns integer
language plpgsql volatile security definer set search_path = public, pg_temp as $$
declare
    removed integer;
begin
    delete from sla_reporters where reported_at < now() - p_keep;
    delete from sla_totals where window_start < now() - p_keep;
    delete from sla_measurements where ctid in (select ctid from sla_measurements where window_start < now() - p_keep limit p_limit);
    get diagnostics removed = row_count;
    return removed;
end $$;

-- Takes the enabled profiles whose evaluation is due; whoever asks at the same time gets others.
create function autoscaling_take(p_every interval, p_limit integer) returns table (tenant_id text, id text)
language sql volatile security definer set search_path = public, pg_temp as $$
    with due as (
        select p.tenant_id, p.id from autoscaling_profiles p
        where p.enabled and (p.evaluated_at is null or p.evaluated_at <= now() - p_every)
        order by p.evaluated_at nulls first limit p_limit for update skip locked
    )
    update autoscaling_profiles p set evaluated_at = now() from due where p.tenant_id = due.tenant_id and p.id = due.id
    returning p.tenant_id, p.id
$$;

revoke execute on all functions in schema public from public;
