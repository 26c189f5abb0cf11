-- When the config API last tried by itself to have an account's events sent (docs/decisions/0156): of
-- several processes one tries, and one that was refused rests.
alter table config.connections add column events_tried_at timestamptz;
-- It looks at all workspaces' as the operator does: where their accounts send to, and no token.
grant select (connection_id, url) on config.event_subscriptions to contactsync_operator;
