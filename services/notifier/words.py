"""What mails say, in English and German: one table of sentences, one layout for all.

Sentences are Jinja templates over a notice's payload (`services.notifier.render` says what is
there). `facts` are a label and a value each, `lines` are paragraphs; one that renders to nothing is
left out. `place` is what the link adds to the console's address, as a fragment: a front end that
does not know the place shows its first page all the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from libs.common.mails import MailKind


@dataclass(frozen=True, slots=True)
class Letter:
    """One kind of mail in one language."""

    subject: str
    lines: tuple[str, ...]
    link: str
    place: str
    facts: tuple[tuple[str, str], ...] = ()


# Why a person gets mails at all, under each that goes to a workspace's users.
FOOTERS: Mapping[str, str] = {
    "en": "You get this mail because your address is set up for the mails of the workspace {{ workspace }}. Each kind can be switched off for each person there.",
    "de": "Sie bekommen diese E-Mail, weil Ihre Adresse für die E-Mails des Arbeitsbereichs {{ workspace }} eingetragen ist. Dort lässt sich jede Art von E-Mail für jede Person abschalten.",
}

_USED_EN = "{{ used|number }} of {{ limit|number }} tasks{% if limit %} ({{ used|share(limit) }}){% endif %}"
_USED_DE = "{{ used|number }} von {{ limit|number }} Aufgaben{% if limit %} ({{ used|share(limit) }}){% endif %}"
_NAMED_EN = "{{ integrations|join(', ') }}{% if integrations_more %} and {{ integrations_more|number }} more{% endif %}"
_NAMED_DE = "{{ integrations|join(', ') }}{% if integrations_more %} und {{ integrations_more|number }} weitere{% endif %}"
_GOES_ON_EN = "on {{ resumes|day }}, 00:00 UTC, or as soon as the limit is raised"
_GOES_ON_DE = "am {{ resumes|day }}, 00:00 Uhr UTC, oder sobald das Kontingent erhöht wird"
_FORECAST_EN = "{% if forecast %}about {{ forecast|hour }}{% elif tasks_a_day %}not in {{ period|month }}{% endif %}"
_FORECAST_DE = "{% if forecast %}etwa am {{ forecast|hour }}{% elif tasks_a_day %}nicht im {{ period|month }}{% endif %}"
_RATE_EN = "{% if tasks_a_day %}about {{ tasks_a_day|number }} tasks a day{% endif %}"
_RATE_DE = "{% if tasks_a_day %}etwa {{ tasks_a_day|number }} Aufgaben am Tag{% endif %}"
_WORDS_EN = "{% if words %}The operator's words: “{{ words }}”{% endif %}"
_WORDS_DE = "{% if words %}Der Betreiber schreibt dazu: „{{ words }}“{% endif %}"
_CAUGHT_UP_EN = "No change is lost meanwhile. Contacts that had to wait are written first, each in its newest state; then the integrations read on from where they stopped."
_CAUGHT_UP_DE = "Dabei geht keine Änderung verloren. Kontakte, die warten mussten, werden zuerst geschrieben, jeder in seinem neuesten Stand; danach lesen die Integrationen dort weiter, wo sie aufgehört haben."
_STOPPED_EN = f"{{% if integrations %}}These integrations are stopped: {_NAMED_EN}.{{% endif %}}"
_STOPPED_DE = (
    f"{{% if integrations %}}Diese Integrationen sind angehalten: {_NAMED_DE}.{{% endif %}}"
)
_REASON_EN = "{% if reason %}The provider's answer, in short: {{ reason }}.{% endif %}"
_REASON_DE = "{% if reason %}Die Antwort des Anbieters in Kürze: {{ reason }}.{% endif %}"

_ASK = "/quota/requests/new"
_QUOTA = "/quota"
_INTEGRATION = "/integrations/{{ integration_id }}"

LETTERS: Mapping[tuple[MailKind, str], Letter] = {
    (MailKind.QUOTA_80, "en"): Letter(
        "80% of this month's contact quota is used ({{ workspace }})",
        (
            "The workspace {{ workspace }} has used 80% of its contact quota for {{ period|month }}.",
            "Nothing has stopped yet. When the quota is used up, all integrations of the workspace stop. They go on by themselves "
            + _GOES_ON_EN
            + ".",
            _CAUGHT_UP_EN,
            f"{{% if integrations %}}These integrations are active: {_NAMED_EN}.{{% endif %}}",
        ),
        "Ask for a higher limit",
        _ASK,
        (
            ("Used", _USED_EN),
            ("Left", "{{ left|number }} tasks"),
            ("As of", "{{ at|moment }}"),
            ("Rate of the last days", _RATE_EN),
            ("Likely used up", _FORECAST_EN),
            ("New quota", "{{ resumes|day }}, 00:00 UTC"),
        ),
    ),
    (MailKind.QUOTA_80, "de"): Letter(
        "80 % des Kontakt-Kontingents dieses Monats sind verbraucht ({{ workspace }})",
        (
            "Der Arbeitsbereich {{ workspace }} hat 80 % seines Kontakt-Kontingents für {{ period|month }} verbraucht.",
            "Noch läuft alles. Ist das Kontingent verbraucht, halten alle Integrationen des Arbeitsbereichs an. Von selbst geht es weiter "
            + _GOES_ON_DE
            + ".",
            _CAUGHT_UP_DE,
            f"{{% if integrations %}}Diese Integrationen sind aktiv: {_NAMED_DE}.{{% endif %}}",
        ),
        "Höheres Kontingent beantragen",
        _ASK,
        (
            ("Verbraucht", _USED_DE),
            ("Übrig", "{{ left|number }} Aufgaben"),
            ("Stand", "{{ at|moment }}"),
            ("Verbrauch der letzten Tage", _RATE_DE),
            ("Voraussichtlich verbraucht", _FORECAST_DE),
            ("Neues Kontingent", "{{ resumes|day }}, 00:00 Uhr UTC"),
        ),
    ),
    (MailKind.QUOTA_100, "en"): Letter(
        "This month's contact quota is used up: integrations have stopped ({{ workspace }})",
        (
            "{% if both %}80% and 100% of the quota were reached at once. {% elif near_at %}80% was reached on {{ near_at|moment }}, 100% on {{ at|moment }}. {% endif %}The workspace {{ workspace }} has used up its contact quota for {{ period|month }}.",
            f"{{% if integrations %}}These integrations have been stopped since {{{{ at|moment }}}}: {_NAMED_EN}.{{% else %}}Nothing is written until there is quota again.{{% endif %}}",
            "It goes on by itself " + _GOES_ON_EN + ".",
            _CAUGHT_UP_EN,
        ),
        "Ask for a higher limit",
        _ASK,
        (
            ("Used", _USED_EN),
            ("Stopped since", "{{ at|moment }}"),
            ("Goes on", "{{ resumes|day }}, 00:00 UTC"),
            ("Rate of the last days", _RATE_EN),
            (
                "Wanted until then",
                "{% if still_wanted %}about {{ still_wanted|number }} more tasks{% endif %}",
            ),
        ),
    ),
    (MailKind.QUOTA_100, "de"): Letter(
        "Kontakt-Kontingent dieses Monats verbraucht: Integrationen angehalten ({{ workspace }})",
        (
            "{% if both %}80 % und 100 % des Kontingents wurden auf einmal erreicht. {% elif near_at %}80 % wurden am {{ near_at|moment }} erreicht, 100 % am {{ at|moment }}. {% endif %}Der Arbeitsbereich {{ workspace }} hat sein Kontakt-Kontingent für {{ period|month }} verbraucht.",
            f"{{% if integrations %}}Diese Integrationen sind seit dem {{{{ at|moment }}}} angehalten: {_NAMED_DE}.{{% else %}}Bis es wieder Kontingent gibt, wird nichts geschrieben.{{% endif %}}",
            "Von selbst geht es weiter " + _GOES_ON_DE + ".",
            _CAUGHT_UP_DE,
        ),
        "Höheres Kontingent beantragen",
        _ASK,
        (
            ("Verbraucht", _USED_DE),
            ("Angehalten seit", "{{ at|moment }}"),
            ("Weiter geht es", "{{ resumes|day }}, 00:00 Uhr UTC"),
            ("Verbrauch der letzten Tage", _RATE_DE),
            (
                "Bis dahin nötig",
                "{% if still_wanted %}etwa {{ still_wanted|number }} weitere Aufgaben{% endif %}",
            ),
        ),
    ),
    (MailKind.QUOTA_GRANTED, "en"): Letter(
        "Your request is granted: {{ limit|number }} tasks {% if is_for_period %}in {{ period|month }}{% else %}a month{% endif %} ({{ workspace }})",
        (
            "The request of the workspace {{ workspace }} for {{ wanted|number }} tasks a month is granted{% if limit != wanted %}, with another limit than the one asked for{% endif %}. The limit is {{ limit|number }} tasks now{% if is_for_period %}, in {{ period|month }} only{% endif %}.",
            _WORDS_EN,
            "{% if left %}What had stopped goes on by itself. Contacts that had to wait are written first, each in its newest state.{% else %}This is not more than what is used already: integrations stay stopped. They go on by themselves "
            + _GOES_ON_EN
            + ".{% endif %}",
            f"{{% if integrations %}}These integrations are active: {_NAMED_EN}.{{% endif %}}",
        ),
        "See the quota",
        _QUOTA,
        (
            ("Limit now", "{{ limit|number }} tasks"),
            ("Asked for", "{{ wanted|number }} tasks"),
            ("In force", "since {{ at|moment }}"),
            (
                "Until",
                "{% if is_for_period %}{{ resumes|day }}, 00:00 UTC; then {{ standing_limit|number }} tasks a month again{% endif %}",
            ),
            ("Used", _USED_EN),
            ("Likely used up", f"{{% if left %}}{_FORECAST_EN}{{% endif %}}"),
        ),
    ),
    (MailKind.QUOTA_GRANTED, "de"): Letter(
        "Ihr Antrag ist bewilligt: {{ limit|number }} Aufgaben {% if is_for_period %}im {{ period|month }}{% else %}im Monat{% endif %} ({{ workspace }})",
        (
            "Der Antrag des Arbeitsbereichs {{ workspace }} auf {{ wanted|number }} Aufgaben im Monat ist bewilligt{% if limit != wanted %}, mit einem anderen Kontingent als beantragt{% endif %}. Das Kontingent beträgt jetzt {{ limit|number }} Aufgaben{% if is_for_period %}, nur im {{ period|month }}{% endif %}.",
            _WORDS_DE,
            "{% if left %}Was angehalten war, geht von selbst weiter. Kontakte, die warten mussten, werden zuerst geschrieben, jeder in seinem neuesten Stand.{% else %}Das ist nicht mehr, als schon verbraucht ist: Die Integrationen bleiben angehalten. Von selbst geht es weiter "
            + _GOES_ON_DE
            + ".{% endif %}",
            f"{{% if integrations %}}Diese Integrationen sind aktiv: {_NAMED_DE}.{{% endif %}}",
        ),
        "Kontingent ansehen",
        _QUOTA,
        (
            ("Kontingent jetzt", "{{ limit|number }} Aufgaben"),
            ("Beantragt", "{{ wanted|number }} Aufgaben"),
            ("In Kraft", "seit {{ at|moment }}"),
            (
                "Bis",
                "{% if is_for_period %}{{ resumes|day }}, 00:00 Uhr UTC; dann wieder {{ standing_limit|number }} Aufgaben im Monat{% endif %}",
            ),
            ("Verbraucht", _USED_DE),
            ("Voraussichtlich verbraucht", f"{{% if left %}}{_FORECAST_DE}{{% endif %}}"),
        ),
    ),
    (MailKind.QUOTA_DECLINED, "en"): Letter(
        "Your request for {{ wanted|number }} tasks a month is declined ({{ workspace }})",
        (
            "The request of the workspace {{ workspace }} for {{ wanted|number }} tasks a month is declined. The limit stays at {{ limit|number }} tasks.",
            _WORDS_EN,
            "{% if left %}Nothing has stopped. When the quota is used up, all integrations of the workspace stop, and go on by themselves "
            + _GOES_ON_EN
            + ".{% else %}"
            + _STOPPED_EN
            + " What is stopped goes on by itself "
            + _GOES_ON_EN
            + ".{% endif %}",
            _CAUGHT_UP_EN,
        ),
        "Ask again",
        _ASK,
        (
            ("Limit", "{{ limit|number }} tasks"),
            ("Asked for", "{{ wanted|number }} tasks"),
            ("Used", _USED_EN),
            ("Stopped since", "{% if not left and used_up_at %}{{ used_up_at|moment }}{% endif %}"),
            ("Likely used up", f"{{% if left %}}{_FORECAST_EN}{{% endif %}}"),
            ("New quota", "{{ resumes|day }}, 00:00 UTC"),
        ),
    ),
    (MailKind.QUOTA_DECLINED, "de"): Letter(
        "Ihr Antrag auf {{ wanted|number }} Aufgaben im Monat ist abgelehnt ({{ workspace }})",
        (
            "Der Antrag des Arbeitsbereichs {{ workspace }} auf {{ wanted|number }} Aufgaben im Monat ist abgelehnt. Das Kontingent bleibt bei {{ limit|number }} Aufgaben.",
            _WORDS_DE,
            "{% if left %}Angehalten ist nichts. Ist das Kontingent verbraucht, halten alle Integrationen des Arbeitsbereichs an. Von selbst geht es weiter "
            + _GOES_ON_DE
            + ".{% else %}"
            + _STOPPED_DE
            + " Von selbst geht es weiter "
            + _GOES_ON_DE
            + ".{% endif %}",
            _CAUGHT_UP_DE,
        ),
        "Erneut beantragen",
        _ASK,
        (
            ("Kontingent", "{{ limit|number }} Aufgaben"),
            ("Beantragt", "{{ wanted|number }} Aufgaben"),
            ("Verbraucht", _USED_DE),
            (
                "Angehalten seit",
                "{% if not left and used_up_at %}{{ used_up_at|moment }}{% endif %}",
            ),
            ("Voraussichtlich verbraucht", f"{{% if left %}}{_FORECAST_DE}{{% endif %}}"),
            ("Neues Kontingent", "{{ resumes|day }}, 00:00 Uhr UTC"),
        ),
    ),
    (MailKind.QUOTA_REQUEST_OPENED, "en"): Letter(
        "{{ workspace }} asks for {{ wanted|number }} tasks a month",
        (
            "The workspace {{ workspace }} asks for a higher limit{% if words %}: “{{ words }}”{% else %}.{% endif %}",
            "{% if left %}Nothing has stopped yet.{% else %}All integrations of the workspace are stopped; they go on by themselves "
            + _GOES_ON_EN
            + ".{% endif %} A grant is in force with the next contact; whoever asked is told by mail.",
        ),
        "Grant or decline the request",
        "/quota-requests/{{ request_id }}",
        (
            ("Workspace", "{{ workspace_id }}"),
            ("Request", "{{ request_id }}"),
            ("Asked for", "{{ wanted|number }} tasks a month"),
            ("Used", _USED_EN),
            ("Stopped since", "{% if not left and used_up_at %}{{ used_up_at|moment }}{% endif %}"),
            ("Rate of the last days", _RATE_EN),
            ("Likely used up", f"{{% if left %}}{_FORECAST_EN}{{% endif %}}"),
        ),
    ),
    (MailKind.QUOTA_REQUEST_OPENED, "de"): Letter(
        "{{ workspace }} beantragt {{ wanted|number }} Aufgaben im Monat",
        (
            "Der Arbeitsbereich {{ workspace }} beantragt ein höheres Kontingent{% if words %}: „{{ words }}“{% else %}.{% endif %}",
            "{% if left %}Noch läuft alles.{% else %}Alle Integrationen des Arbeitsbereichs sind angehalten; von selbst geht es weiter "
            + _GOES_ON_DE
            + ".{% endif %} Eine Bewilligung gilt ab dem nächsten Kontakt; wer den Antrag gestellt hat, erfährt davon per E-Mail.",
        ),
        "Antrag bewilligen oder ablehnen",
        "/quota-requests/{{ request_id }}",
        (
            ("Arbeitsbereich", "{{ workspace_id }}"),
            ("Antrag", "{{ request_id }}"),
            ("Beantragt", "{{ wanted|number }} Aufgaben im Monat"),
            ("Verbraucht", _USED_DE),
            (
                "Angehalten seit",
                "{% if not left and used_up_at %}{{ used_up_at|moment }}{% endif %}",
            ),
            ("Verbrauch der letzten Tage", _RATE_DE),
            ("Voraussichtlich verbraucht", f"{{% if left %}}{_FORECAST_DE}{{% endif %}}"),
        ),
    ),
    (MailKind.DRIFT, "en"): Letter(
        "The ledger does not add up: {{ check }} differs by {{ drift|abs|number }} ({{ workspace }})",
        (
            "A reconciliation found that what the ledger keeps for the workspace {{ workspace }} is not what it is held against. Nothing was repaired.",
            "Find out why before you mend it: the page on operations says what each check compares, and which command prints the same again.",
        ),
        "See the reconciliation",
        "/reconciliations",
        (
            ("Workspace", "{{ workspace_id }}"),
            ("Month", "{{ period|month }}"),
            ("Check", "{{ check }}"),
            ("Kept minus compared", "{{ drift|signed }}"),
            ("Used", _USED_EN),
            ("Found", "{{ at|moment }}"),
            (
                "Again",
                "python -m services.quota reconcile --workspace {{ workspace_id }} --period {{ period[:7] }}",
            ),
        ),
    ),
    (MailKind.DRIFT, "de"): Letter(
        "Das Kontobuch geht nicht auf: {{ check }} weicht um {{ drift|abs|number }} ab ({{ workspace }})",
        (
            "Ein Abgleich hat ergeben, dass das, was das Kontobuch für den Arbeitsbereich {{ workspace }} führt, nicht das ist, womit es verglichen wird. Repariert wurde nichts.",
            "Klären Sie die Ursache, bevor Sie etwas richten: Die Seite zum Betrieb sagt, was jede Prüfung vergleicht und welcher Befehl dasselbe noch einmal ausgibt.",
        ),
        "Abgleich ansehen",
        "/reconciliations",
        (
            ("Arbeitsbereich", "{{ workspace_id }}"),
            ("Monat", "{{ period|month }}"),
            ("Prüfung", "{{ check }}"),
            ("Geführt minus verglichen", "{{ drift|signed }}"),
            ("Verbraucht", _USED_DE),
            ("Gefunden", "{{ at|moment }}"),
            (
                "Noch einmal",
                "python -m services.quota reconcile --workspace {{ workspace_id }} --period {{ period[:7] }}",
            ),
        ),
    ),
    (MailKind.INTEGRATION_NEEDS_REAUTH, "en"): Letter(
        "Please connect an account again ({{ integration }})",
        (
            "The integration {{ integration }} in the workspace {{ workspace }} can not go on: an account it uses no longer accepts the stored login.",
            "Connect the account again. Nothing is lost meanwhile: what changed is carried over afterwards.",
            _REASON_EN,
        ),
        "Connect the account again",
        _INTEGRATION,
    ),
    (MailKind.INTEGRATION_NEEDS_REAUTH, "de"): Letter(
        "Bitte verbinden Sie ein Konto neu ({{ integration }})",
        (
            "Die Integration {{ integration }} im Arbeitsbereich {{ workspace }} kann nicht weiterlaufen: Ein Konto, das sie nutzt, nimmt die gespeicherte Anmeldung nicht an.",
            "Verbinden Sie das Konto neu. Es geht nichts verloren: Änderungen werden danach nachgeholt.",
            _REASON_DE,
        ),
        "Konto neu verbinden",
        _INTEGRATION,
    ),
    (MailKind.INTEGRATION_ERROR, "en"): Letter(
        "An integration has stopped ({{ integration }})",
        (
            "The integration {{ integration }} in the workspace {{ workspace }} can not go on until {% if reason == 'plan_needed' %}the workspace has the plan for it again{% else %}somebody looks at its settings{% endif %}.",
            "{% if reason == 'plan_needed' %}Ask the operator for the plan{% else %}Check its list and its mapping{% endif %}, then resume it. Nothing is lost meanwhile.",
            "{% if reason != 'plan_needed' %}" + _REASON_EN + "{% endif %}",
        ),
        "Look at the integration",
        _INTEGRATION,
    ),
    (MailKind.INTEGRATION_ERROR, "de"): Letter(
        "Eine Integration ist stehen geblieben ({{ integration }})",
        (
            "Die Integration {{ integration }} im Arbeitsbereich {{ workspace }} kann nicht weiterlaufen, bis {% if reason == 'plan_needed' %}der Arbeitsbereich wieder den Tarif dafür hat{% else %}jemand ihre Einstellungen prüft{% endif %}.",
            "{% if reason == 'plan_needed' %}Bitten Sie den Betreiber um den Tarif{% else %}Prüfen Sie Liste und Zuordnung{% endif %}, und setzen Sie sie dann fort. Es geht nichts verloren.",
            "{% if reason != 'plan_needed' %}" + _REASON_DE + "{% endif %}",
        ),
        "Integration ansehen",
        _INTEGRATION,
    ),
    (MailKind.INTEGRATION_NEEDS_CONFIRMATION, "en"): Letter(
        "Many contacts are about to be removed: please confirm ({{ integration }})",
        (
            "Unusually many contacts have left the source of the integration {{ integration }} in the workspace {{ workspace }}. To be safe, none was removed.",
            "Confirm the run if this is right. If you do nothing, the next full read decides anew.",
        ),
        "See the run",
        _INTEGRATION,
    ),
    (MailKind.INTEGRATION_NEEDS_CONFIRMATION, "de"): Letter(
        "Viele Kontakte sollen entfernt werden: bitte bestätigen ({{ integration }})",
        (
            "Aus der Quelle der Integration {{ integration }} im Arbeitsbereich {{ workspace }} sind ungewöhnlich viele Kontakte verschwunden. Zur Sicherheit wurde keiner entfernt.",
            "Bestätigen Sie den Lauf, wenn das richtig ist. Sonst entscheidet der nächste vollständige Abgleich neu.",
        ),
        "Lauf ansehen",
        _INTEGRATION,
    ),
}
