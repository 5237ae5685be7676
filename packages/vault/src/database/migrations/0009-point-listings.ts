/** When the points of a group were last read from the storage account itself; what reports tell of them is in fabric_machine. */
export const migration0009 = `
create table point_listing (
  vault_id uuid not null references vault on delete cascade,
  group_id uuid not null,
  listed_at bigint not null,
  primary key (vault_id, group_id)
);
`;
