-- Both ways (SF3 to SF10; docs/decisions/0130). The way back is an integration of its own, which people
-- see as part of the one that it belongs to: it reads that one's destination and writes to its source.
alter table config.integrations
  add column is_two_way boolean not null default false,  -- what people want
  add column way_back_of uuid unique references config.integrations;

-- A record at the source and its contact at the destination: what is accounted for of each, as content
-- hashes (services/writer/agreement.py). Null: whatever stands there counts as an edit. `pending_…`:
-- what a flow may be writing to that side. Rows belong to the integration that leads there, and are
-- written by the owner of either account, each in the transaction of its own effect.
create table delivery.pairs (
  integration_id uuid not null,
  source_id text not null,
  workspace_id uuid not null,
  remote_id text,  -- the contact's own id at the destination; null: not known yet
  mapping_version integer not null,
  seen_source bytea,
  seen_remote bytea,
  pending_source bytea,
  pending_remote bytea,
  primary key (integration_id, source_id)
) with (fillfactor = 70);
create index on delivery.pairs (integration_id, remote_id);
call config.protect('delivery.pairs');
grant select, insert, update, delete on delivery.pairs to contactsync_writer;
