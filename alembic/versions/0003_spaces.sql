-- The space of an embedding model. Beside few vectors, registering one makes its index; beside many that would lock ingestion
-- out for as long as all of them are read, so the index is built later, by `nexusrag migrate` or `up`, and searches of the
-- space compare all of its vectors until then. Raises when the model is known with another dimension.
create or replace function space_ensure(p_model text, p_dimensions integer) returns integer
language plpgsql volatile security definer set search_path = public, pg_temp as $$
declare
    found_space embedding_spaces;
    patience text := current_setting('lock_timeout');
begin
    select * into found_space from embedding_spaces where model = p_model;
    if not found then
        perform pg_advisory_xact_lock(hashtextextended('space_ensure', 0));
        select * into found_space from embedding_spaces where model = p_model;
        if not found then
            insert into embedding_spaces (model, dimensions) values (p_model, p_dimensions) returning * into found_space;
            -- Some twenty thousand vectors of 384 dimensions, looked through in less than a tenth of a second.
            if pg_relation_size('embeddings') <= 16 * 1024 * 1024 then
                -- Whoever is writing vectors is waited for, and all who want to write wait meanwhile.
                perform set_config('lock_timeout', '1s', true);
                begin
                    execute format(
                        'create index embeddings_hnsw_%s on embeddings using hnsw ((v::halfvec(%s)) halfvec_cosine_ops) '
                        'with (m = 16, ef_construction = 64) where space_id = %s',
                        found_space.id, p_dimensions, found_space.id);
                exception when lock_not_available then
                    null; -- later, then
                end;
                perform set_config('lock_timeout', patience, true);
            end if;
        end if;
    end if;
    if found_space.dimensions <> p_dimensions then
        raise exception 'embedding model % has % dimensions, not %', p_model, found_space.dimensions, p_dimensions
            using errcode = 'check_violation';
    end if;
    return found_space.id;
end $$;
