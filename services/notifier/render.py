"""From a stored notice to the bytes of a mail.

Promise: the same notice renders to the same bytes each time (date, boundary and Message-ID come
from what was stored), so a mail that is sent twice after a crash is visibly one mail. Names are
escaped in HTML, and header injection is impossible: the standard library refuses line breaks, and
we fold them before.
"""

from datetime import date
from email.message import EmailMessage
from email.utils import format_datetime

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from services.notifier.store import Notice
from services.notifier.words import LETTERS

SUBJECT_MAX = 200

_HTML = """<!doctype html>
<html lang="{{ language }}"><head><meta charset="utf-8"><title>{{ subject }}</title></head>
<body style="margin:0;padding:24px;background:#f4f5f7;font-family:Arial,Helvetica,sans-serif">
<div style="max-width:560px;margin:0 auto;padding:32px;background:#fff;border-radius:8px;\
color:#1d2733;font-size:16px;line-height:1.5">
<h1 style="margin:0 0 16px;font-size:20px;line-height:1.3">{{ subject }}</h1>
{% for line in lines %}<p style="margin:0 0 16px">{{ line }}</p>
{% endfor %}{% if url %}<p style="margin:24px 0 0"><a href="{{ url }}" \
style="display:inline-block;padding:12px 20px;background:#0b5cad;color:#fff;border-radius:6px;\
text-decoration:none">{{ link }}</a></p>
{% endif %}</div></body></html>
"""

_MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
}


def _next_month(period: str) -> date:
    first = date.fromisoformat(period)
    return date(first.year + first.month // 12, first.month % 12 + 1, 1)


def _number(value: int, language: str) -> str:
    return f"{value:,}".replace(",", "." if language == "de" else ",")


def _day(day: date, language: str) -> str:
    month = _MONTHS[language].split()[day.month - 1]
    return (
        f"{day.day}. {month} {day.year}" if language == "de" else f"{month} {day.day}, {day.year}"
    )


def _environment(language: str, *, escaped: bool) -> Environment:
    environment = Environment(autoescape=escaped, undefined=StrictUndefined)  # noqa: S701  # a plain-text part is not HTML
    environment.filters["number"] = lambda value: _number(value, language)
    environment.filters["day"] = lambda value: _day(value, language)
    return environment


def render(notice: Notice, *, sender: str, url: str | None) -> EmailMessage:
    """Return a notice as a mail with a plain and an HTML part."""
    letter = LETTERS[notice.kind, notice.language]
    facts = dict(notice.payload)
    if "period" in facts:
        facts["resumes"] = _next_month(facts["period"])
    plain = _environment(notice.language, escaped=False)
    rich = _environment(notice.language, escaped=True)
    subject = " ".join(plain.from_string(letter.subject).render(facts).split())[:SUBJECT_MAX]
    lines = [plain.from_string(line).render(facts) for line in letter.lines]
    text = [*(line for line in lines if line), *([f"{letter.link}: {url}"] if url else [])]
    html = rich.from_string(_HTML).render(
        language=notice.language,
        subject=subject,
        lines=[Markup(line) for line in _rich_lines(rich, letter.lines, facts)],  # noqa: S704  # rendered escaped
        link=letter.link,
        url=url,
    )
    return _message(notice, sender, subject, "\n\n".join(text) + "\n", html)


def _rich_lines(rich: Environment, lines: tuple[str, ...], facts: dict[str, object]) -> list[str]:
    rendered = (rich.from_string(line).render(facts) for line in lines)
    return [line for line in rendered if line]


def _message(notice: Notice, sender: str, subject: str, text: str, html: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = f"contactsync <{sender}>"
    message["To"] = notice.recipient
    message["Subject"] = subject
    message["Date"] = format_datetime(notice.created_at)
    message["Message-ID"] = f"<{notice.id}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's out-of-office answers.
    message["X-Contactsync-Kind"] = notice.kind
    message.set_content(text)
    message.add_alternative(html, subtype="html")
    message.set_boundary(f"={notice.id.hex}")
    # Last: what begins with Content- moves into the first part when a message gets a second one.
    message["Content-Language"] = notice.language
    return message
