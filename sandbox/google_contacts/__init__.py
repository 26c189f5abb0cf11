"""Google Contacts (People API v1) as a sandbox: OAuth, connections with sync tokens, groups."""
