/**
 * Recovery-critical rows, as they are to be sealed into the storage account (docs/formats/sealed-state.md). A trigger on each such table keeps
 * `seal_document` in the transaction of the change, so nobody who writes a table can forget it. `seq` is taken from a sequence and may commit out of
 * order: what is not sealed yet is told by comparing, not by a high-water mark.
 *
 * Arguments of the trigger: the column that leads to the vault (`id`, `vault_id`, or `fabric_id`, through the fabric), the columns of the key joined by commas,
 * and then the columns (or paths into JSON columns) that reports fill again: a change of nothing else is none.
 */
export const migration0005 = `
create table seal_head (
  vault_id uuid primary key,
  writer_id uuid not null,
  epoch bigint not null,
  number bigint not null,
  sha256 text not null,
  whole_number bigint not null
);

create sequence seal_seq;
create table seal_document (
  vault_id uuid not null,
  kind text not null,
  id text not null,
  value jsonb,
  seq bigint not null default nextval('seal_seq'),
  sealed_seq bigint,
  primary key (vault_id, kind, id)
);
create index seal_document_waiting on seal_document (vault_id, seq) where sealed_seq is distinct from seq;

create function seal_view(whole jsonb, hidden text[]) returns jsonb language plpgsql immutable as $$
declare
  path text;
begin
  foreach path in array hidden loop
    whole := whole #- string_to_array(path, '.');
  end loop;
  return whole;
end $$;

create function seal_row() returns trigger language plpgsql as $$
declare
  whole jsonb := case when tg_op = 'DELETE' then to_jsonb(old) else to_jsonb(new) end;
  hidden text[] := tg_argv[2:];
  shown jsonb := seal_view(whole, hidden);
  owner uuid;
  name text;
begin
  if tg_op = 'UPDATE' and shown = seal_view(to_jsonb(old), hidden) then
    return null;
  end if;
  if tg_argv[0] = 'fabric_id' then
    -- Of a fabric that is being deleted the rows go unsealed: without their fabric they are not restored.
    select vault_id into owner from fabric where id = (whole ->> 'fabric_id')::uuid;
  else
    owner := (whole ->> tg_argv[0])::uuid;
  end if;
  if owner is null then
    return null;
  end if;
  select string_agg(whole ->> key, '/' order by place) into name
    from unnest(string_to_array(tg_argv[1], ',')) with ordinality as keys (key, place);
  insert into seal_document (vault_id, kind, id, value)
    values (owner, tg_table_name, name, case when tg_op = 'DELETE' then null else shown end)
    on conflict (vault_id, kind, id) do update set value = excluded.value, seq = nextval('seal_seq');
  return null;
end $$;

create trigger seal after insert or update or delete on vault
  for each row execute function seal_row('id', 'id', 'number');
create trigger seal after insert or update or delete on vault_document
  for each row execute function seal_row('vault_id', 'key');
create trigger seal after insert or update or delete on policy
  for each row execute function seal_row('vault_id', 'id');
create trigger seal after insert or update or delete on container_mapping
  for each row execute function seal_row('vault_id', 'id');
create trigger seal after insert or update or delete on fabric
  for each row execute function seal_row('vault_id', 'id',
    'revision', 'applied_revision', 'status', 'last_heartbeat_at', 'wants_whole');
create trigger seal after insert or update or delete on fabric_machine
  for each row execute function seal_row('fabric_id', 'fabric_id,machine_id',
    'document.facts', 'document.lastSeenUnixMs', 'last_seen_at', 'reported_at');

insert into seal_document (vault_id, kind, id, value) select id, 'vault', id::text, seal_view(to_jsonb(t), '{number}') from vault as t;
insert into seal_document (vault_id, kind, id, value) select vault_id, 'vault_document', key, to_jsonb(t) from vault_document as t;
insert into seal_document (vault_id, kind, id, value) select vault_id, 'policy', id::text, to_jsonb(t) from policy as t;
insert into seal_document (vault_id, kind, id, value) select vault_id, 'container_mapping', id::text, to_jsonb(t) from container_mapping as t;
insert into seal_document (vault_id, kind, id, value) select vault_id, 'fabric', id::text,
  seal_view(to_jsonb(t), '{revision,applied_revision,status,last_heartbeat_at,wants_whole}') from fabric as t;
`;
