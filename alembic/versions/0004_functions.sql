-- From credentials to callers, and the comparisons of policies. What looks across tenants runs as nexusrag_system.

-- Who a user is and what their tenant has, for every kind of credential. Groups are those of this moment. Runs as whoever asks:
-- the functions below ask across tenants, the application within its own.
create function auth_person(p_tenant text, p_user text)
returns table (
    user_role text, user_status text, user_custom_role text, email text, display_name text, groups jsonb, group_roles text[],
    custom_roles jsonb, tenant_status text, is_home boolean, plan_id text, overrides jsonb
)
language sql stable as $$
    select u.role, case when u.deleted_at is null then u.status else 'disabled' end, u.custom_role_id, u.email, u.display_name,
           (select jsonb_object_agg(g.id, g.display_name) from group_members m
            join groups g on g.tenant_id = m.tenant_id and g.id = m.group_id
            where m.tenant_id = u.tenant_id and m.user_id = u.id),
           (select array_agg(distinct g.role) from group_members m join groups g on g.tenant_id = m.tenant_id and g.id = m.group_id
            where m.tenant_id = u.tenant_id and m.user_id = u.id and g.role is not null),
           (select jsonb_object_agg(r.id, r.actions) from custom_roles r where r.tenant_id = u.tenant_id),
           t.status, t.is_home,
           (select p.plan_id from tenant_plans p where p.tenant_id = t.id and (p.effective_to is null or p.effective_to > now())),
           (select jsonb_object_agg(o.feature_key, o.enabled) from feature_overrides o where o.tenant_id = t.id and o.enabled is not null)
    from users u join tenants t on t.id = u.tenant_id
    where u.tenant_id = p_tenant and u.id = p_user
$$;

-- The credential with this keyed hash, whatever its tenant: the only way from a key to its tenant.
drop function auth_key(bytea);
create function auth_key(p_hash bytea)
returns table (
    tenant_id text, credential_id text, user_id text, key_role text, key_custom_role text, active boolean, created_at timestamptz,
    last_used_at timestamptz, expires_at timestamptz, revoked_at timestamptz,
    user_role text, user_status text, user_custom_role text, email text, display_name text, groups jsonb, group_roles text[],
    custom_roles jsonb, tenant_status text, is_home boolean, plan_id text, overrides jsonb
)
language sql stable security definer set search_path = public, pg_temp as $$
    select k.tenant_id, k.id, k.user_id, k.role, k.custom_role_id, k.active, k.created_at, k.last_used_at, k.expires_at, k.revoked_at, p.*
    from api_keys k cross join lateral auth_person(k.tenant_id, k.user_id) p
    where k.hash = p_hash
$$;

-- The session with this id (named by a signed access token) or this keyed hash (an opaque session token).
create function auth_session(p_id text, p_hash bytea)
returns table (
    tenant_id text, credential_id text, user_id text, kind text, provider_id text, created_at timestamptz, last_used_at timestamptz,
    expires_at timestamptz, revoked_at timestamptz, provider_enabled boolean,
    user_role text, user_status text, user_custom_role text, email text, display_name text, groups jsonb, group_roles text[],
    custom_roles jsonb, tenant_status text, is_home boolean, plan_id text, overrides jsonb
)
language sql stable security definer set search_path = public, pg_temp as $$
    select s.tenant_id, s.id, s.user_id, s.kind, s.provider_id, s.created_at, s.last_used_at, s.expires_at, s.revoked_at,
           s.provider_id is null or exists (select 1 from identity_providers i
                                            where i.tenant_id = s.tenant_id and i.id = s.provider_id and i.enabled),
           p.*
    from auth_sessions s cross join lateral auth_person(s.tenant_id, s.user_id) p
    where s.id = p_id or s.hash = p_hash
$$;

-- The SCIM token with this keyed hash. It acts for a provisioning client, not for a person.
create function auth_scim(p_hash bytea)
returns table (
    tenant_id text, credential_id text, last_used_at timestamptz, expires_at timestamptz, revoked_at timestamptz, tenant_status text,
    is_home boolean,
    plan_id text, overrides jsonb
)
language sql stable security definer set search_path = public, pg_temp as $$
    select s.tenant_id, s.id, s.last_used_at, s.expires_at, s.revoked_at, t.status, t.is_home,
           (select p.plan_id from tenant_plans p where p.tenant_id = t.id and (p.effective_to is null or p.effective_to > now())),
           (select jsonb_object_agg(o.feature_key, o.enabled) from feature_overrides o where o.tenant_id = t.id and o.enabled is not null)
    from scim_tokens s join tenants t on t.id = s.tenant_id
    where s.hash = p_hash
