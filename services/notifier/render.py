"""From a stored notice to the bytes of a mail.

Promise: the same notice renders to the same bytes each time (date, boundary and Message-ID come
from what was stored), so a mail that is sent twice after a crash is visibly one mail. Names are
escaped in HTML, and header injection is impossible: the standard library refuses line breaks, and
we fold them before. A notice that can not be rendered raises `UnrenderableError`, whatever is wrong
with it.

What templates find: the notice's payload; `resumes`, the day the next period begins; `left`, tasks
up to the limit. Their filters write numbers, days and moments as the reader's language does;
moments are UTC and say so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.header import Header
from email.headerregistry import BaseHeader, HeaderRegistry, UniqueUnstructuredHeader
from email.message import EmailMessage
from email.policy import Policy, default
from email.utils import format_datetime
from functools import cache
from typing import Any, cast
from urllib.parse import urlsplit

from jinja2 import Environment, StrictUndefined, Template, TemplateError
from markupsafe import Markup

from libs.common.forecast import next_period
from libs.common.mails import MailKind
from services.notifier.layout import HTML
from services.notifier.store import Notice
from services.notifier.words import FOOTERS, LETTERS, Letter

SUBJECT_MAX = 200
HEADER_LINE_MAX = 76  # RFC 2047, 2: a line with an encoded word.

_MONTHS = {
    "en": "January February March April May June July August September October November December",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
}

# What a notice has no word about, as those of an older version.
_UNTOLD: Mapping[str, Any] = {
    "both": False,
    "near_at": None,
    "used_up_at": None,
    "forecast": None,
    "tasks_a_day": 0,
    "still_wanted": 0,
    "words": "",
    "integrations": [],
    "integrations_more": 0,
    "integration_id": "",
}


# What a payload that is not as it should be makes Jinja, our filters or the header parser raise.
_SPOILT = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class UnrenderableError(Exception):
    """A notice that makes no mail: its kind, its language or a fact is not what it should be."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a reader sees of a mail."""

    subject: str
    text: str
    html: str


def render(notice: Notice, *, sender: str, url: str | None) -> EmailMessage:
    """Return a notice as a mail with a plain and an HTML part; raise UnrenderableError."""
    try:
        return _message(notice, sender, rendered(notice, url=url))
    except _SPOILT as error:
        raise UnrenderableError(type(error).__name__) from error


