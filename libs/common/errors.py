"""Every error the platform raises on purpose, sorted by what the caller must do.

* SyncError
  - TransientError            wait, then try the same thing again
    + RateLimitedError        the provider (or our own budget) said how long to wait
    + UnavailableError        the other side was silent or failed; nothing was applied
    + UnknownOutcomeError     the call was sent and its answer lost: it may have been applied
    + PositionLostError       the provider forgot where the last sweep ended: read everything
  - RecordError               reject this record and go on with the next
    + MalformedEventError     the bytes on the topic are not the event they claim to be
    + ContactRejectedError    the provider refuses this one contact
  - ConfigurationError        halt this integration until a person acts
    + NeedsReauthError        the credentials no longer work
    + MisconfiguredError      a list, field or setting at the provider is not as configured
    + RequestRefusedError     the provider refuses the call as a whole (400): bisect or stop
  - LeaseLostError            somebody else owns this now: stop without another effect

Any other exception is a bug. Nothing catches it: the process ends, is restarted, and reads
again from the last committed offset. No message holds contact data or a secret.
"""


class SyncError(Exception):
    """Base of all errors below. Raise a leaf; catch one of the branches."""


class TransientError(SyncError):
    """The same call may succeed later."""

    retry_after_s: float | None = None


class RateLimitedError(TransientError):
    """A limit was reached in `bucket` (a name from the connector's facts)."""

    def __init__(self, bucket: str, retry_after_s: float) -> None:
        self.bucket = bucket
        self.retry_after_s = retry_after_s
        super().__init__(f"{bucket}: rate limited for {retry_after_s:g} s")


class UnavailableError(TransientError):
    """The call was not applied: refused, not connected, or answered with a 5xx that says so."""

    def __init__(self, host: str, reason: str, retry_after_s: float | None = None) -> None:
        self.host = host
        self.reason = reason
        self.retry_after_s = retry_after_s
        super().__init__(f"{host}: {reason}")


class UnknownOutcomeError(TransientError):
    """The call was sent and no trustworthy answer came: it may or may not have been applied.

    For a read this means what `UnavailableError` means. For a write the caller repeats an
    idempotent call, or reads back (PROTOCOL.md 5).
    """

    def __init__(self, host: str, reason: str) -> None:
        self.host = host
        self.reason = reason
        super().__init__(f"{host}: {reason}")


class PositionLostError(TransientError):
    """The provider does not know (any more) where the last sweep ended.

    What changed since then is told by nothing but a read of everything, which finds who is gone.
    """

    def __init__(self, host: str, reason: str) -> None:
        self.host = host
        self.reason = reason
        super().__init__(f"{host}: position lost: {reason}")


class RecordError(SyncError):
    """One record will never succeed, but the ones after it may."""


class MalformedEventError(RecordError):
    """A record that cannot be decoded as the event its topic carries."""

    def __init__(self, topic: str, reason: str) -> None:
        self.topic = topic
        self.reason = reason
        super().__init__(f"{topic}: {reason}")


class ContactRejectedError(RecordError):
    """The provider refuses one contact; `reason` is a code of `libs.common.reasons`."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"contact rejected: {reason}")


class ConfigurationError(SyncError):
    """No record of this integration will succeed until a person changes something."""


class NeedsReauthError(ConfigurationError):
    """The provider no longer accepts the connection's credentials."""

    def __init__(self, host: str, reason: str) -> None:
        self.host = host
        self.reason = reason
        super().__init__(f"{host}: credentials refused: {reason}")


class MisconfiguredError(ConfigurationError):
    """Something at the provider is not as the integration expects: `what` is a stable code.

    Codes: list_missing, field_missing, attribute_missing, file_missing, scope_missing,
    ip_not_allowed, api_disabled, account_changed, not_found, contact_limit (park as such),
    address_not_allowed, client_refused.
    """

    def __init__(self, host: str, what: str) -> None:
        self.host = host
        self.what = what
        super().__init__(f"{host}: {what}")


class RequestRefusedError(ConfigurationError):
    """The provider refuses the whole call; `status` and `code` are its own."""

    def __init__(self, host: str, status: int, code: str) -> None:
        self.host = host
        self.status = status
        self.code = code
        super().__init__(f"{host}: HTTP {status} {code}")


class LeaseLostError(SyncError):
    """A lease lapsed or was taken over; whatever it guarded must not be touched any more."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"lease lost: {what}")
