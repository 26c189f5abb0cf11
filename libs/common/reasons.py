"""Why a contact was rejected, parked or filtered: the one table that all parts show.

A code is stable and appears in events, the API and metrics. The words, in English and German,
say what is the matter and what to do about it; `who` says who must act (PROTOCOL.md 11).
"""

from collections.abc import Mapping
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


_NOTHING = "Nothing: it goes on by itself."
_NICHTS = "Nichts: Es geht von selbst weiter."

_TABLE = (
    Reason(
        Reject.NO_IDENTITY,
        Kind.REJECT,
        Who.SOURCE,
        Words(
            "The contact has neither an e-mail address nor, where that is mapped, a phone number.",
            "Add an e-mail address at the source.",
        ),
        Words(
            "Der Kontakt hat weder eine E-Mail-Adresse noch, wo zugeordnet, eine Telefonnummer.",
            "Tragen Sie in der Quelle eine E-Mail-Adresse ein.",
        ),
    ),
    Reason(
        Reject.INVALID_EMAIL,
        Kind.REJECT,
        Who.SOURCE,
        Words("The e-mail address is not valid.", "Correct the address at the source."),
        Words("Die E-Mail-Adresse ist ungültig.", "Berichtigen Sie die Adresse in der Quelle."),
    ),
    Reason(
        Reject.INVALID_PHONE,
        Kind.REJECT,
        Who.SOURCE,
        Words(
            "The phone number has not 6 to 16 digits, or the destination does not accept it.",
            "Correct the number at the source, with its country code.",
        ),
        Words(
            "Die Telefonnummer hat nicht 6 bis 16 Ziffern, oder das Ziel nimmt sie nicht an.",
            "Berichtigen Sie die Nummer in der Quelle, mit Landesvorwahl.",
        ),
    ),
    Reason(
        Reject.PHONE_WITHOUT_COUNTRY,
        Kind.REJECT,
        Who.USER,
        Words(
            "The phone number has no country code.",
            "Set a default country in the integration, or add the country code at the source.",
        ),
        Words(
            "Der Telefonnummer fehlt die Landesvorwahl.",
            "Stellen Sie in der Integration ein Standardland ein, oder ergänzen Sie die Vorwahl "
            "in der Quelle.",
        ),
    ),
    Reason(
        Reject.BULK_EMAIL_CHANGE,
        Kind.REJECT,
        Who.USER,
        Words(
            "Several contacts changed their e-mail address at once, or the new address belongs to "
            "another contact; the change of address was not carried over.",
            "Check the change at the source; change the addresses one by one, or set the policy "
            "for address changes to all.",
        ),
        Words(
            "Mehrere Kontakte haben gleichzeitig ihre E-Mail-Adresse geändert, oder die neue "
            "Adresse gehört einem anderen Kontakt; die Adressänderung wurde nicht übernommen.",
            "Prüfen Sie die Änderung in der Quelle; ändern Sie die Adressen einzeln, oder stellen "
            "Sie die Regel für Adressänderungen auf alle.",
        ),
    ),
    Reason(
        Reject.VALUE_TOO_LONG,
        Kind.REJECT,
        Who.SOURCE,
        Words("A value is longer than the destination allows.", "Shorten the value at the source."),
        Words("Ein Wert ist länger, als das Ziel erlaubt.", "Kürzen Sie den Wert in der Quelle."),
    ),
    Reason(
        Reject.VALUE_NOT_ACCEPTED,
        Kind.REJECT,
        Who.SOURCE,
        Words(
            "The destination does not accept a value.",
            "Correct the value at the source, or map the field to an attribute of its type.",
        ),
        Words(
            "Das Ziel nimmt einen Wert nicht an.",
            "Berichtigen Sie den Wert in der Quelle, oder ordnen Sie das Feld einem passenden "
            "Attribut zu.",
        ),
    ),
    Reason(
        Reject.DATE_FORMAT,
        Kind.REJECT,
        Who.SOURCE,
        Words("A date is not a date.", "Write it as YYYY-MM-DD."),
        Words("Ein Datum ist kein Datum.", "Schreiben Sie es als JJJJ-MM-TT."),
    ),
    Reason(
        Reject.LAST_NAME_REQUIRED,
        Kind.REJECT,
        Who.SOURCE,
        Words("The last name is empty, and it must not be.", "Add a last name."),
        Words("Der Nachname ist leer und darf es nicht sein.", "Ergänzen Sie den Nachnamen."),
    ),
    Reason(
        Reject.NOT_A_TASK_TARGET,
        Kind.REJECT,
        Who.NOBODY,
        Words("The destination does not let this contact be changed.", "Nothing can be done."),
        Words("Das Ziel lässt diesen Kontakt nicht ändern.", "Es ist nichts zu tun."),
    ),
    Reason(
        Reject.CASE_ATTACHED,
        Kind.REJECT,
        Who.SOURCE,
        Words(
            "The contact was not deleted: a case is attached to it.",
            "Close or move the case, then delete the contact.",
        ),
        Words(
            "Der Kontakt wurde nicht gelöscht: Ein Kundenvorgang hängt an ihm.",
            "Schließen oder verschieben Sie den Vorgang, und löschen Sie dann den Kontakt.",
        ),
    ),
    Reason(
        Reject.INTEGRATION_ARCHIVED,
        Kind.REJECT,
        Who.NOBODY,
        Words("The integration was deleted before the contact was written.", "Nothing."),
        Words("Die Integration wurde gelöscht, bevor der Kontakt geschrieben war.", "Nichts."),
    ),
    Reason(
        Reject.MALFORMED,
        Kind.REJECT,
        Who.SOURCE,
        Words(
            "A value holds characters that cannot be stored, or is not of its field's kind.",
            "Enter the value anew at the source.",
        ),
        Words(
            "Ein Wert enthält nicht speicherbare Zeichen oder passt nicht zu seinem Feld.",
            "Geben Sie den Wert in der Quelle neu ein.",
        ),
    ),
    Reason(
        Park.QUOTA,
        Kind.PARK,
        Who.USER,
        Words(
            "The month's quota of tasks is used up.",
            "Ask for a higher limit, or wait for the new month: it goes on by itself then.",
        ),
        Words(
            "Das Monatskontingent an Aufgaben ist verbraucht.",
            "Beantragen Sie ein höheres Kontingent, oder warten Sie auf den neuen Monat: Dann "
            "geht es von selbst weiter.",
        ),
    ),
    Reason(
        Park.DESTINATION_DOWN,
        Kind.PARK,
        Who.NOBODY,
        Words("The destination does not answer as it should; it is tried again.", _NOTHING),
        Words("Das Ziel antwortet nicht wie erwartet; es wird erneut versucht.", _NICHTS),
    ),
    Reason(
        Park.RATE_LIMITED,
        Kind.PARK,
        Who.NOBODY,
        Words("The destination accepts no more calls for the moment.", _NOTHING),
        Words("Das Ziel nimmt gerade keine weiteren Aufrufe an.", _NICHTS),
    ),
    Reason(
        Park.NEEDS_REAUTH,
        Kind.PARK,
        Who.USER,
        Words(
            "The destination no longer accepts the stored login.",
            "Connect the account again.",
        ),
        Words(
            "Das Ziel nimmt die gespeicherte Anmeldung nicht mehr an.",
            "Verbinden Sie das Konto neu.",
        ),
    ),
    Reason(
        Park.CONFIGURATION,
        Kind.PARK,
        Who.USER,
        Words(
            "The destination refuses what the integration is set to do (a list or attribute is "
            "missing, for example).",
            "Check the integration's list and mapping, then resume it.",
        ),
        Words(
            "Das Ziel lehnt ab, was in der Integration eingestellt ist (etwa weil eine Liste oder "
            "ein Attribut fehlt).",
            "Prüfen Sie Liste und Zuordnung der Integration, und setzen Sie sie dann fort.",
        ),
    ),
    Reason(
        Park.PAUSED,
        Kind.PARK,
        Who.USER,
        Words("The integration is paused.", "Resume the integration."),
        Words("Die Integration ist angehalten.", "Setzen Sie die Integration fort."),
    ),
    Reason(
        Park.CONTACT_LIMIT,
        Kind.PARK,
        Who.USER,
        Words(
            "The destination account holds as many contacts as its plan allows.",
            "Make room or change the plan at the destination.",
        ),
        Words(
            "Das Zielkonto enthält so viele Kontakte, wie sein Tarif erlaubt.",
            "Schaffen Sie Platz, oder wechseln Sie den Tarif beim Ziel.",
        ),
    ),
    Reason(
        Park.IMPORT_RUNNING,
        Kind.PARK,
        Who.NOBODY,
        Words("The contact is part of an import that is still running.", _NOTHING),
        Words("Der Kontakt ist Teil eines Imports, der noch läuft.", _NICHTS),
    ),
    Reason(
        Park.EMAIL_CHANGE,
        Kind.PARK,
        Who.NOBODY,
        Words("A change of e-mail address waits for the end of the run.", _NOTHING),
        Words("Eine Änderung der E-Mail-Adresse wartet auf das Ende des Laufs.", _NICHTS),
    ),
    Reason(
        Park.DUPLICATE_IDENTITY,
        Kind.PARK,
        Who.SOURCE,
        Words(
            "Another contact of the integration has the same address.",
            "Merge the two contacts at the source, or give one of them another address.",
        ),
        Words(
            "Ein anderer Kontakt der Integration hat dieselbe Adresse.",
            "Führen Sie die Kontakte in der Quelle zusammen, oder geben Sie einem eine andere "
            "Adresse.",
        ),
    ),
    Reason(
        Park.SYNC_BUDGET,
        Kind.PARK,
        Who.NOBODY,
        Words("This sync's share is used; the contact follows with the next.", _NOTHING),
        Words("Der Anteil dieses Abgleichs ist verbraucht; der Kontakt folgt.", _NICHTS),
    ),
    Reason(
        Park.BACKLOG,
        Kind.PARK,
        Who.NOBODY,
        Words("Many contacts are on their way to this account.", _NOTHING),
        Words("Viele Kontakte sind zu diesem Konto unterwegs.", _NICHTS),
    ),
    Reason(
        Filter.CRITERIA,
        Kind.FILTER,
        Who.NOBODY,
        Words(
            "The contact does not match the integration's criteria.",
            "Nothing, or change the criteria.",
        ),
        Words(
            "Der Kontakt erfüllt die Kriterien der Integration nicht.",
            "Nichts, oder ändern Sie die Kriterien.",
        ),
    ),
    Reason(
        Filter.NOT_LINKED,
        Kind.FILTER,
        Who.NOBODY,
        Words("The contact was never written, so there is nothing to remove.", "Nothing."),
        Words("Der Kontakt wurde nie geschrieben; es ist nichts zu entfernen.", "Nichts."),
    ),
)

REASONS: Mapping[str, Reason] = {reason.code: reason for reason in _TABLE}


def describe(code: str) -> Reason:
    """Return everything that may be told about a code; raise KeyError if there is no such one."""
    return REASONS[code]
