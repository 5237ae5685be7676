/** Jobs, their tasks, checkpoints and errors; events. A job's checkpoints are what is not run again. */
export const migration0003 = `
create table lease (
  id integer primary key check (id = 1),
  node_id uuid not null,
  token bigint not null,
  renewed_at bigint not null
);

create table job (
  id uuid primary key,
  vault_id uuid not null references vault on delete cascade,
  kind text not null,
  friendly_name text not null,
  state text not null check (state in
    ('NotStarted', 'InProgress', 'Suspended', 'Cancelling', 'Succeeded', 'Failed', 'Cancelled')),
  input jsonb not null,
  target_id text not null,
  target_name text not null,
  target_type text not null,
  resource_path text not null,
  details jsonb not null,
  activity_id text not null,
  is_cancellable boolean not null,
  permille integer not null check (permille between 0 and 1000),
  attempt integer not null,
  created_at bigint not null,
  started_at bigint,
  ended_at bigint
);
create index job_by_time on job (vault_id, created_at desc, id);
create index job_open on job (created_at) where ended_at is null;

create table job_task (
  job_id uuid not null references job on delete cascade,
  ordinal integer not null,
  task_id text not null,
  name text not null,
  friendly_name text not null,
  state text not null check (state in
    ('NotStarted', 'InProgress', 'Succeeded', 'Failed', 'Skipped', 'Cancelled', 'Suspended')),
  instructions text,
  started_at bigint,
  ended_at bigint,
  primary key (job_id, task_id)
);

create table job_checkpoint (
  job_id uuid not null references job on delete cascade,
  name text not null,
  result jsonb not null,
  lease_token bigint not null,
  made_at bigint not null,
  primary key (job_id, name)
);

create table job_error (
  id bigint primary key generated always as identity,
  job_id uuid not null references job on delete cascade,
  task_id text,
  code text not null,
  message text not null,
  possible_causes text not null,
  recommended_action text not null,
  occurred_at bigint not null
);
create index job_error_job on job_error (job_id);

create table event (
  id uuid primary key,
  vault_id uuid not null references vault on delete cascade,
  code text not null,
  event_type text not null,
  severity text not null check (severity in ('Info', 'Warning', 'Error')),
  description text not null,
  affected_name text not null,
  affected_id text not null,
  fabric_id uuid,
  details jsonb not null,
  occurred_at bigint not null
);
create index event_by_time on event (vault_id, occurred_at desc, id);
`;
