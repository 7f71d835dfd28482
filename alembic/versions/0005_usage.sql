-- What an operator set for one tenant. What is null, or has no row, is the plan's.
create table quota_limits (
    tenant_id text primary key references tenants (id),
    daily_requests_limit bigint check (daily_requests_limit >= 0),
    monthly_requests_limit bigint check (monthly_requests_limit >= 0),
    daily_tokens_limit bigint check (daily_tokens_limit >= 0),
    monthly_tokens_limit bigint check (monthly_tokens_limit >= 0),
    soft_cap_ratio double precision check (soft_cap_ratio between 0 and 1),
    hard_cap_enabled boolean,
    updated_at timestamptz not null default now(),
    updated_by text
);

-- One row for each UTC day and month in which a tenant did something. Plain units are those of requests without a reservation, as
-- Redis counted them; direct units the same, counted here while Redis was away; all others are settled here, and held until then.
create table usage_periods (
    tenant_id text not null references tenants (id),
    period text not null check (period in ('day', 'month')),
    starts_on date not null,
    plain_units bigint not null default 0 check (plain_units >= 0),
    direct_units bigint not null default 0 check (direct_units >= 0),
    units bigint not null default 0 check (units >= 0),
    held_units bigint not null default 0 check (held_units >= 0),
    tokens bigint not null default 0 check (tokens >= 0),
    held_tokens bigint not null default 0 check (held_tokens >= 0),
    usd numeric(38, 12) not null default 0 check (usd >= 0),
    held_usd numeric(38, 12) not null default 0 check (held_usd >= 0),
    soft_cap_at timestamptz,
    overage_at timestamptz,
    recorded_at timestamptz,
    primary key (tenant_id, period, starts_on)
);

-- What was reserved before work began and settled when it ended, or charged at once. The subject is a run, a job, a request.
create table ledger (
    tenant_id text not null references tenants (id),
    subject text not null,
    route_class text not null,
    state text not null check (state in ('held', 'settled', 'expired')),
    day date not null,
    units integer not null default 0,
    held_tokens bigint not null default 0,
    held_usd numeric(38, 12) not null default 0,
    tokens bigint not null default 0,
    usd numeric(38, 12) not null default 0,
    estimated boolean not null default false,
    user_id text,
    credential_id text,
    held_at timestamptz not null default now(),
    expires_at timestamptz,
    settled_at timestamptz,
    asked_at timestamptz,
    primary key (tenant_id, subject)
);
create index ledger_expiring on ledger (expires_at) where state = 'held';
create index ledger_estimated on ledger (settled_at) where state <> 'held' and estimated;
create index ledger_day on ledger (tenant_id, day);

-- What each settled or charged entry is made of. usd is exact to a pico-dollar; what is shown is rounded to a micro-dollar.
create table ledger_lines (
    id bigint generated always as identity primary key,
    tenant_id text not null references tenants (id),
    subject text not null,
    day date not null,
    at timestamptz not null default now(),
    route_class text not null,
    component text not null check (component in ('llm', 'embedding', 'retrieval', 'tts', 'storage')),
    provider text not null,
    model text,
    rate_type text not null,
    quantity numeric(20, 6) not null check (quantity >= 0),
    rate_usd numeric(24, 12),
    price_id text,
    usd numeric(38, 12) not null check (usd >= 0),
    estimated boolean not null
);
create index ledger_lines_day on ledger_lines (tenant_id, day);
create index ledger_lines_subject on ledger_lines (tenant_id, subject);

-- Everybody locks in this order: the entry, the month, the day.

-- Locks the rows of a day and its month, made unless they exist.
create function usage_lock(p_tenant text, p_day date) returns void
language plpgsql volatile as $$
declare
    first date := date_trunc('month', p_day)::date;
begin
    perform 1 from usage_periods where tenant_id = p_tenant and period = 'month' and starts_on = first for update;
    if not found then
        insert into usage_periods (tenant_id, period, starts_on) values (p_tenant, 'month', first) on conflict do nothing;
        perform 1 from usage_periods where tenant_id = p_tenant and period = 'month' and starts_on = first for update;
    end if;
    perform 1 from usage_periods where tenant_id = p_tenant and period = 'day' and starts_on = p_day for update;
    if not found then
        insert into usage_periods (tenant_id, period, starts_on) values (p_tenant, 'day', p_day) on conflict do nothing;
        perform 1 from usage_periods where tenant_id = p_tenant and period = 'day' and starts_on = p_day for update;
    end if;
