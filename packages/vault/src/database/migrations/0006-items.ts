/** Protected items, the index of their recovery points, and the networks of the recovery site. */
export const migration0006 = `
create table protected_item (
  id uuid primary key,
  vault_id uuid not null references vault on delete cascade,
  fabric_id uuid not null references fabric,
  machine_id uuid not null,
  key text not null,
  name text not null,
  friendly_name text not null,
  policy_id uuid not null references policy,
  group_name text,
  phase text not null,
  phase_before text not null,
  test text not null,
  is_fenced boolean not null,
  target jsonb not null,
  excluded_disks jsonb not null,
  known_disks jsonb not null,
  process_server_id uuid,
  resync_request integer not null,
  claim_grants jsonb not null,
  replica jsonb,
  test_replica jsonb,
  newest_point_slot bigint,
  newest_point_at bigint,
  last_failover_at bigint,
  last_test_failover_at bigint,
  job_id uuid,
  job_kind text,
  created_at bigint not null,
  changed_at bigint not null,
  unique (fabric_id, key),
  unique (fabric_id, machine_id)
);
create index protected_item_vault on protected_item (vault_id, key);

create table recovery_point (
  vault_id uuid not null references vault on delete cascade,
  group_id uuid not null,
  slot bigint not null,
  cut_id uuid not null,
  class text not null check (class in ('crash', 'app')),
  made_at bigint not null,
  primary key (vault_id, group_id, slot)
);
create index recovery_point_cut on recovery_point (vault_id, cut_id);

create table recovery_network (
  id uuid primary key,
  vault_id uuid not null references vault on delete cascade,
  key text not null,
  name text not null,
  subnet text not null,
  gateway text not null,
  is_isolated boolean not null,
  reservations jsonb not null,
  created_at bigint not null,
  unique (vault_id, key)
);

create trigger seal after insert or update or delete on protected_item
  for each row execute function seal_row('vault_id', 'id',
    'newest_point_slot', 'newest_point_at', 'known_disks', 'job_id', 'job_kind', 'changed_at');
create trigger seal after insert or update or delete on recovery_network
  for each row execute function seal_row('vault_id', 'id');
`;
