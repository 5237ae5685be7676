/** How old the newest recovery point of each replicating item was, now and then: for charts. */
export const migration0011 = `
create table rpo_sample (
  item_id uuid not null references protected_item on delete cascade,
  sampled_at bigint not null,
  rpo_seconds integer not null,
  primary key (item_id, sampled_at)
);
create index rpo_sample_time on rpo_sample (sampled_at);
`;
