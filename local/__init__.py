"""Everything on one machine: servers, sandbox and services under one supervisor."""
