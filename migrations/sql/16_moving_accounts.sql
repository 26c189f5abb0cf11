-- Some providers say with fresh tokens where the account is called (Salesforce: instance_url), and
-- may say another address than before: it is stored with the tokens that it came with, or not at all.
create function config.store_tokens(
  p_connection uuid, p_token_version integer, p_sealed_access_token text, p_sealed_refresh_token text, p_expires_at timestamptz, p_account_url text
) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not config.store_tokens(p_connection, p_token_version, p_sealed_access_token, p_sealed_refresh_token, p_expires_at) then
    return false;
  end if;
  update config.connections c set account_url = p_account_url
  where c.connection_id = p_connection and c.account_url is distinct from p_account_url
    and p_account_url is not null;
  return true;
end
$$;

revoke execute on function config.store_tokens(uuid, integer, text, text, timestamptz, text) from public;
grant execute on function config.store_tokens(uuid, integer, text, text, timestamptz, text)
  to contactsync_api, contactsync_poller, contactsync_writer;
