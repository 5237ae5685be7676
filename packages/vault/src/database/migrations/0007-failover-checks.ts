/** What would be in the way of failing an item over, as the last check found it: objections as the replica host gives them. */
export const migration0007 = `
create table failover_check (
  item_id uuid primary key references protected_item on delete cascade,
  objections jsonb not null,
  checked_at bigint not null
);
`;
