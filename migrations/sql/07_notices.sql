-- notices: mails, once per cause (RELIABILITY 5). Written by the notifier only.

create table notices.notices (
  notice_id uuid primary key,  -- uuid5 of the cause and the recipient; the Message-ID is made of it
  workspace_id uuid not null,
  kind text not null,
  language text not null,
  recipient text not null,
  payload jsonb not null,
  state text not null default 'pending' check (state in ('pending', 'sent', 'failed', 'suppressed')),
  reason text,
  attempts integer not null default 0,
  next_at timestamptz not null default clock_timestamp(),
  lease_token uuid,
  lease_until timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  sent_at timestamptz
) with (fillfactor = 70);
create index on notices.notices (next_at) where state = 'pending';
create index on notices.notices (workspace_id, created_at);

call config.protect('notices.notices');

grant select, insert, update, delete on notices.notices to contactsync_notifier;
grant select on notices.notices to contactsync_api, contactsync_operator;
