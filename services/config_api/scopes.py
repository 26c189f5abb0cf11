"""What an API key may do: a closed list of scopes, one for reading and one for writing each.

A key of a workspace has scopes of the first list only, the operator's of the second only; the
two never mix, so a customer's key can never reach a route of the operator.
"""

from enum import StrEnum


class Scope(StrEnum):
    """One thing a key may be allowed to do."""

    PROVIDERS_READ = "providers:read"
    CONNECTIONS_READ = "connections:read"
    CONNECTIONS_WRITE = "connections:write"
    INTEGRATIONS_READ = "integrations:read"
    INTEGRATIONS_WRITE = "integrations:write"
    RUNS_READ = "runs:read"
    RUNS_WRITE = "runs:write"
    IMPORTS_READ = "imports:read"
    IMPORTS_WRITE = "imports:write"
    CONTACTS_READ = "contacts:read"
    QUOTA_READ = "quota:read"
    QUOTA_WRITE = "quota:write"
    KEYS_READ = "api-keys:read"
    KEYS_WRITE = "api-keys:write"
    AUDIT_READ = "audit:read"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    NOTICES_READ = "notices:read"
    OPERATOR_READ = "operator:read"
    OPERATOR_WRITE = "operator:write"

    @property
    def is_operators(self) -> bool:
        """Return whether only the operator's keys may have it."""
        return self.value.startswith("operator:")


WORKSPACE_SCOPES = tuple(scope for scope in Scope if not scope.is_operators)
OPERATOR_SCOPES = tuple(scope for scope in Scope if scope.is_operators)