$$;

-- Accounts that this address may log in to, in one tenant or (without one) in any. The caller checks the password against each.
-- `from_here`: the account was logged in to from p_address in the last 30 days.
create function auth_password(p_email text, p_tenant text, p_address text)
returns table (tenant_id text, user_id text, password_hash text, user_status text, tenant_status text, from_here boolean)
language sql stable security definer set search_path = public, pg_temp as $$
    select u.tenant_id, u.id, u.password_hash, u.status, t.status,
           exists (select 1 from auth_sessions s where s.tenant_id = u.tenant_id and s.user_id = u.id and s.ip_address = p_address
                   and s.created_at > now() - interval '30 days')
    from users u join tenants t on t.id = u.tenant_id
    where lower(u.email) = lower(p_email) and u.password_hash is not null and u.deleted_at is null
      and (p_tenant is null or u.tenant_id = p_tenant)
    order by u.created_at limit 5
$$;

-- Tenant and session of a refresh token.
create function auth_refresh(p_hash bytea) returns table (tenant_id text, id text, session_id text)
language sql stable security definer set search_path = public, pg_temp as $$
    select tenant_id, id, session_id from refresh_tokens where hash = p_hash
$$;

-- Tenant of an invitation.
create function auth_invitation(p_hash bytea) returns table (tenant_id text, id text)
language sql stable security definer set search_path = public, pg_temp as $$
    select tenant_id, id from invitations where hash = p_hash
$$;

-- Makes a tenant for somebody who registered; false when the id is taken or the installation has no home tenant yet, which a
-- stranger must not get.
create function tenant_open(p_id text, p_name text) returns boolean
language sql volatile security definer set search_path = public, pg_temp as $$
    with made as (
        insert into tenants (id, name) select p_id, p_name where exists (select 1 from tenants where is_home)
        on conflict (id) do nothing returning 1
    )
    select exists (select 1 from made)
$$;

-- Deletes logins with their refresh tokens, refresh tokens and invitations that ended more than p_keep ago (a day at least), and
-- counts of guesses that have not grown for a day; invitations that ended let go of their custom role, which can then be deleted.
-- Up to p_limit of each; returns how many rows.
create function accounts_sweep(p_keep interval, p_limit integer) returns integer
language sql volatile security definer set search_path = public, pg_temp as $$
    with kept as (
        select now() - greatest(p_keep, interval '1 day') as since
    ), sessions_gone as (
        delete from auth_sessions where id in (
            select id from auth_sessions where least(expires_at, revoked_at) < (select since from kept) limit p_limit for update skip locked)
        returning 1
    ), tokens_gone as (
        delete from refresh_tokens where (tenant_id, id) in (
            select tenant_id, id from refresh_tokens where expires_at < (select since from kept) limit p_limit for update skip locked)
        returning 1
    ), invitations_gone as (
        delete from invitations where (tenant_id, id) in (
            select tenant_id, id from invitations where least(expires_at, accepted_at, revoked_at) < (select since from kept)
            limit p_limit for update skip locked)
        returning 1
    ), roles_let_go as (
        update invitations set custom_role_id = null where (tenant_id, id) in (
            select tenant_id, id from invitations where custom_role_id is not null
            and least(expires_at, accepted_at, revoked_at) between (select since from kept) and now()
            limit p_limit for update skip locked)
        returning 1
    ), attempts_gone as (
        delete from login_attempts where key in (
            select key from login_attempts where updated_at < now() - interval '1 day' limit p_limit for update skip locked)
        returning 1
    )
    select ((select count(*) from sessions_gone) + (select count(*) from tokens_gone) + (select count(*) from invitations_gone)
            + (select count(*) from roles_let_go) + (select count(*) from attempts_gone))::integer
$$;