end $$;

-- Takes units, tokens and dollars within the caps, or nothing. p_counted: Redis has decided about the units. p_direct: they belong to no
-- entry. Null is no cap; the cap of dollars is always hard. What is in the way of an observing cap is said, and not refused.
create function usage_admit(
    p_tenant text, p_day date, p_units bigint, p_tokens bigint, p_usd numeric, p_direct boolean, p_counted boolean,
    p_day_units bigint, p_month_units bigint, p_day_tokens bigint, p_month_tokens bigint, p_month_usd numeric, p_hard boolean,
    out refused boolean, out cause text, out period text, out cap numeric, out used numeric,
    out m usage_periods, out d usage_periods
)
language plpgsql volatile as $$
declare
    m_units bigint;
    d_units bigint;
    m_tokens bigint;
    d_tokens bigint;
    direct bigint := case when p_direct then p_units else 0 end;
    held bigint := p_units - direct;
    first date := date_trunc('month', p_day)::date;
begin
    -- Nearly always nothing is in the way: then each row is written as it is found.
    update usage_periods u set direct_units = u.direct_units + direct, held_units = u.held_units + held,
        held_tokens = u.held_tokens + p_tokens, held_usd = u.held_usd + p_usd
    where u.tenant_id = p_tenant and u.period = 'month' and u.starts_on = first
      and (p_usd <= 0 or p_month_usd is null or u.usd + u.held_usd + p_usd <= p_month_usd)
      and (p_counted or p_units <= 0 or p_month_units is null
           or u.plain_units + u.direct_units + u.units + u.held_units + p_units <= p_month_units)
      and (p_tokens <= 0 or p_month_tokens is null or u.tokens + u.held_tokens + p_tokens <= p_month_tokens)
    returning u.* into m;
    if found then
        update usage_periods u set direct_units = u.direct_units + direct, held_units = u.held_units + held,
            held_tokens = u.held_tokens + p_tokens, held_usd = u.held_usd + p_usd
        where u.tenant_id = p_tenant and u.period = 'day' and u.starts_on = p_day
          and (p_counted or p_units <= 0 or p_day_units is null
               or u.plain_units + u.direct_units + u.units + u.held_units + p_units <= p_day_units)
          and (p_tokens <= 0 or p_day_tokens is null or u.tokens + u.held_tokens + p_tokens <= p_day_tokens)
        returning u.* into d;
        if found then
            refused := false;
            return;
        end if;
        update usage_periods u set direct_units = u.direct_units - direct, held_units = u.held_units - held,
            held_tokens = u.held_tokens - p_tokens, held_usd = u.held_usd - p_usd
        where u.tenant_id = p_tenant and u.period = 'month' and u.starts_on = first;
    end if;
    perform usage_lock(p_tenant, p_day);
    select * into m from usage_periods u where u.tenant_id = p_tenant and u.period = 'month' and u.starts_on = first;
    select * into d from usage_periods u where u.tenant_id = p_tenant and u.period = 'day' and u.starts_on = p_day;
    m_units := m.plain_units + m.direct_units + m.units + m.held_units;
    d_units := d.plain_units + d.direct_units + d.units + d.held_units;
    m_tokens := m.tokens + m.held_tokens;
    d_tokens := d.tokens + d.held_tokens;
    select o.c, o.p, o.l, o.u into cause, period, cap, used from (values
        (1, 'usd', 'month', p_month_usd, m.usd + m.held_usd, p_usd, false),
        (2, 'units', 'day', p_day_units, d_units, p_units, p_counted),
        (3, 'units', 'month', p_month_units, m_units, p_units, p_counted),
        (4, 'tokens', 'day', p_day_tokens, d_tokens, p_tokens, false),
        (5, 'tokens', 'month', p_month_tokens, m_tokens, p_tokens, false)
    ) as o (n, c, p, l, u, asked, decided)
    where not o.decided and o.asked > 0 and o.u + o.asked > o.l order by o.n limit 1;
    refused := cause is not null and (p_hard or cause = 'usd');
    if refused then
        return;
    end if;
    update usage_periods u set direct_units = u.direct_units + direct, held_units = u.held_units + held,
        held_tokens = u.held_tokens + p_tokens, held_usd = u.held_usd + p_usd
    where u.tenant_id = p_tenant and u.period = 'month' and u.starts_on = m.starts_on returning u.* into m;
    update usage_periods u set direct_units = u.direct_units + direct, held_units = u.held_units + held,
        held_tokens = u.held_tokens + p_tokens, held_usd = u.held_usd + p_usd
    where u.tenant_id = p_tenant and u.period = 'day' and u.starts_on = d.starts_on returning u.* into d;
