"""What mails say, in English and German: one table of sentences, one layout for all.

Sentences are Jinja templates over a notice's payload. `lines` are paragraphs; an empty one (after
rendering) is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Letter:
    """One kind of mail in one language."""

    subject: str
    lines: tuple[str, ...]
    link: str


_REASON_EN = "{% if reason %}The provider's answer, in short: {{ reason }}.{% endif %}"
_REASON_DE = "{% if reason %}Die Antwort des Anbieters in Kürze: {{ reason }}.{% endif %}"

LETTERS: Mapping[tuple[str, str], Letter] = {
    ("quota_80", "en"): Letter(
        "80 % of this month's contact quota is used ({{ workspace }})",
        (
            (
                "{{ used|number }} of {{ limit|number }} tasks of this month have been used in the "
                "workspace {{ workspace }}."
            ),
            (
                "Nothing has stopped yet. When the limit is reached, all integrations stop until "
                "{{ resumes|day }} (UTC) or until the limit is raised. No change is lost meanwhile: "
                "they catch up by themselves."
            ),
            (
                "{% if integrations %}These integrations are active: "
                "{{ integrations|join(', ') }}.{% endif %}"
            ),
        ),
        "See the quota or ask for more",
    ),
    ("quota_80", "de"): Letter(
        "80 % des Kontakt-Kontingents dieses Monats sind verbraucht ({{ workspace }})",
        (
            (
                "Im Arbeitsbereich {{ workspace }} sind {{ used|number }} von {{ limit|number }} "
                "Aufgaben dieses Monats verbraucht."
            ),
            (
                "Noch läuft alles. Ist das Kontingent erreicht, halten alle Integrationen an, bis "
                "zum {{ resumes|day }} (UTC) oder bis es erhöht wird. Dabei geht keine Änderung "
                "verloren: Sie wird danach von selbst nachgeholt."
            ),
            (
                "{% if integrations %}Diese Integrationen sind aktiv: "
                "{{ integrations|join(', ') }}.{% endif %}"
            ),
        ),
        "Kontingent ansehen oder mehr beantragen",
    ),
    ("quota_100", "en"): Letter(
        "This month's contact quota is used up: integrations have stopped ({{ workspace }})",
        (
            (
                "{% if both %}80 % and 100 % of the quota were reached at once. {% endif %}"
                "All {{ limit|number }} tasks of this month have been used in the workspace "
                "{{ workspace }}."
            ),
            (
                "{% if integrations %}These integrations have stopped: {{ integrations|join(', ') }}."
                "{% else %}Nothing is written until there is quota again.{% endif %}"
            ),
            (
                "They go on by themselves on {{ resumes|day }} at 00:00 UTC, or as soon as the limit "
                "is raised. No change is lost meanwhile."
            ),
        ),
        "Ask for a higher limit",
    ),
    ("quota_100", "de"): Letter(
        "Kontakt-Kontingent dieses Monats verbraucht: Integrationen angehalten ({{ workspace }})",
        (
            (
                "{% if both %}80 % und 100 % des Kontingents wurden auf einmal erreicht. {% endif %}"
                "Im Arbeitsbereich {{ workspace }} sind alle {{ limit|number }} Aufgaben dieses "
                "Monats verbraucht."
            ),
            (
                "{% if integrations %}Diese Integrationen sind angehalten: "
                "{{ integrations|join(', ') }}.{% else %}Bis es wieder Kontingent gibt, wird nichts "
                "geschrieben.{% endif %}"
            ),
            (
                "Am {{ resumes|day }} um 00:00 Uhr UTC geht es von selbst weiter, oder sobald das "
                "Kontingent erhöht wird. Dabei geht keine Änderung verloren."
            ),
        ),
        "Höheres Kontingent beantragen",
    ),
    ("integration_needs_reauth", "en"): Letter(
        "Please connect an account again ({{ integration }})",
        (
            (
                "The integration {{ integration }} in the workspace {{ workspace }} can not go on: "
                "an account it uses no longer accepts the stored login."
            ),
            (
                "Connect the account again. Nothing is lost meanwhile: what changed is carried over "
                "afterwards."
            ),
            _REASON_EN,
        ),
        "Connect the account again",
    ),
    ("integration_needs_reauth", "de"): Letter(
        "Bitte verbinden Sie ein Konto neu ({{ integration }})",
        (
            (
                "Die Integration {{ integration }} im Arbeitsbereich {{ workspace }} kann nicht "
                "weiterlaufen: Ein Konto, das sie nutzt, nimmt die gespeicherte Anmeldung nicht an."
            ),
            (
                "Verbinden Sie das Konto neu. Es geht nichts verloren: Änderungen werden danach "
                "nachgeholt."
            ),
            _REASON_DE,
        ),
        "Konto neu verbinden",
    ),
    ("integration_error", "en"): Letter(
        "An integration has stopped ({{ integration }})",
        (
            (
                "The integration {{ integration }} in the workspace {{ workspace }} can not go on "
                "until somebody looks at its settings."
            ),
            "Check its list and its mapping, then resume it. Nothing is lost meanwhile.",
            _REASON_EN,
        ),
        "Look at the integration",
    ),
    ("integration_error", "de"): Letter(
        "Eine Integration ist stehen geblieben ({{ integration }})",
        (
            (
                "Die Integration {{ integration }} im Arbeitsbereich {{ workspace }} kann nicht "
                "weiterlaufen, bis jemand ihre Einstellungen prüft."
            ),
            (
                "Prüfen Sie Liste und Zuordnung, und setzen Sie sie dann fort. Es geht nichts "
                "verloren."
            ),
            _REASON_DE,
        ),
        "Integration ansehen",
    ),
    ("integration_needs_confirmation", "en"): Letter(
        "Many contacts are about to be removed: please confirm ({{ integration }})",
        (
            (
                "Unusually many contacts have left the source of the integration {{ integration }} "
                "in the workspace {{ workspace }}. To be safe, none was removed."
            ),
            "Confirm the run if this is right. If you do nothing, the next full read decides anew.",
            "",
        ),
        "See the run",
    ),
    ("integration_needs_confirmation", "de"): Letter(
        "Viele Kontakte sollen entfernt werden: bitte bestätigen ({{ integration }})",
        (
            (
                "Aus der Quelle der Integration {{ integration }} im Arbeitsbereich {{ workspace }} "
                "sind ungewöhnlich viele Kontakte verschwunden. Zur Sicherheit wurde keiner entfernt."
            ),
            (
                "Bestätigen Sie den Lauf, wenn das richtig ist. Sonst entscheidet der nächste "
                "vollständige Abgleich neu."
            ),
            "",
        ),
        "Lauf ansehen",
    ),
}