-- Tenant of an identity provider: a login begins before anybody is known. Also the plan, which must allow single sign-on.
create function auth_provider(p_id text)
returns table (tenant_id text, enabled boolean, tenant_status text, is_home boolean, plan_id text, overrides jsonb)
language sql stable security definer set search_path = public, pg_temp as $$
    select i.tenant_id, i.enabled, t.status, t.is_home,
           (select p.plan_id from tenant_plans p where p.tenant_id = t.id and (p.effective_to is null or p.effective_to > now())),
           (select jsonb_object_agg(o.feature_key, o.enabled) from feature_overrides o where o.tenant_id = t.id and o.enabled is not null)
    from identity_providers i join tenants t on t.id = i.tenant_id
    where i.id = p_id
$$;

-- Whether there is such a tenant, for operators of the platform, who name others than their own.
create function tenant_directory(p_id text) returns table (id text, name text, status text, is_home boolean)
language sql stable security definer set search_path = public, pg_temp as $$
    select t.id, t.name, t.status, t.is_home from tenants t where t.id = p_id
$$;

-- Writes a policy of the platform. Only operators of the platform are let this far; what they write is theirs to answer for.
create function policy_global_put(
    p_id text, p_name text, p_effect text, p_resource_type text, p_action text, p_condition jsonb, p_priority integer, p_enabled boolean,
    p_by text
) returns setof policies
language sql volatile security definer set search_path = public, pg_temp as $$
    insert into policies (id, tenant_id, name, effect, resource_type, action, condition, priority, enabled, created_by)
    values (p_id, null, p_name, p_effect, p_resource_type, p_action, p_condition, p_priority, p_enabled, p_by)
    on conflict (id) do update set name = p_name, effect = p_effect, resource_type = p_resource_type, action = p_action,
        condition = p_condition, priority = p_priority, enabled = p_enabled, version = policies.version + 1, updated_at = now()
        where policies.tenant_id is null
    returning *
$$;

-- Comparisons of policies: true, false, or null where an operand is missing or of another type. They are plain expressions, so
-- that the planner puts them into the statement.
create function policy_eq(a jsonb, b jsonb) returns boolean language sql immutable parallel safe as $$
    select case when jsonb_typeof(a) = jsonb_typeof(b) and jsonb_typeof(a) in ('string', 'number', 'boolean') then a = b end
$$;

create function policy_less(a jsonb, b jsonb, or_equal boolean) returns boolean language sql immutable parallel safe as $$
    select case
        when jsonb_typeof(a) = 'number' and jsonb_typeof(b) = 'number' then a < b or (or_equal and a = b)
        when jsonb_typeof(a) = 'string' and jsonb_typeof(b) = 'string'
            then (a #>> '{}') collate "C" < (b #>> '{}') collate "C" or (or_equal and a = b)
    end
$$;

-- Whether the scalar is one of the list. A list may contain (@>) a bare scalar; jsonb_build_array would not be immutable.
create function policy_in(needle jsonb, haystack jsonb) returns boolean language sql immutable parallel safe as $$
    select case when jsonb_typeof(haystack) = 'array' and jsonb_typeof(needle) in ('string', 'number', 'boolean')
        then haystack @> needle end
$$;

-- Whether the string is one of the keys: many policy_eq on one value at once.
create function policy_among(value jsonb, strings jsonb) returns boolean language sql immutable parallel safe as $$
    select case when jsonb_typeof(value) = 'string' then strings ? (value #>> '{}') end
$$;

-- Whether the list holds the scalar, or the text the text.
create function policy_contains(haystack jsonb, needle jsonb) returns boolean language sql immutable parallel safe as $$
    select case
        when jsonb_typeof(haystack) = 'array' and jsonb_typeof(needle) in ('string', 'number', 'boolean')
            then haystack @> needle
        when jsonb_typeof(haystack) = 'string' and jsonb_typeof(needle) = 'string'
            then position((needle #>> '{}') in (haystack #>> '{}')) > 0
    end
$$;

create function policy_starts(value jsonb, prefix jsonb) returns boolean language sql immutable parallel safe as $$
    select case when jsonb_typeof(value) = 'string' and jsonb_typeof(prefix) = 'string'
        then starts_with(value #>> '{}', prefix #>> '{}') end
$$;

create function policy_matches(value jsonb, pattern text) returns boolean language sql immutable parallel safe as $$
    select case when jsonb_typeof(value) = 'string' then (value #>> '{}') collate "C" ~ pattern end
$$;

revoke execute on all functions in schema public from public;
