-- The end of a run: state, receipt, last events, what was said, what was used. A transaction of its own where it is called outside one, so
-- that the rows in which all of a tenant's work meets are locked for no longer than a commit takes. False when the run is another
-- process's, or over.
create function run_finish(
    p_tenant text, p_run text, p_epoch integer, p_state text, p_receipt text, p_error text, p_seqs integer[], p_payloads text[],
    p_documents text[], p_roles text[], p_contents text[], p_tokens bigint, p_estimated boolean, p_lines text
) returns boolean
language plpgsql volatile security invoker as $$
declare
    begun date;
    spoken_in text;
begin
    perform set_config('app.tenant', p_tenant, true);
    update runs set state = p_state, receipt = p_receipt::jsonb, error_code = p_error, finished_at = clock_timestamp(),
        document_ids = coalesce(p_documents, document_ids)
    where tenant_id = p_tenant and id = p_run and epoch = p_epoch and state = 'running'
    returning day, session_id into begun, spoken_in;
    if not found then
        return false;
    end if;
    -- Events that stand already came with a flush whose commit was not heard of.
    insert into run_events (tenant_id, run_id, seq, payload, day)
    select p_tenant, p_run, e.seq, e.payload, begun from unnest(p_seqs, p_payloads) as e (seq, payload)
    on conflict do nothing;
    if cardinality(p_roles) > 0 then
        -- Question and answer stand together in the session: whoever holds its row speaks.
        perform 1 from sessions where tenant_id = p_tenant and id = spoken_in for update;
        if found then
            insert into messages (tenant_id, session_id, run_id, role, content)
            select p_tenant, spoken_in, p_run, said.role, said.content from unnest(p_roles, p_contents) as said (role, content);
        end if;
    end if;
    perform ledger_settle(p_tenant, p_run, p_tokens, p_estimated, p_lines::jsonb, false);
    return true;
end $$;

revoke execute on all functions in schema public from public;
