/** Tokens (only their hashes), role assignments, and the record of every write. */
export const migration0004 = `
create table token (
  id uuid primary key,
  name text not null,
  sha256 text not null unique,
  created_at bigint not null,
  expires_at bigint not null,
  revoked_at bigint
);

create table role_assignment (
  id uuid primary key,
  token_id uuid not null references token on delete cascade,
  role text not null,
  scope text not null,
  created_at bigint not null,
  unique (token_id, role, scope)
);

create table audit (
  id bigint primary key generated always as identity,
  at bigint not null,
  caller text not null,
  token_id uuid,
  method text not null,
  path text not null,
  action text not null,
  activity_id text not null,
  status integer not null,
  code text,
  job_id uuid
);
create index audit_by_time on audit (at);
`;
