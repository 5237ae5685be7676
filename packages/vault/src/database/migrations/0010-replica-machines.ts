/**
 * Machines of the recovery site that a vault has started: they outlive their items and the history of jobs, and a vault has a say in its own alone. Sealed, so
 * that a rebuilt vault still lists and deletes them. Written before the machine is started, deleted when it is.
 */
export const migration0010 = `
create table replica_machine (
  id uuid primary key,
  vault_id uuid not null references vault on delete cascade,
  machine_id uuid not null,
  created_at bigint not null
);
create index replica_machine_vault on replica_machine (vault_id);

create trigger seal after insert or update or delete on replica_machine
  for each row execute function seal_row('vault_id', 'id');

insert into replica_machine (id, vault_id, machine_id, created_at)
select (checkpoint.result ->> 'replicaId')::uuid, job.vault_id, job.target_id::uuid, checkpoint.made_at
from job_checkpoint as checkpoint join job on job.id = checkpoint.job_id
where checkpoint.name in ('task:BootProtectedEntitiesTask', 'task:BootTestProtectedEntitiesTask')
  and checkpoint.result ->> 'replicaId' is not null
on conflict do nothing;
`;
