-- delivery: what stands at the destinations, what waits, and what is under way (PROTOCOL 5-7).
-- Written by the writer only.

-- Source contact <-> destination identity, with what was last written. Tombstones (delete, leave)
-- and versions that were rejected or filtered stay, or an older version would come back.
-- `state`: linked (written), removed (tombstone), none (only a version: rejected or filtered before
-- it was ever written). `identity` is the normalised e-mail, else the phone's digits.
create table delivery.links (
  integration_id uuid not null,
  source_id text not null,
  workspace_id uuid not null,
  state text not null check (state in ('linked', 'removed', 'none')),
  identity text,
  email text,
  sms text,
  version_ms bigint not null,
  run_no integer not null,
  operation text not null,  -- of the version: upsert, delete, leave, rejected, filtered
  hash bytea,
  content_hash bytea,  -- of the attributes alone: what is compared when only the address differs
  refused_identity text,  -- an e-mail change that was refused (S5), so that it does not slip through
  removed_by_us boolean not null default false,
  needs_recheck boolean not null default false,
  written_at timestamptz,
  primary key (integration_id, source_id)
) with (fillfactor = 70);
create unique index links_identity on delivery.links (integration_id, identity) where state = 'linked';
create index links_tombstones on delivery.links (integration_id, identity) where state = 'removed';

-- One contact that must wait: newest version, as mapped.
create table delivery.parked (
  integration_id uuid not null,
  source_id text not null,
  workspace_id uuid not null,
  connection_id uuid not null,
  reason text not null,
  operation text not null,
  version_ms bigint not null,
  run_no integer not null,
  run_id uuid not null,
  page integer not null,
  part integer not null,
  mapping_version integer not null,
  identity text,  -- as in links: written down once, because two programs lower-case differently
  email text,
  sms text,
  attributes bytea not null,
  hash bytea not null,
  approved_identity text,
  merged_from text[] not null default '{}',
  must_be_single boolean not null default false,  -- an import has failed it already
  attempts integer not null default 0,
  first_at timestamptz not null default clock_timestamp(),
  last_at timestamptz not null default clock_timestamp(),
  tried_at timestamptz,  -- when it was last taken to see whether a block or an error is over
  primary key (integration_id, source_id)
) with (fillfactor = 70);
create index on delivery.parked (connection_id, reason, first_at);
create index on delivery.parked (workspace_id);

-- One row a destination account: who owns it now, and whether it is blocked.
create table delivery.destinations (
  connection_id uuid primary key,
  workspace_id uuid not null,
  lease_owner uuid,
  lease_until timestamptz,
  fencing bigint not null default 0,
  last_step uuid,  -- of the owner's last transaction, so that a repeated one is not done twice
  blocked_until timestamptz,
  block_reason text,
  block_attempts integer not null default 0
) with (fillfactor = 70);

-- Which granted unit belongs to which contact, until it is posted or released; one packed row a
-- batch or an import. `units`: JSON of what was to be written, one entry an open unit. An import is
-- `sending` until its POST is answered, then `running` with the provider's id.
create table delivery.intents (
  intent_id uuid primary key,
  connection_id uuid not null,
  workspace_id uuid not null,
  hold_id uuid not null,
  kind text not null check (kind in ('single', 'import')),
  state text not null check (state in ('open', 'sending', 'running')),
  fencing bigint not null,
  units bytea not null,
  process_id text,
  created_at timestamptz not null default clock_timestamp(),
  sent_at timestamptz
) with (fillfactor = 50);
create index on delivery.intents (connection_id);

-- What was told of a record, to be told again the same way after a crash. `settled_id` is made of the
-- record's part: a page that was read again makes another record of a part that was told of before.
create table delivery.outcomes (
  record_id uuid not null,
  stage text not null,
  settled_id uuid not null,
  body bytea not null,
  stored_at timestamptz not null default clock_timestamp(),
  primary key (record_id, stage)
);
create index on delivery.outcomes (stored_at);
create index on delivery.outcomes (settled_id);

-- A writer that lost its lease in the middle of a call leaves these: its one unfenced write.
create table delivery.rechecks (
  connection_id uuid not null,
  integration_id uuid not null,
  source_id text not null,
  marked_at timestamptz not null default clock_timestamp(),
  primary key (connection_id, integration_id, source_id)
);

create table delivery.outbox (
  id bigint generated always as identity primary key,
  topic text not null,
  key text not null,
  body bytea not null,
  claimed_until timestamptz,
  created_at timestamptz not null default clock_timestamp()
);

call config.protect('delivery.links');
call config.protect('delivery.parked');
call config.protect('delivery.destinations');
call config.protect('delivery.intents');

grant select, insert, update, delete on all tables in schema delivery to contactsync_writer;
grant select on delivery.links, delivery.parked, delivery.destinations to contactsync_api, contactsync_operator;
grant select on delivery.intents, delivery.parked to contactsync_quota;
