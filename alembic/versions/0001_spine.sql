-- The spine: tenants and credentials, corpora and documents, the index, jobs, runs with their journal, audit, idempotency.
-- Every table with tenant_id gets row-level security at the end of this file; the list is in the migration's Python half.

create table tenants (
    id text primary key check (id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    name text not null,
    is_home boolean not null default false,
    status text not null default 'active' check (status in ('active', 'suspended')),
    created_at timestamptz not null default now()
);
create unique index tenants_one_home on tenants (is_home) where is_home;

create table users (
    tenant_id text not null references tenants (id),
    id text not null,
    external_subject text not null,
    email text,
    display_name text,
    role text not null check (role in ('reader', 'editor', 'admin')),
    status text not null default 'active' check (status in ('active', 'disabled')),
    last_login_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, external_subject)
);

create table api_keys (
    tenant_id text not null references tenants (id),
    id text not null,
    user_id text not null,
    kind text not null default 'api',
    name text,
    role text not null check (role in ('reader', 'editor', 'admin')),
    prefix text not null,
    hash bytea not null,
    active boolean not null default true,
    created_at timestamptz not null default now(),
    created_by text,
    last_used_at timestamptz,
    expires_at timestamptz,
    revoked_at timestamptz,
    primary key (tenant_id, id),
    foreign key (tenant_id, user_id) references users (tenant_id, id)
);
create unique index api_keys_hash on api_keys (hash);
create unique index api_keys_id on api_keys (id);

create table embedding_spaces (
    id integer generated always as identity primary key,
    model text not null unique,
    dimensions integer not null check (dimensions between 1 and 4000),
    created_at timestamptz not null default now()
);

create table corpora (
    tenant_id text not null references tenants (id),
    id text not null,
    key bigint generated always as identity unique,
    name text not null,
    visibility text not null default 'restricted' check (visibility in ('restricted', 'tenant')),
    provider_config jsonb not null,
    space_id integer references embedding_spaces (id),
    created_by text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    primary key (tenant_id, id)
);

create table documents (
    tenant_id text not null,
    id text not null,
    corpus_id text not null,
    corpus_key bigint not null,
    filename text not null,
    content_type text not null,
    source text not null,
    ingest_source text not null,
    status text not null check (status in ('queued', 'processing', 'succeeded', 'failed')),
    failure_reason text,
    metadata jsonb not null default '{}',
    size_bytes bigint not null,
    sha256 text not null,
    blob_id text not null,
    live_version_id bigint,
    num_chunks integer,
    progress jsonb not null default '{}',
    created_by text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    queued_at timestamptz,
    processing_started_at timestamptz,
    completed_at timestamptz,
    last_reindexed_at timestamptz,
    last_job_id text,
    primary key (tenant_id, id),
    foreign key (tenant_id, corpus_id) references corpora (tenant_id, id)
);
create index documents_newest on documents (tenant_id, created_at desc, id desc);
create index documents_of_corpus on documents (corpus_key, status);
create index documents_live on documents (corpus_key, live_version_id) include (tenant_id, id) where live_version_id is not null;

create table document_permissions (
    tenant_id text not null,
    id text not null,
    document_id text not null,
    principal_type text not null check (principal_type in ('user', 'api_key', 'group', 'role')),
    principal_id text not null,
    permission text not null check (permission in ('read', 'write', 'delete', 'reindex', 'owner')),
    granted_by text,
    expires_at timestamptz,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, document_id, principal_type, principal_id, permission),
    foreign key (tenant_id, document_id) references documents (tenant_id, id) on delete cascade
);
create index document_permissions_of_principal on document_permissions (tenant_id, principal_type, principal_id);

-- A version is one indexing of one document's source. Chunks, postings and vectors belong to a version; the document points
-- to the live one, so an index is swapped by one update.
create table document_versions (
    id bigint generated always as identity primary key,
    tenant_id text not null,
    document_id text not null,
    corpus_key bigint not null,
    number integer not null,
    state text not null check (state in ('building', 'live', 'retired')),
    sha256 text not null,
    chunk_size_chars integer not null,
    chunk_overlap_chars integer not null,
    space_id integer references embedding_spaces (id),
    pages integer,
    chars integer not null default 0,
    num_chunks integer not null default 0,
    num_terms bigint not null default 0,
    created_at timestamptz not null default now(),
    live_at timestamptz,
    retired_at timestamptz,
    unique (tenant_id, document_id, number),
    foreign key (tenant_id, document_id) references documents (tenant_id, id) on delete cascade
);
create index document_versions_live on document_versions (corpus_key) include (tenant_id, id, num_chunks, num_terms) where state = 'live';

create table chunks (
    id bigint generated always as identity primary key,
    tenant_id text not null,
    version_id bigint not null references document_versions (id) on delete cascade,
    ord integer not null,
    text text not null,
    heading text[] not null default '{}',
    start_char integer not null,
    end_char integer not null,
    page integer,
    page_end integer,
    hash bytea not null,
    unique (version_id, ord)
);