end $$;

-- Reserves for a subject, or says what is in the way. A subject that has an entry keeps it as it is.
create function ledger_reserve(
    p_tenant text, p_subject text, p_route_class text, p_units integer, p_tokens bigint, p_usd numeric, p_lasts interval,
    p_user text, p_credential text, p_at timestamptz, p_counted boolean,
    p_day_units bigint, p_month_units bigint, p_day_tokens bigint, p_month_tokens bigint, p_month_usd numeric, p_hard boolean,
    out state text, out cause text, out period text, out cap numeric, out used numeric,
    out m usage_periods, out d usage_periods
)
language plpgsql volatile as $$
declare
    today date := (p_at at time zone 'utc')::date;
    taken record;
begin
    insert into ledger (tenant_id, subject, route_class, state, day, units, held_tokens, held_usd, user_id, credential_id, held_at, expires_at)
    values (p_tenant, p_subject, p_route_class, 'held', today, p_units, p_tokens, p_usd, p_user, p_credential, p_at, p_at + p_lasts)
    on conflict do nothing;
    if not found then
        state := 'repeated';
        perform usage_lock(p_tenant, today);
        select * into m from usage_periods u where u.tenant_id = p_tenant and u.period = 'month' and u.starts_on = date_trunc('month', today)::date;
        select * into d from usage_periods u where u.tenant_id = p_tenant and u.period = 'day' and u.starts_on = today;
        return;
    end if;
    select * into taken from usage_admit(p_tenant, today, p_units, p_tokens, p_usd, false, p_counted,
        p_day_units, p_month_units, p_day_tokens, p_month_tokens, p_month_usd, p_hard);
    if taken.refused then
        delete from ledger l where l.tenant_id = p_tenant and l.subject = p_subject;
    end if;
    state := case when taken.refused then 'refused' else 'held' end;
    cause := taken.cause;
    period := taken.period;
    cap := taken.cap;
    used := taken.used;
    m := taken.m;
    d := taken.d;
end $$;

-- Returns what they come to.
create function ledger_write_lines(p_tenant text, p_subject text, p_route_class text, p_day date, p_at timestamptz, p_lines jsonb) returns numeric
language sql volatile as $$
    with written as (
        insert into ledger_lines
            (tenant_id, subject, day, at, route_class, component, provider, model, rate_type, quantity, rate_usd, price_id, usd, estimated)
        select p_tenant, p_subject, p_day, p_at, p_route_class, l.component, l.provider, l.model, l.rate_type, l.quantity, l.rate_usd,
               l.price_id, l.usd, l.estimated
        from jsonb_to_recordset(p_lines) as l (component text, provider text, model text, rate_type text, quantity numeric(20, 6),
            rate_usd numeric(24, 12), price_id text, usd numeric(38, 12), estimated boolean)
        returning usd
    )
    select coalesce(sum(written.usd), 0) from written
$$;

-- Adds to a day and its month, whose rows are made unless they exist.
create function usage_add(
    p_tenant text, p_day date, p_units bigint, p_held_units bigint, p_tokens bigint, p_held_tokens bigint, p_usd numeric, p_held_usd numeric
) returns void
language plpgsql volatile as $$
declare
    first date := date_trunc('month', p_day)::date;
begin
    for attempt in 1..2 loop
        update usage_periods u set units = u.units + p_units, held_units = u.held_units + p_held_units, tokens = u.tokens + p_tokens,
            held_tokens = u.held_tokens + p_held_tokens, usd = u.usd + p_usd, held_usd = u.held_usd + p_held_usd
        where u.tenant_id = p_tenant and u.period = 'month' and u.starts_on = first;
        exit when found;
        perform usage_lock(p_tenant, p_day);
    end loop;
    for attempt in 1..2 loop
        update usage_periods u set units = u.units + p_units, held_units = u.held_units + p_held_units, tokens = u.tokens + p_tokens,
            held_tokens = u.held_tokens + p_held_tokens, usd = u.usd + p_usd, held_usd = u.held_usd + p_held_usd
        where u.tenant_id = p_tenant and u.period = 'day' and u.starts_on = p_day;
        exit when found;
        perform usage_lock(p_tenant, p_day);
    end loop;
