"""Why a contact was rejected, parked or filtered: the one table that all parts show.

A code is stable and appears in events, the API and metrics. The words, in English and German,
say what is the matter and what to do about it; `who` says who must act (PROTOCOL.md 11).
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a reason does to a contact."""

    REJECT = "reject"
    PARK = "park"
    FILTER = "filter"


class Who(StrEnum):
    """Who must act for the contact to go on."""

    NOBODY = "nobody"
    SOURCE = "source"  # Somebody who edits contacts at the source.
    USER = "user"  # Somebody who may change the integration.
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Words:
    """One language's sentence about what is the matter, and one about what to do."""

    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Reason:
    """A stable code with everything a person may be told about it."""

    code: str
    kind: Kind
    who: Who
    en: Words
    de: Words


class Reject(StrEnum):
    """A contact that never will be written in this version."""

    NO_IDENTITY = "no_identity"
    INVALID_EMAIL = "invalid_email"
    INVALID_PHONE = "invalid_phone"
    PHONE_WITHOUT_COUNTRY = "phone_without_country"
    BULK_EMAIL_CHANGE = "bulk_email_change"
    VALUE_TOO_LONG = "value_too_long"
    VALUE_NOT_ACCEPTED = "value_not_accepted"
    DATE_FORMAT = "date_format"
    LAST_NAME_REQUIRED = "last_name_required"
    NOT_A_TASK_TARGET = "not_a_task_target"
    CASE_ATTACHED = "case_attached"
    INTEGRATION_ARCHIVED = "integration_archived"
    MALFORMED = "malformed"


class Park(StrEnum):
    """A contact that must wait."""

    QUOTA = "quota"
    DESTINATION_DOWN = "destination_down"
    RATE_LIMITED = "rate_limited"
    NEEDS_REAUTH = "needs_reauth"
    CONFIGURATION = "configuration"
    PAUSED = "paused"
    CONTACT_LIMIT = "contact_limit"
    IMPORT_RUNNING = "import_running"
    EMAIL_CHANGE = "email_change"
    DUPLICATE_IDENTITY = "duplicate_identity"
    SYNC_BUDGET = "sync_budget"
    BACKLOG = "backlog"


class Filter(StrEnum):
    """A contact that is none of the integration's business."""

    CRITERIA = "criteria"
    NOT_LINKED = "not_linked"
