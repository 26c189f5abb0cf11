"""What will become of a workspace's quota, as a stable code and in words: functions of values."""

from collections.abc import Mapping
from enum import StrEnum


class Outlook(StrEnum):
    """What happens next if nobody does anything."""

    GOES_ON = "goes_on"
    WILL_STOP = "will_stop"
    RESUMES_NEXT_MONTH = "resumes_next_month"
    STAYS_STOPPED = "stays_stopped"


WORDS: Mapping[Outlook, Mapping[str, str]] = {
    Outlook.GOES_ON: {
        "en": "Contacts are written. At the recent rate the quota lasts until the month ends.",
        "de": (
            "Kontakte werden übertragen. Beim Verbrauch der letzten Tage reicht das Kontingent "
            "bis zum Monatsende."
        ),
    },
    Outlook.WILL_STOP: {
        "en": (
            "Contacts are written. At the recent rate the quota is used up before the month ends: "
            "then all integrations stop until the next month begins or the limit is raised, and "
            "catch up by themselves. No change is lost. You can ask for a higher limit now."
        ),
        "de": (
            "Kontakte werden übertragen. Beim Verbrauch der letzten Tage ist das Kontingent vor "
            "dem Monatsende aufgebraucht: Dann halten alle Integrationen an, bis der nächste "
            "Monat beginnt oder das Limit erhöht wird, und holen von selbst alles nach. Keine "
            "Änderung geht verloren. Sie können jetzt ein höheres Limit anfragen."
        ),
    },
    Outlook.RESUMES_NEXT_MONTH: {
        "en": (
            "The quota is used up and all integrations have stopped. They go on by themselves "
            "when the next month begins or as soon as the limit is raised, and catch up. No "
            "change is lost. You can ask for a higher limit."
        ),
        "de": (
            "Das Kontingent ist aufgebraucht, alle Integrationen haben angehalten. Sie laufen von "
            "selbst weiter, wenn der nächste Monat beginnt oder sobald das Limit erhöht wird, und "
            "holen alles nach. Keine Änderung geht verloren. Sie können ein höheres Limit anfragen."
        ),
    },
    Outlook.STAYS_STOPPED: {
        "en": (
            "All integrations have stopped, and the limit of the months to come is 0: they go on "
            "as soon as the limit is raised, and catch up. No change is lost. You can ask for a "
            "higher limit."
        ),
        "de": (
            "Alle Integrationen haben angehalten, und das Limit der kommenden Monate ist 0: Sie "
            "laufen weiter, sobald das Limit erhöht wird, und holen alles nach. Keine Änderung "
            "geht verloren. Sie können ein höheres Limit anfragen."
        ),
    },
}


def outlook(*, is_open: bool, will_be_exhausted: bool, standing_limit: int) -> Outlook:
    """Return what happens next; `standing_limit` is that of the months to come."""
    if is_open:
        return Outlook.WILL_STOP if will_be_exhausted else Outlook.GOES_ON
    return Outlook.RESUMES_NEXT_MONTH if standing_limit else Outlook.STAYS_STOPPED