def rendered(notice: Notice, *, url: str | None) -> Rendered:
    """Return the words of a notice; without a console's `url` it has no link."""
    kind = MailKind(notice.kind)
    letter = LETTERS[kind, notice.language]
    facts = _facts(notice)
    plain = _writer(notice.language, facts, escaped=False)
    rich = _writer(notice.language, facts, escaped=True)
    link = None if url is None else _placed(url, plain(letter.place))
    footer = "" if kind.is_operators else FOOTERS[notice.language]
    subject = " ".join(plain(letter.subject).split())[:SUBJECT_MAX]
    html = _compiled(HTML, notice.language, escaped=True).render(
        language=notice.language,
        subject=subject,
        lines=_said(rich, letter.lines),
        facts=_told(rich, letter),
        filled=min(100, 100 * facts["used"] // facts["limit"]) if facts.get("limit") else None,
        link=letter.link,
        url=link,
        footer=rich(footer),
    )
    return Rendered(subject, _text(plain, letter, link, plain(footer)), html)


def _facts(notice: Notice) -> dict[str, Any]:
    facts = {**_UNTOLD, "at": notice.created_at.isoformat(), **notice.payload}
    facts["at"] = facts["at"] or notice.created_at.isoformat()
    if "period" in facts:
        facts["resumes"] = next_period(date.fromisoformat(facts["period"]))
    if "limit" in facts:
        facts["left"] = max(facts["limit"] - facts["used"], 0)
    return facts


def _text(plain: Callable[[str], str], letter: Letter, link: str | None, footer: str) -> str:
    lead, *rest = _said(plain, letter.lines)
    told = "\n".join(f"{label}: {value}" for label, value in _told(plain, letter))
    linked = "" if link is None else f"{letter.link}: {link}"
    signed = f"-- \n{footer}" if footer else ""
    return "\n\n".join(part for part in (lead, told, *rest, linked, signed) if part) + "\n"


def _said(write: Callable[[str], str], lines: tuple[str, ...]) -> list[str]:
    return [line for line in map(write, lines) if line]


def _told(write: Callable[[str], str], letter: Letter) -> list[tuple[str, str]]:
    return [(label, value) for label, line in letter.facts if (value := write(line))]


def _placed(url: str, place: str) -> str:
    """Return the console's address of a place; one with a fragment of its own stays as it is."""
    parts = urlsplit(url)
    if parts.fragment:
        return url
    return parts._replace(path=parts.path or "/", fragment=place).geturl()


def _writer(
    language: str, facts: Mapping[str, Any], *, escaped: bool
) -> Callable[[str], str | Markup]:
    def write(template: str) -> str | Markup:
        text = _compiled(template, language, escaped=escaped).render(facts).strip()
        return Markup(text) if escaped else text  # noqa: S704  # rendered escaped

    return write


@cache  # There are as many as words.py has sentences.
def _compiled(template: str, language: str, *, escaped: bool) -> Template:
    return _environment(language, escaped=escaped).from_string(template)


@cache
def _environment(language: str, *, escaped: bool) -> Environment:
    environment = Environment(autoescape=escaped, undefined=StrictUndefined)  # noqa: S701  # a plain-text part is not HTML
    environment.filters |= {
        "number": lambda value: number(value, language),
        "signed": lambda value: ("+" if value > 0 else "") + number(value, language),
        "share": lambda part, whole: share(part, whole, language),
        "day": lambda value: day(value, language),
        "month": lambda value: _month(date.fromisoformat(value), language),
        "moment": lambda value: moment(datetime.fromisoformat(value), language),
        "hour": lambda value: moment(datetime.fromisoformat(value).replace(minute=0), language),
    }
    return environment


def number(value: float, language: str) -> str:
    """Return a number as its readers write it: 1.234,5 in German, 1,234.5 in English."""
    digits = f"{value:,}".replace("-", "\N{MINUS SIGN}")
    return digits.translate(str.maketrans(".,", ",.")) if language == "de" else digits


def share(part: int, whole: int, language: str) -> str:
    """Return a share in per cent, to one decimal and rounded down: 99.99 is not 100 %."""
    tenths = 1000 * part // whole
    digits = number(tenths / 10 if tenths % 10 else tenths // 10, language)
    return f"{digits} %" if language == "de" else f"{digits}%"


def day(value: date, language: str) -> str:
    """Return a date in words: 1. Dezember 2026, December 1, 2026."""
    month, year = _month(value, language).split()
    return f"{value.day}. {month} {year}" if language == "de" else f"{month} {value.day}, {year}"


def moment(value: datetime, language: str) -> str:
    """Return a point in time in words, to the minute, in UTC."""
    value = value.astimezone(UTC)
    clock = f"{value:%H:%M} Uhr UTC" if language == "de" else f"{value:%H:%M} UTC"
    return f"{day(value.date(), language)}, {clock}"


def _month(value: date, language: str) -> str:
    return f"{_MONTHS[language].split()[value.month - 1]} {value.year}"


class _Subject(UniqueUnstructuredHeader):
    """A subject that reads as it was written.

    The standard library folds one by encoding a word here and a word there. What stands between
    two of them is lost, and a blank before a fold comes twice (Python 3.11). So all of it is
    encoded, blanks included, if any of it must be.
    """

    name: str  # Of BaseHeader, which the registry mixes in.

    def fold(self, *, policy: Policy) -> str:
        text = str(self)
        header = Header(
            text,
            "us-ascii" if text.isascii() else "utf-8",
            header_name=self.name,
            maxlinelen=HEADER_LINE_MAX,
        )
        return f"{self.name}: {header.encode(linesep=policy.linesep)}{policy.linesep}"


def _headers() -> HeaderRegistry:
    registry = HeaderRegistry()
    registry.map_to_type("subject", cast("type[BaseHeader]", _Subject))
    return registry


_POLICY = default.clone(header_factory=_headers())


def _message(notice: Notice, sender: str, words: Rendered) -> EmailMessage:
    message = EmailMessage(policy=_POLICY)
    message["From"] = f"contactsync <{sender}>"
    message["To"] = notice.recipient
    message["Subject"] = words.subject
    message["Date"] = format_datetime(notice.created_at)
    message["Message-ID"] = f"<{notice.id}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's out-of-office answers.
    message["X-Contactsync-Kind"] = notice.kind
    message.set_content(words.text)
    message.add_alternative(words.html, subtype="html")
    message.set_boundary(f"={notice.id.hex}")
    # Last: what begins with Content- moves into the first part when a message gets a second one.
    message["Content-Language"] = notice.language
    return message
