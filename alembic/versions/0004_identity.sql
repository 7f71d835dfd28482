-- Custom roles, groups, grants on corpora, policies, plans, and every kind of credential beside API keys.

-- A custom role is a set of actions. `base` is the least built-in role that has them all: it stands for the custom role wherever
-- only the three built-in ones are known.
create table custom_roles (
    tenant_id text not null references tenants (id),
    id text not null check (id ~ '^[a-z0-9][a-z0-9_-]{0,62}$' and id not in ('reader', 'editor', 'admin')),
    name text not null,
    description text,
    base text not null check (base in ('reader', 'editor', 'admin')),
    actions text[] not null,
    created_by text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id)
);

alter table users
    add column custom_role_id text,
    add column user_name text,
    add column external_id text,
    add column password_hash text,
    add column email_verified boolean not null default false,
    add column scim jsonb,
    add column version integer not null default 1,
    add column deleted_at timestamptz,
    -- Made for a key, not for a person. Until now there were no others.
    add column service boolean not null default true,
    add foreign key (tenant_id, custom_role_id) references custom_roles (tenant_id, id);
alter table users alter column service set default false;
create index users_newest on users (tenant_id, created_at desc, id desc) where deleted_at is null;
create unique index users_user_name on users (tenant_id, lower(user_name)) where deleted_at is null;
create unique index users_password_email on users (tenant_id, lower(email)) where password_hash is not null and deleted_at is null;
create index users_login on users (lower(email)) where password_hash is not null and deleted_at is null;
create index users_external_id on users (tenant_id, external_id) where external_id is not null;
-- The name that a provisioning client knows a person by: of whom it has not named yet, their address.
create index users_shown_name on users (tenant_id, lower(coalesce(user_name, email, external_subject)))
    where deleted_at is null and not service;

-- `replaced_by`: the key that a rotation put in its place; the old one works until its expiry, which the rotation brought forward.
alter table api_keys
    add column custom_role_id text,
    add column replaced_by text,
    add column expiry_noted boolean not null default false,
    add foreign key (tenant_id, custom_role_id) references custom_roles (tenant_id, id);
create index api_keys_of_user on api_keys (tenant_id, user_id);
create index api_keys_newest on api_keys (tenant_id, created_at desc, id desc);

-- `role` is what an admin mapped the group to; a provisioning client cannot set it.
create table groups (
    tenant_id text not null references tenants (id),
    id text not null,
    display_name text not null,
    external_id text,
    role text check (role in ('reader', 'editor', 'admin')),
    version integer not null default 1,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id)
);
create unique index groups_display_name on groups (tenant_id, lower(display_name));

create table group_members (
    tenant_id text not null,
    group_id text not null,
    user_id text not null,
    added_at timestamptz not null default now(),
    primary key (tenant_id, user_id, group_id),
    foreign key (tenant_id, group_id) references groups (tenant_id, id) on delete cascade,
    foreign key (tenant_id, user_id) references users (tenant_id, id) on delete cascade
);
create index group_members_of_group on group_members (tenant_id, group_id, user_id);

-- A grant on a corpus reaches every document in it.
create table corpus_permissions (
    tenant_id text not null,
    id text not null,
    corpus_id text not null,
    principal_type text not null check (principal_type in ('user', 'api_key', 'group', 'role')),
    principal_id text not null,
    permission text not null check (permission in ('read', 'write', 'delete', 'reindex', 'owner')),
    granted_by text,
    expires_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, corpus_id, principal_type, principal_id, permission),
    foreign key (tenant_id, corpus_id) references corpora (tenant_id, id) on delete cascade
);
create index corpus_permissions_of_principal on corpus_permissions (tenant_id, principal_type, principal_id);