-- Narrow on purpose: wide rows are read through TOAST and cost three times as much. One partial HNSW index per space is
-- made when the space is registered (space_ensure).
create table embeddings (
    tenant_id text not null,
    space_id integer not null references embedding_spaces (id),
    version_id bigint not null,
    chunk_id bigint not null,
    v halfvec not null,
    primary key (chunk_id, space_id)
);
create index embeddings_of_version on embeddings (version_id, space_id);

-- One row per term, version and 128 chunks: the chunks that hold the term, how often, and their lengths in terms, packed as
-- id << 24 | occurrences << 16 | length. The number of entries that a query reads for a term is its document frequency; nothing
-- is counted at ingest. The key holds the whole row, so that a term's postings are read from neighbouring pages of it.
create table postings (
    tenant_id text not null,
    corpus_key bigint not null,
    version_id bigint not null,
    block integer not null,
    term text not null,
    entries bigint[] not null,
    primary key (corpus_key, term, version_id, block) include (tenant_id, entries)
) with (autovacuum_vacuum_insert_scale_factor = 0.05);
create index postings_of_version on postings (version_id);

-- Queue and outbox in one: a row commits with what asked for it.
create table jobs (
    id text primary key,
    tenant_id text not null,
    queue text not null,
    kind text not null,
    args jsonb not null default '{}',
    state text not null default 'queued' check (state in ('queued', 'running', 'succeeded', 'failed')),
    run_at timestamptz not null default now(),
    attempt integer not null default 0,
    max_attempts integer not null check (max_attempts > 0),
    epoch integer not null default 0,
    leased_until timestamptz,
    worker text,
    cause text,
    created_at timestamptz not null default now(),
    started_at timestamptz,
    finished_at timestamptz
);
create index jobs_queued on jobs (queue, tenant_id, run_at, id) where state = 'queued';
create index jobs_running on jobs (queue, tenant_id) include (leased_until) where state = 'running';
create index jobs_served on jobs (queue, tenant_id, started_at desc nulls last);
create index jobs_finished on jobs (tenant_id, finished_at) where finished_at is not null;

create table workers (
    id text primary key,
    queue text not null,
    started_at timestamptz not null default now(),
    heartbeat_at timestamptz not null default now()
);

-- Session ids are unique over all tenants, so that a foreign one is recognised.
create table sessions (
    id text primary key,
    tenant_id text not null,
    user_id text not null,
    created_at timestamptz not null default now(),
    last_used_at timestamptz not null default now()
);
create index sessions_of_user on sessions (tenant_id, user_id, last_used_at desc);

create table messages (
    id bigint generated always as identity primary key,
    tenant_id text not null,
    session_id text not null references sessions (id) on delete cascade,
    run_id text not null,
    role text not null check (role in ('user', 'assistant')),
    content text not null,
    created_at timestamptz not null default now()
);
create index messages_of_session on messages (session_id, id desc);

create table runs (
    id text primary key,
    tenant_id text not null,
    session_id text not null,
    corpus_id text not null,
    user_id text not null,
    api_key_id text,
    request_id text not null,
    state text not null default 'running' check (state in ('running', 'succeeded', 'failed', 'cancelled', 'interrupted')),
    question text not null,
    receipt jsonb,
    error_code text,
    day date not null default (now() at time zone 'utc')::date,
    epoch integer not null default 1,
    leased_until timestamptz not null,
    process text not null,
    cancel_requested boolean not null default false,
    document_ids text[],
    started_at timestamptz not null default now(),
    finished_at timestamptz
);
create index runs_running on runs (leased_until) where state = 'running';
create index runs_of_tenant on runs (tenant_id, started_at desc);

-- The journal: each row is one event exactly as it went over the wire. Partitions by the day on which the run began.
create table run_events (
    tenant_id text not null,
    run_id text not null,
    seq integer not null,
    payload text not null,
    day date not null,
    primary key (run_id, seq, day)
) partition by range (day);

create table audio_files (
    tenant_id text not null,
    id text not null,
    run_id text not null,
    blob_id text not null,
    mime text not null,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id)
);

-- Append only for the application. seq and hash are written by the sealer alone.
create table audit_events (
    id bigint generated always as identity,
    occurred_at timestamptz not null default clock_timestamp(),
    tenant_id text,
    actor_type text not null,
    actor_id text,
    actor_role text,
    event_type text not null,
    outcome text not null check (outcome in ('success', 'failure')),
    resource_type text,
    resource_id text,
    request_id text,
    ip_address text,
    user_agent text,
    metadata jsonb,
    error_code text,
    created_at timestamptz not null default clock_timestamp(),
    seq bigint,
    hash bytea,
    primary key (id, occurred_at)
) partition by range (occurred_at);
create index audit_events_newest on audit_events (tenant_id, occurred_at desc, id desc);

create table idempotency_keys (
    tenant_id text not null,
    scope text not null,
    key text not null,
    fingerprint bytea not null,
    status integer not null,
    headers jsonb not null default '{}',
    body bytea not null default '',
    run_id text,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    primary key (tenant_id, scope, key)
);
create index idempotency_keys_expiry on idempotency_keys (expires_at);
