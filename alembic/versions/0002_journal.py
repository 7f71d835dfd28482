"""The journal: a flush is one statement, which enters its tenant by itself."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_APPEND = "journal_append(text, text, integer, integer[], text[], text[], interval)"
# With the rights of its caller: row-level security binds what it writes, as it does after any other way into a tenant.
INVOKERS = (_APPEND,)


def upgrade() -> None:
    op.execute("""
create function journal_append(
    p_tenant text, p_run text, p_epoch integer, p_seqs integer[], p_payloads text[], p_documents text[], p_lease interval
) returns boolean
language plpgsql volatile security invoker as $$
declare
    begun date;
begin
    perform set_config('app.tenant', p_tenant, true);
    update runs set document_ids = coalesce(p_documents, document_ids), leased_until = clock_timestamp() + p_lease
    where tenant_id = p_tenant and id = p_run and epoch = p_epoch and state = 'running'
    returning day into begun;
    if not found then
        return false;
    end if;
    -- A write whose commit was not heard of comes again: events that stand are left as they are.
    insert into run_events (tenant_id, run_id, seq, payload, day)
    select p_tenant, p_run, e.seq, e.payload, begun from unnest(p_seqs, p_payloads) as e (seq, payload)
    on conflict do nothing;
    return true;
end $$
""")
    op.execute(f"revoke execute on function {_APPEND} from public")
    op.execute(f"grant execute on function {_APPEND} to nexusrag_app")


def downgrade() -> None:
    op.execute(f"drop function {_APPEND}")
