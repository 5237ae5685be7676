/** Whose heartbeat is missing, so that its loss and its return are each recorded once as an event. */
export const migration0008 = `
create table silence (
  fabric_id uuid not null references fabric on delete cascade,
  kind text not null check (kind in ('configuration-server', 'process-server', 'master-target', 'mobility-service')),
  id uuid not null,
  since bigint not null,
  primary key (fabric_id, kind, id)
);
`;
