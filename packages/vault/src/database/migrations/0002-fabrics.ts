/** Fabrics as they registered, what they report, what is wished of them once (orders), and what lets them register (credentials). */
export const migration0002 = `
create table fabric (
  id uuid primary key,
  vault_id uuid not null references vault on delete cascade,
  key text not null,
  name text not null,
  host_name text not null,
  version text not null,
  site_authority_pem text not null,
  takeover_key text not null,
  certificate_serial text not null,
  previous_serial text,
  certificate_expires_at bigint not null,
  revision bigint not null,
  applied_revision bigint not null,
  status jsonb,
  last_heartbeat_at bigint,
  wants_whole boolean not null,
  registered_at bigint not null,
  unique (vault_id, key)
);

create table fabric_machine (
  fabric_id uuid not null references fabric on delete cascade,
  machine_id uuid not null,
  friendly_name text not null,
  address text not null,
  operating_system text not null,
  document jsonb not null,
  last_seen_at bigint,
  is_gone boolean not null,
  reported_at bigint not null,
  primary key (fabric_id, machine_id)
);

create table fabric_gateway (
  fabric_id uuid not null references fabric on delete cascade,
  id uuid not null,
  role text not null,
  facts jsonb not null,
  last_seen_at bigint not null,
  primary key (fabric_id, id, role)
);

create table fabric_order (
  id uuid primary key,
  fabric_id uuid not null references fabric on delete cascade,
  document jsonb not null,
  state text not null check (state in ('waiting', 'running', 'succeeded', 'failed', 'withdrawn')),
  error jsonb,
  ordered_at bigint not null,
  ended_at bigint
);
create index fabric_order_open on fabric_order (fabric_id) where ended_at is null;

create table fabric_credential (
  id uuid primary key,
  vault_id uuid not null references vault on delete cascade,
  sha256 text not null unique,
  expires_at bigint not null,
  used_at bigint,
  created_at bigint not null
);

create table container_mapping (
  id uuid primary key,
  vault_id uuid not null references vault on delete cascade,
  fabric_id uuid not null references fabric on delete cascade,
  key text not null,
  name text not null,
  policy_id uuid not null references policy,
  target_container text not null,
  created_at bigint not null,
  unique (fabric_id, key)
);
`;
