-- What one tenant says that use costs it. In force from effective_from up to, not including, effective_to. Active ones of the same
-- provider, component and rate type do not overlap: billing/costs looks before it writes, holding the tenant's lock.
create table prices (
    tenant_id text not null references tenants (id),
    id text not null,
    version text not null,
    provider text not null,
    component text not null,
    rate_type text not null check (rate_type in ('per_1k_tokens', 'per_char', 'per_mb', 'per_request', 'per_second')),
    rate_value_usd numeric(24, 12) not null check (rate_value_usd > 0),
    effective_from timestamptz not null,
    effective_to timestamptz check (effective_to > effective_from),
    active boolean not null,
    metadata_json jsonb,
    created_at timestamptz not null default now(),
    created_by text,
    primary key (tenant_id, id)
);
create index prices_of on prices (tenant_id, provider, component, rate_type, effective_from);

-- What an admin set for their tenant; what is null is the installation's default. The override counts in its month alone. The marks
-- are the months in which the tenant was told that its budget was nearly, or wholly, spent: once each.
create table budgets (
    tenant_id text primary key references tenants (id),
    monthly_budget_usd numeric(24, 12) check (monthly_budget_usd >= 0),
    warn_ratio numeric(9, 8) check (warn_ratio > 0 and warn_ratio <= 1),
    enforce_hard_cap boolean,
    hard_cap_mode text check (hard_cap_mode in ('block', 'degrade')),
    current_month_override_usd numeric(24, 12) check (current_month_override_usd >= 0),
    override_month date check ((override_month is null) = (current_month_override_usd is null)),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    updated_by text,
    warned_month date,
    capped_month date,
    degraded_month date
);

-- Reports are kept as they were made. total_usd is the sum of their lines and of the ledger's in the period, exactly.
create table chargeback_reports (
    tenant_id text not null references tenants (id),
    id text not null,
    period_start timestamptz not null,
    period_end timestamptz not null check (period_end > period_start),
    currency text not null,
    total_usd numeric(38, 12) not null,
    breakdown_json jsonb not null,
    generated_at timestamptz not null default clock_timestamp(),
    generated_by text,
    primary key (tenant_id, id)
);
create index chargeback_reports_newest on chargeback_reports (tenant_id, generated_at desc);

-- Whether what a month has cost is known or guessed is asked for headers.
create index ledger_lines_guessed on ledger_lines (tenant_id, day) where estimated and (usd > 0 or price_id is null);

-- What tenants have spent in a month so far, work under way included. For the figures that a process keeps for its headers.
create function costs_spend(p_tenants text[], p_month date)
returns table (tenant_id text, usd numeric, held_usd numeric, estimated boolean)
language sql stable security definer set search_path = public, pg_temp as $$
    select t.id, coalesce(u.usd + u.held_usd, 0), coalesce(u.held_usd, 0),
        coalesce(u.held_usd, 0) > 0 or exists (
            select from ledger_lines l
            where l.tenant_id = t.id and l.day >= p_month and l.day < p_month + interval '1 month'
                and l.estimated and (l.usd > 0 or l.price_id is null)
        )
    from unnest(p_tenants) as t (id)
    left join usage_periods u on u.tenant_id = t.id and u.period = 'month' and u.starts_on = p_month
$$;

-- Bytes of the documents that each tenant keeps, of those tenants that were not charged under this subject yet.
create function costs_stored(p_subject text, p_limit integer)
returns table (tenant_id text, stored_bytes bigint)
language sql stable security definer set search_path = public, pg_temp as $$
    select t.id, kept.bytes from tenants t
    cross join lateral (select sum(d.size_bytes)::bigint as bytes from documents d where d.tenant_id = t.id) kept
    where kept.bytes > 0 and not exists (select from ledger e where e.tenant_id = t.id and e.subject = p_subject)
    limit p_limit
$$;
revoke all on function costs_spend(text[], date), costs_stored(text, integer) from public;
