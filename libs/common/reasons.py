"""Why a contact is not there, or an integration does not go on: the one table that all parts show.

A code is stable and appears in events, the API and metrics. The words, in English and German,
say what is the matter and what to do about it; `who` says who must act (PROTOCOL.md 11).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a reason does to a contact; TROUBLE to a whole integration."""

    REJECT = "reject"
    PARK = "park"
    FILTER = "filter"
    ABSENT = "absent"
    TROUBLE = "trouble"


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


class Absent(StrEnum):
    """A contact that was not read from its source (AC9)."""

    NOT_SYNCED_YET = "not_synced_yet"
    NOT_READ = "not_read"
    LEFT_OUT = "left_out"
    REMOVED = "removed"


class Trouble(StrEnum):
    """What keeps an integration from going on; `source_…` is the source's, else the destination's.

    A provider's own code may stand in its place, and has no words then.
    """

    PLAN_NEEDED = "plan_needed"
    FIELDS_NOT_MADE = "fields_not_made"
    LIST_MISSING = "list_missing"
    ATTRIBUTE_MISSING = "attribute_missing"
    SCOPE_MISSING = "scope_missing"
    IP_NOT_ALLOWED = "ip_not_allowed"
    API_DISABLED = "api_disabled"
    NOT_FOUND = "not_found"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    CLIENT_REFUSED = "client_refused"
    SOURCE_DOWN = "source_down"
    SOURCE_RATE_LIMITED = "source_rate_limited"
    SOURCE_LIST_MISSING = "source_list_missing"
    SOURCE_FIELD_MISSING = "source_field_missing"
    SOURCE_FILE_MISSING = "source_file_missing"
    SOURCE_SCOPE_MISSING = "source_scope_missing"
    SOURCE_IP_NOT_ALLOWED = "source_ip_not_allowed"
    SOURCE_API_DISABLED = "source_api_disabled"
    SOURCE_ACCOUNT_CHANGED = "source_account_changed"
    SOURCE_NOT_FOUND = "source_not_found"
    SOURCE_ADDRESS_NOT_ALLOWED = "source_address_not_allowed"
    SOURCE_CLIENT_REFUSED = "source_client_refused"
    SOURCE_REQUEST_REFUSED = "source_request_refused"
    SOURCE_CONFIGURATION = "source_configuration"


_NOTHING = "Nothing: it goes on by itself."
_NICHTS = "Nichts: Es geht von selbst weiter."


def _troubles(codes: Sequence[str], en: Words, de: Words, who: Who = Who.USER) -> list[Reason]:
    """Return a trouble of either side; its words name the side by `{en}` and `{de}`."""
    return [
        Reason(code, Kind.TROUBLE, who, _at(en, *_side(code)), _at(de, *_side(code)))
        for code in map(Trouble, codes)
    ]


def _side(code: str) -> tuple[str, str]:
    if code.startswith("source_"):
        return "the source", "bei der Quelle"
    return "the destination", "beim Ziel"