end $$;

create function ledger_total(p_lines jsonb) returns numeric
language sql immutable as $$
    select coalesce(sum(l.usd), 0) from jsonb_to_recordset(p_lines) as l (usd numeric(38, 12))
$$;

-- Settles an entry with what was really used: a held one, one that had expired, or one that was settled by estimate when the exact figures
-- of some components come. p_expired: it was held for too long. False when nothing was to be settled. It counts for the day of the
-- reservation.
create function ledger_settle(
    p_tenant text, p_subject text, p_tokens bigint, p_estimated boolean, p_lines jsonb, p_expired boolean
) returns boolean
language plpgsql volatile as $$
declare
    e ledger;
    total numeric;
    left_units integer := 0;
    left_tokens bigint := 0;
    left_usd numeric := 0;
begin
    select * into e from ledger l where l.tenant_id = p_tenant and l.subject = p_subject for update;
    if not found or (e.state <> 'held' and p_expired) or (e.state = 'settled' and not (e.estimated and not p_estimated)) then
        return false;
    end if;
    if e.state = 'held' then
        left_units := e.units;
        left_tokens := e.held_tokens;
        left_usd := e.held_usd;
    else
        delete from ledger_lines l where l.tenant_id = p_tenant and l.subject = p_subject
            and (e.state = 'expired' or l.component in (select g.component from jsonb_to_recordset(p_lines) as g (component text)));
    end if;
    total := ledger_write_lines(p_tenant, p_subject, e.route_class, e.day, e.held_at, p_lines);
    if e.state <> 'held' then  -- lines of other components stand
        select coalesce(sum(l.usd), 0) into total from ledger_lines l where l.tenant_id = p_tenant and l.subject = p_subject;
    end if;
    update ledger l set state = case when p_expired then 'expired' else 'settled' end, tokens = p_tokens, usd = total,
        estimated = p_estimated, settled_at = clock_timestamp()
    where l.tenant_id = p_tenant and l.subject = p_subject;
    -- Last: all of a tenant's work meets in these two rows, and waits until the transaction ends.
    perform usage_add(p_tenant, e.day, left_units, -left_units, p_tokens - e.tokens, -left_tokens, total - e.usd, -left_usd);
    return true;
end $$;

-- Charges at once what was used. False when the subject has an entry already.
create function ledger_charge(
    p_tenant text, p_subject text, p_route_class text, p_tokens bigint, p_estimated boolean, p_lines jsonb,
    p_user text, p_credential text, p_at timestamptz
) returns boolean
language plpgsql volatile as $$
declare
    today date := (p_at at time zone 'utc')::date;
    total numeric := ledger_total(p_lines);
begin
    insert into ledger (tenant_id, subject, route_class, state, day, tokens, usd, estimated, user_id, credential_id, held_at, settled_at)
    values (p_tenant, p_subject, p_route_class, 'settled', today, p_tokens, total, p_estimated, p_user, p_credential, p_at, p_at)
    on conflict do nothing;
    if not found then
        return false;
    end if;
    perform ledger_write_lines(p_tenant, p_subject, p_route_class, today, p_at, p_lines);
    perform usage_add(p_tenant, today, 0, 0, p_tokens, 0, total, 0);
    return true;
end $$;

-- True for the first who says that the soft cap of a running period was reached, or that a cap which only observes was exceeded.
create function usage_note_once(p_tenant text, p_what text, p_period text, p_at timestamptz) returns boolean
language plpgsql volatile as $$
declare
    first date := date_trunc(p_period, p_at at time zone 'utc')::date;
begin
    insert into usage_periods (tenant_id, period, starts_on) values (p_tenant, p_period, first) on conflict do nothing;
    update usage_periods u set
        soft_cap_at = case when p_what = 'soft_cap' then clock_timestamp() else u.soft_cap_at end,
        overage_at = case when p_what = 'overage' then clock_timestamp() else u.overage_at end
    where u.tenant_id = p_tenant and u.period = p_period and u.starts_on = first
      and case p_what when 'soft_cap' then u.soft_cap_at when 'overage' then u.overage_at end is null;
    return found;
end $$;

