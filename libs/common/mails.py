"""The kinds of mail there are, and who gets them: one closed list for who sends and who sets up.

A kind is stable: it stands in `config.users.muted`, in `notices.notices`, in metrics, in the API
and in the mail itself (`X-Contactsync-Kind`). Readers are a workspace's users, who may do without
a kind; the operator gets what only the operator can mend.
"""

from enum import StrEnum


class MailKind(StrEnum):
    """What a mail tells."""

    QUOTA_80 = "quota_80"
    QUOTA_100 = "quota_100"
    QUOTA_GRANTED = "quota_granted"
    QUOTA_DECLINED = "quota_declined"
    INTEGRATION_ERROR = "integration_error"
    INTEGRATION_NEEDS_REAUTH = "integration_needs_reauth"
    INTEGRATION_NEEDS_CONFIRMATION = "integration_needs_confirmation"
    QUOTA_REQUEST_OPENED = "quota_request_opened"
    DRIFT = "drift"

    @property
    def is_operators(self) -> bool:
        """Return whether it goes to the operator, and to no user of the workspace."""
        return self in _OPERATORS


_OPERATORS = frozenset({MailKind.QUOTA_REQUEST_OPENED, MailKind.DRIFT})

READERS_KINDS = tuple(kind for kind in MailKind if not kind.is_operators)