def _at(words: Words, en: str, de: str) -> Words:
    return Words(words.what.format(en=en, de=de), words.remedy)


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
            "Make room or change the plan at the destination: within an hour it goes on by itself.",
        ),
        Words(
            "Das Zielkonto enthält so viele Kontakte, wie sein Tarif erlaubt.",
            "Schaffen Sie Platz, oder wechseln Sie den Tarif beim Ziel: Binnen einer Stunde geht "
            "es von selbst weiter.",
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
        Words(
            "As many contacts of this external account were synced as one sync may; the contact "
            "follows with one of the next, every 30 minutes, the longest waiting first.",
            "Nothing: it goes on by itself. To bring very many at once, import a CSV file.",
        ),
        Words(
            "Von diesem externen Konto wurden so viele Kontakte abgeglichen, wie ein Abgleich "
            "darf; der Kontakt folgt mit einem der nächsten, alle 30 Minuten, wer am längsten "
            "wartet, zuerst.",
            "Nichts: Es geht von selbst weiter. Sollen sehr viele auf einmal kommen, importieren "
            "Sie eine CSV-Datei.",
        ),
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
    Reason(
        Absent.NOT_SYNCED_YET,
        Kind.ABSENT,
        Who.USER,
        Words(
            "The integration has not read its source to the end yet.",
            "Activate or resume it, or wait for its first sync to end.",
        ),
        Words(
            "Die Integration hat ihre Quelle noch nicht bis zum Ende gelesen.",
            "Aktivieren Sie sie, setzen Sie sie fort, oder warten Sie das Ende des ersten "
            "Abgleichs ab.",
        ),
    ),
    Reason(
        Absent.NOT_READ,
        Kind.ABSENT,
        Who.SOURCE,
        Words(
            "The source has shown no such contact to this integration: it is not there, or not on "
            "the list that is synced, or came after the last sync.",
            "Check the id or the address, and whether the contact is on the list at the source; "
            "then wait for the next sync, or ask for one.",
        ),
        Words(
            "Die Quelle hat dieser Integration keinen solchen Kontakt gezeigt: Es gibt ihn dort "
            "nicht, er steht nicht auf der abgeglichenen Liste, oder er kam nach dem letzten "
            "Abgleich.",
            "Prüfen Sie Kennung oder Adresse und ob der Kontakt in der Quelle auf der Liste steht; "
            "warten Sie dann den nächsten Abgleich ab, oder stoßen Sie einen an.",
        ),
    ),
    Reason(
        Absent.LEFT_OUT,
        Kind.ABSENT,
        Who.USER,
        Words(
            "More contacts had changed at once than one sync fetches; this one was left out.",
            "Replay the contacts that the run left out, or edit the contact at the source.",
        ),
        Words(
            "Es hatten sich mehr Kontakte auf einmal geändert, als ein Abgleich holt; dieser "
            "wurde ausgelassen.",
            "Holen Sie die ausgelassenen Kontakte des Laufs nach, oder bearbeiten Sie den Kontakt "
            "in der Quelle.",
        ),
    ),
    Reason(
        Absent.REMOVED,
        Kind.ABSENT,
        Who.SOURCE,
        Words(
            "The contact was deleted at the source or is no longer on its list.",
            "Nothing, or put it back on the list at the source.",
        ),
        Words(
            "Der Kontakt wurde in der Quelle gelöscht oder steht dort nicht mehr auf der Liste.",
            "Nichts, oder setzen Sie ihn in der Quelle wieder auf die Liste.",
        ),
    ),
    Reason(
        Trouble.PLAN_NEEDED,
        Kind.TROUBLE,
        Who.USER,
        Words(
            "The workspace's plan does not have one of the two providers any more.",
            "Ask the operator for the plan that has it, then resume the integration.",
        ),
        Words(
            "Zum Tarif des Arbeitsbereichs gehört einer der beiden Anbieter nicht mehr.",
            "Bitten Sie den Betreiber um den Tarif, der ihn enthält, und setzen Sie die "
            "Integration dann fort.",
        ),
    ),
    Reason(
        Trouble.FIELDS_NOT_MADE,
        Kind.TROUBLE,
        Who.USER,
        Words(
            "The destination does not let us create the fields that the source's fields go to.",
            "Give the connected user the right to create fields; it is tried again by itself.",
        ),
        Words(
            "Das Ziel lässt uns die Felder nicht anlegen, in die die Felder der Quelle gehören.",
            "Geben Sie der verbundenen Person das Recht, Felder anzulegen; es wird von selbst "
            "erneut versucht.",
        ),
    ),
    *_troubles(
        ("list_missing", "source_list_missing"),
        Words("The list is gone at {en}.", "Choose another list, in a new integration if needed."),
        Words(
            "Die Liste gibt es {de} nicht mehr.",
            "Wählen Sie eine andere Liste, notfalls in einer neuen Integration.",
        ),
    ),
    *_troubles(
        ("source_field_missing",),
        Words(
            "A mapped field is gone at {en}.",
            "Save the mapping anew without it, or bring the field back.",
        ),
        Words(
            "Ein zugeordnetes Feld gibt es {de} nicht mehr.",
            "Speichern Sie die Zuordnung ohne es, oder stellen Sie das Feld wieder her.",
        ),
    ),
    *_troubles(
        ("source_file_missing",),
        Words(
            "There is no file to read at {en}, or it is kept no longer.",
            "Upload the file and confirm it.",
        ),
        Words(
            "Es gibt {de} keine Datei zu lesen, oder sie wird nicht mehr aufbewahrt.",
            "Laden Sie die Datei hoch, und bestätigen Sie sie.",
        ),
    ),
    *_troubles(
        ("attribute_missing",),
        Words("A mapped attribute is gone at {en}.", "Save the mapping anew without it."),
        Words(
            "Ein zugeordnetes Attribut gibt es {de} nicht mehr.",
            "Speichern Sie die Zuordnung ohne es.",
        ),
    ),
    *_troubles(
        ("scope_missing", "source_scope_missing"),
        Words(
            "The connected user or app lacks a permission at {en}.",
            "Give it the permission there, or connect the account again with it.",
        ),
        Words(
            "Der verbundenen Person oder App fehlt {de} ein Recht.",
            "Erteilen Sie es dort, oder verbinden Sie das Konto neu.",
        ),
    ),
    *_troubles(
        ("ip_not_allowed", "source_ip_not_allowed"),
        Words(
            "Calls from our addresses are not allowed at {en}.",
            "Add our addresses to those that are allowed there.",
        ),
        Words(
            "Aufrufe von unseren Adressen sind {de} nicht erlaubt.",
            "Nehmen Sie unsere Adressen dort in die erlaubten auf.",
        ),
        who=Who.OPERATOR,
    ),
    *_troubles(
        ("api_disabled", "source_api_disabled"),
        Words(
            "Access by the API is switched off at {en}.",
            "Have it switched on for the account, then resume the integration.",
        ),
        Words(
            "Der Zugang über die API ist {de} abgeschaltet.",
            "Lassen Sie ihn für das Konto einschalten, und setzen Sie die Integration fort.",
        ),
    ),
    *_troubles(
        ("not_found", "source_not_found"),
        Words(
            "What the integration uses is gone at {en}.",
            "Check the integration's lists and fields.",
        ),
        Words(
            "Was die Integration verwendet, gibt es {de} nicht mehr.",
            "Prüfen Sie Listen und Felder der Integration.",
        ),
    ),
    *_troubles(
        ("address_not_allowed", "source_address_not_allowed"),
        Words(
            "The account's address at {en} is not one of the provider's.",
            "Connect the account again with the address that its own pages show.",
        ),
        Words(
            "Die Adresse des Kontos {de} gehört nicht dem Anbieter.",
            "Verbinden Sie das Konto neu, mit der Adresse von dessen eigenen Seiten.",
        ),
    ),
    *_troubles(
        ("client_refused", "source_client_refused"),
        Words(
            "Your own application is not accepted at {en}.",
            "Look up its id and secret there, and enter them again for the connection.",
        ),
        Words(
            "Ihre eigene Anwendung wird {de} nicht angenommen.",
            "Sehen Sie dort ID und Geheimnis nach, und geben Sie sie für die Verbindung neu ein.",
        ),
    ),
    *_troubles(
        ("source_account_changed",),
        Words(
            "The login at {en} belongs to another account than before.",
            "Connect the account that the integration was made for.",
        ),
        Words(
            "Die Anmeldung {de} gehört zu einem anderen Konto als bisher.",
            "Verbinden Sie das Konto, für das die Integration angelegt wurde.",
        ),
    ),
    *_troubles(
        ("source_request_refused", "source_configuration"),
        Words(
            "What the integration asks for is refused at {en}.",
            "Check the integration's fields and criteria.",
        ),
        Words(
            "Was die Integration abfragt, wird {de} abgelehnt.",
            "Prüfen Sie Felder und Kriterien der Integration.",
        ),
    ),
    *_troubles(
        ("source_down",),
        Words("Nobody answers as they should at {en}; it is tried again.", _NOTHING),
        Words("Erwartete Antworten bleiben {de} aus; es wird erneut versucht.", _NICHTS),
        who=Who.NOBODY,
    ),
    *_troubles(
        ("source_rate_limited",),
        Words("The calls that are allowed at {en} are used up for now, as for a day.", _NOTHING),
        Words("Die erlaubten Aufrufe sind {de} für jetzt verbraucht, etwa für heute.", _NICHTS),
        who=Who.NOBODY,
    ),
)

REASONS: Mapping[str, Reason] = {reason.code: reason for reason in _TABLE}


def describe(code: str) -> Reason:
    """Return everything that may be told about a code; raise KeyError if there is no such one."""
    return REASONS[code]
