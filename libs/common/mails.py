"""The kinds of mail there are, and who gets them: one closed list for who sends and who sets up.

A kind is stable: it stands in `config.users.muted`, in `notices.notices`, in metrics, in the API
and in the mail itself (`X-Contactsync-Kind`). Readers are a workspace's users, who may do without
a kind; the operator gets what only the operator can mend.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Words:
    """What became of a mail, in the languages of its readers."""

    en: str
    de: str


# Why a mail was not sent, or not yet. Codes are stable; `smtp_<code>` is the mail server's answer.
_REASONS: Mapping[str, Words] = {
    "month_over": Words(
        "The month that it is about was over before it could be sent.",
        "Der Monat, um den es geht, war vorbei, bevor die Mail gesendet werden konnte.",
    ),
    "decided_since": Words(
        "A newer mail tells more: 100 % after 80 %, or the same of a newer limit.",
        "Eine neuere Mail sagt mehr: 100 % nach 80 %, oder dasselbe zu einem neueren Kontingent.",
    ),
    "limit_raised": Words(
        "The limit was raised before it could be sent: what it tells is not true any more.",
        "Das Kontingent wurde vorher erhöht: Was in der Mail steht, stimmt nicht mehr.",
    ),
    "request_closed": Words(
        "The request was decided or withdrawn before it could be sent: there is nothing to decide.",
        "Über die Anfrage wurde vorher entschieden, oder sie wurde zurückgezogen: Es gibt nichts "
        "mehr zu entscheiden.",
    ),
    "reader_removed": Words(
        "The person was removed from the workspace before it could be sent.",
        "Die Person wurde vorher aus dem Arbeitsbereich entfernt.",
    ),
    "reader_muted": Words(
        "The person switched this kind of mail off before it could be sent.",
        "Die Person hat diese Art von Mail vorher abgeschaltet.",
    ),
    "unrenderable": Words(
        "It could not be written: a mistake of ours; tell the operator.",
        "Sie ließ sich nicht schreiben: ein Fehler von uns; sagen Sie es dem Betreiber.",
    ),
    "tried_too_often": Words(
        "Each try ended the notifier: a mistake of ours; tell the operator.",
        "Jeder Versuch hat den Versand beendet: ein Fehler von uns; sagen Sie es dem Betreiber.",
    ),
    "invalid_address": Words(
        "Mail cannot be sent to this address: correct it.",
        "An diese Adresse lässt sich keine Mail senden: Berichtigen Sie sie.",
    ),
    "smtp_no_answer": Words(
        "The mail server does not answer; it is tried again.",
        "Der Mailserver antwortet nicht; es wird wieder versucht.",
    ),
    "smtp_tls": Words(
        "The mail server's certificate is not believed; the operator must look at it.",
        "Dem Zertifikat des Mailservers wird nicht geglaubt; der Betreiber muss es ansehen.",
    ),
    "smtp_not_supported": Words(
        "The mail server cannot do what the settings ask of it; the operator must look at them.",
        "Der Mailserver kann nicht, was eingestellt ist; der Betreiber muss es ansehen.",
    ),
}
_LOGIN = Words(
    "The mail server refuses our login; the operator must look at it.",
    "Der Mailserver weist unsere Anmeldung ab; der Betreiber muss sie ansehen.",
)
_REFUSED = Words(
    "The mail server refuses it: check the address; its own words are in `answer`.",
    "Der Mailserver nimmt sie nicht an: Prüfen Sie die Adresse; seine Worte stehen in `answer`.",
)


def explain(reason: str) -> Words:
    """Return what the reason of a notice means, and what to do about it."""
    if reason.startswith("smtp_login_"):
        return _LOGIN
    return _REASONS.get(reason, _REFUSED)
