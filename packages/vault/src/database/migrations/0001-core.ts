/** Vaults, resources that are documents to us, policies and mappings. Times are milliseconds since 1970. */
export const migration0001 = `
create table vault (
  id uuid primary key,
  key text not null unique,
  arm_id text not null,
  subscription_id text not null,
  resource_group text not null,
  name text not null,
  location text not null,
  sku jsonb not null,
  tags jsonb not null,
  properties jsonb not null,
  number bigint not null generated always as identity (start 1000000),
  etag text not null,
  created_at bigint not null
);

create table vault_document (
  vault_id uuid not null references vault on delete cascade,
  key text not null,
  path text not null,
  collection text not null,
  name text not null,
  properties jsonb not null,
  created_at bigint not null,
  changed_at bigint not null,
  primary key (vault_id, key)
);
create index vault_document_collection on vault_document (vault_id, collection, key);

create table policy (
  id uuid primary key,
  vault_id uuid not null references vault on delete cascade,
  key text not null,
  name text not null,
  provider text not null check (provider in ('InMageAzureV2', 'InMage')),
  failback_of uuid references policy on delete set null,
  rpo_threshold_minutes integer not null,
  retention_minutes integer not null,
  point_interval_seconds integer not null,
  app_point_interval_seconds integer not null,
  is_multi_vm boolean not null,
  created_at bigint not null,
  changed_at bigint not null,
  unique (vault_id, key)
);
`;