-- Gives back units that usage_admit took directly.
create function usage_give_back(p_tenant text, p_day date, p_units bigint) returns void
language plpgsql volatile as $$
begin
    perform usage_lock(p_tenant, p_day);
    update usage_periods u set direct_units = greatest(0, u.direct_units - p_units)
    where u.tenant_id = p_tenant
      and ((u.period = 'month' and u.starts_on = date_trunc('month', p_day)::date) or (u.period = 'day' and u.starts_on = p_day));
end $$;

-- Writes what Redis counted as plain units: values by tenant and day, of any tenants. The month follows by the difference.
create function usage_flush_plain(p_tenants text[], p_days date[], p_units bigint[]) returns integer
language plpgsql volatile security definer set search_path = public, pg_temp as $$
declare
    given record;
    held record;
    changed integer := 0;
begin
    for given in
        select g.tenant, g.day, g.units from unnest(p_tenants, p_days, p_units) as g (tenant, day, units)
        join tenants t on t.id = g.tenant
        left join usage_periods u on u.tenant_id = g.tenant and u.period = 'day' and u.starts_on = g.day
        where g.units >= 0 and g.units is distinct from coalesce(u.plain_units, 0) order by g.tenant, g.day
    loop
        perform usage_lock(given.tenant, given.day);
        select u.plain_units as units into held from usage_periods u
        where u.tenant_id = given.tenant and u.period = 'day' and u.starts_on = given.day;
        update usage_periods u set plain_units = greatest(0, u.plain_units + given.units - held.units)
        where u.tenant_id = given.tenant and ((u.period = 'month' and u.starts_on = date_trunc('month', given.day)::date)
            or (u.period = 'day' and u.starts_on = given.day));
        changed := changed + 1;
    end loop;
    return changed;
end $$;

-- Entries of any tenants that were held for too long, the oldest first.
create function ledger_expired(p_limit integer)
returns table (tenant_id text, subject text, held_tokens bigint, held_usd numeric)
language sql stable security definer set search_path = public, pg_temp as $$
    select l.tenant_id, l.subject, l.held_tokens, l.held_usd from ledger l
    where l.state = 'held' and l.expires_at < clock_timestamp() order by l.expires_at limit p_limit
$$;

-- Entries of any tenants that were settled by estimate in the last p_within, for whoever can learn the exact figures. Each is given out once
-- in p_pause, those first that were never asked about: what nobody ever learns keeps nothing else waiting.
create function ledger_estimates(p_route_class text, p_within interval, p_pause interval, p_limit integer)
returns table (tenant_id text, subject text)
language sql volatile security definer set search_path = public, pg_temp as $$
    with due as (
        select l.tenant_id, l.subject from ledger l
        where l.state <> 'held' and l.estimated and l.route_class = p_route_class and l.settled_at > clock_timestamp() - p_within
          and (l.asked_at is null or l.asked_at <= clock_timestamp() - p_pause)
        order by l.asked_at nulls first, l.settled_at limit p_limit for update skip locked
    )
    update ledger l set asked_at = clock_timestamp() from due
    where l.tenant_id = due.tenant_id and l.subject = due.subject
    returning l.tenant_id, l.subject
$$;

-- Days of the last week that are over, in which nothing is held any more, and which nobody has put on record yet, of all tenants. What
-- Redis counted before midnight is written shortly after it.
create function usage_unrecorded(p_limit integer)
returns table (tenant_id text, day date)
language sql stable security definer set search_path = public, pg_temp as $$
    select u.tenant_id, u.starts_on from usage_periods u
    where u.period = 'day' and u.recorded_at is null and u.held_units = 0
      and u.starts_on between (now() at time zone 'utc')::date - 7 and (now() at time zone 'utc' - interval '5 minutes')::date - 1
    order by u.starts_on limit p_limit
$$;

-- Forgets the counters of periods that ended more than p_days days ago and in which nothing is held, of all tenants; returns how many.
create function usage_prune(p_days integer) returns integer
language plpgsql volatile security definer set search_path = public, pg_temp as $$
declare
    pruned integer;
    before date := (now() at time zone 'utc')::date - p_days;
begin
    delete from usage_periods u
    where ((u.period = 'day' and u.starts_on < before) or (u.period = 'month' and u.starts_on + interval '1 month' <= before))
      and u.held_units = 0 and u.held_tokens = 0 and u.held_usd = 0;
    get diagnostics pruned = row_count;
    return pruned;
end $$;

revoke execute on all functions in schema public from public;