-- Without a tenant: a policy of the platform, which binds every tenant.
create table policies (
    id text primary key,
    tenant_id text references tenants (id),
    name text not null,
    version integer not null default 1,
    effect text not null check (effect in ('allow', 'deny')),
    resource_type text not null,
    action text not null,
    condition jsonb,
    priority integer not null default 100,
    enabled boolean not null default true,
    created_by text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
create index policies_of_tenant on policies (tenant_id, priority desc, id);

-- One row per login: by password (with refresh tokens) or by single sign-on (with an opaque token of its own).
create table auth_sessions (
    tenant_id text not null,
    id text not null unique,
    user_id text not null,
    kind text not null check (kind in ('password', 'sso')),
    provider_id text,
    hash bytea unique,
    created_at timestamptz not null default now(),
    last_used_at timestamptz,
    expires_at timestamptz not null,
    revoked_at timestamptz,
    user_agent text,
    ip_address text,
    primary key (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id) on delete cascade
);
create index auth_sessions_of_user on auth_sessions (tenant_id, user_id);
create index auth_sessions_expiry on auth_sessions (expires_at);

-- The refresh tokens of one session are a family: each is used once, and using one twice ends the session.
create table refresh_tokens (
    tenant_id text not null,
    id text not null,
    session_id text not null,
    hash bytea not null unique,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at timestamptz,
    primary key (tenant_id, id),
    foreign key (tenant_id, session_id) references auth_sessions (tenant_id, id) on delete cascade
);
create index refresh_tokens_of_session on refresh_tokens (tenant_id, session_id);
create index refresh_tokens_expiry on refresh_tokens (expires_at);

create table invitations (
    tenant_id text not null references tenants (id),
    id text not null,
    email text not null,
    role text not null check (role in ('reader', 'editor', 'admin')),
    custom_role_id text,
    hash bytea not null unique,
    invited_by text,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    accepted_at timestamptz,
    accepted_by text,
    revoked_at timestamptz,
    primary key (tenant_id, id),
    foreign key (tenant_id, custom_role_id) references custom_roles (tenant_id, id)
);

-- Guesses at passwords by account and by account and address: a keyed hash of either, since it is asked before anybody is known.
create table login_attempts (
    key bytea primary key,
    attempts integer not null,
    blocked_until timestamptz not null,
    updated_at timestamptz not null
);
create index login_attempts_age on login_attempts (updated_at);

-- Secrets stand elsewhere: client_secret_ref says where.
create table identity_providers (
    tenant_id text not null references tenants (id),
    id text not null unique,
    type text not null check (type in ('oidc', 'saml')),
    name text not null,
    issuer text not null,
    client_id text not null,
    client_secret_ref text not null,
    auth_url text not null,
    token_url text not null,
    jwks_url text not null,
    userinfo_url text,
    scopes jsonb,
    enabled boolean not null default false,
    default_role text not null check (default_role in ('reader', 'editor', 'admin')),
    role_mapping jsonb,
    jit_enabled boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id)
);

-- A person as an identity provider knows them. `jit`: they came by logging in through it, and it decides about their role.
create table user_identities (
    tenant_id text not null,
    provider_id text not null,
    subject text not null,
    user_id text not null,
    jit boolean not null default false,
    created_at timestamptz not null default now(),
    last_login_at timestamptz,
    primary key (tenant_id, provider_id, subject),
    foreign key (tenant_id, provider_id) references identity_providers (tenant_id, id) on delete cascade,
    foreign key (tenant_id, user_id) references users (tenant_id, id) on delete cascade
);
create index user_identities_of_user on user_identities (tenant_id, user_id);

create table scim_tokens (
    tenant_id text not null references tenants (id),
    id text not null,
    prefix text not null,
    hash bytea not null unique,
    created_by text,
    created_at timestamptz not null default now(),
    last_used_at timestamptz,
    expires_at timestamptz,
    revoked_at timestamptz,
    primary key (tenant_id, id)
);

-- Raising the role of a person or a group waits for a second admin where IDENTITY_DUAL_CONTROL_REQUIRED is set.
create table role_changes (
    tenant_id text not null,
    id text not null,
    user_id text,
    group_id text,
    role text not null check (role in ('reader', 'editor', 'admin')),
    custom_role_id text,
    requested_by text not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    decided_by text,
    decided_at timestamptz,
    outcome text check (outcome in ('approved', 'rejected', 'replaced')),
    primary key (tenant_id, id),
    check (num_nonnulls(user_id, group_id) = 1),
    foreign key (tenant_id, user_id) references users (tenant_id, id) on delete cascade,
    foreign key (tenant_id, group_id) references groups (tenant_id, id) on delete cascade
);
create unique index role_changes_open on role_changes (tenant_id, user_id, group_id) nulls not distinct where outcome is null;
create index role_changes_newest on role_changes (tenant_id, created_at desc, id desc);

-- A tenant without a row, or whose plan has ended, has the default plan; the home tenant has enterprise. `effective_from` is when the
-- plan was assigned: it is never in the future.
create table tenant_plans (
    tenant_id text primary key references tenants (id),
    plan_id text not null check (plan_id in ('free', 'pro', 'enterprise')),
    effective_from timestamptz not null default now(),
    effective_to timestamptz,
    assigned_by text
);

-- `enabled` is null where a feature is configured but left to the plan.
create table feature_overrides (
    tenant_id text not null references tenants (id),
    feature_key text not null,
    enabled boolean,
    config jsonb,
    updated_by text,
    updated_at timestamptz not null default now(),
    primary key (tenant_id, feature_key)
);

create table plan_upgrade_requests (
    id bigint generated always as identity primary key,
    tenant_id text not null references tenants (id),
    target_plan text not null check (target_plan in ('free', 'pro', 'enterprise')),
    reason text,
    status text not null default 'open' check (status in ('open', 'approved', 'rejected')),
    requested_by text,
    created_at timestamptz not null default now()
);
create unique index plan_upgrade_requests_open on plan_upgrade_requests (tenant_id, target_plan) where status = 'open';
