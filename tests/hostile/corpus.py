"""Contacts as no person would write them: a seed's corpus, and what may become of each.

What is here is JSON as a source sends it, not what a library would write: lone surrogates, keys
that come twice, numbers where text is promised. Each value carries a canary, so that it is known
wherever it turns up. An oracle of its own: it reads REQUIREMENTS.md and the documented reasons.
"""

import json
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from random import Random

from local.api import Json

CANARY = "zqkanari7w"  # In every text and address of the corpus, and nowhere else.
PHONE_CANARY = "83920745"  # In every number.

NOTHING = ""  # At the destination: no value.
TEXT_MAX = 65_536  # As many characters as HubSpot holds in one property.
# What a contact may weigh when it is read, and when it is mapped: docs/operations.md.
READ_BYTES_MAX, MAPPED_BYTES_MAX = 256 * 1024, 128 * 1024

MALFORMED, TOO_LONG = "malformed", "value_too_long"
DATE, PHONE, EMAIL, VALUE = "date_format", "invalid_phone", "invalid_email", "value_not_accepted"


@dataclass(frozen=True, slots=True)
class Case:
    """One value: its JSON, what may stand at the destination, and why it may be rejected.

    Without `carried` it must be rejected, without `reasons` it must be carried.
    """

    kind: str
    raw: bytes
    carried: tuple[object, ...] = ()
    reasons: frozenset[str] = frozenset()


@dataclass(slots=True)
class Hostile:
    """A contact of the corpus; `known_as` is the id that is shown for it."""

    number: int
    properties: bytes
    cases: Mapping[str, Case]  # By attribute at the destination, EMAIL among them.
    source_id: str = ""
    known_as: str | None = None  # None: as the source itself has it.
    extra_reasons: frozenset[str] = field(default_factory=frozenset)

    @property
    def reasons(self) -> frozenset[str]:
        """Return why it may be rejected."""
        return self.extra_reasons.union(*(case.reasons for case in self.cases.values()))

    @property
    def is_carried_surely(self) -> bool:
        """Return whether nothing about it is a reason to reject it."""
        return not self.reasons

    @property
    def kinds(self) -> str:
        """Return what is strange about it, without its data."""
        return " + ".join(sorted({case.kind for case in self.cases.values()} - {"plain"}))


def corpus(count: int, *, seed: int) -> Iterator[Hostile]:
    """Yield so many contacts; the first ones meet every kind of value once."""
    random = Random(seed)
    for number in range(count):
        yield _contact(number, random)


# Where each property goes, and what makes its values.
TEXTS = {"firstname": "FIRSTNAME", "lastname": "LASTNAME", "company": "COMPANY", "city": "CITY"}


def _contact(number: int, random: Random) -> Hostile:
    pairs = {"email": _in_turn(EMAILS, number, random)(number, random)}
    for place, name in enumerate(TEXTS):
        # One in four is hostile beside plain ones; the first contacts meet each kind in turn.
        kinds = TEXT_KINDS if (number + place) % 4 == 0 else PLAIN
        pairs[name] = _in_turn(kinds, number // 4, random)(number, random)
    if number % 3 == 0:
        pairs["phone"] = _in_turn(PHONES, number // 3, random)(number, random)
    if number % 5 == 0:
        pairs["birthday"] = _in_turn(DATES, number // 5, random)(number, random)
    if number % 7 == 0:
        pairs["loyalty_points"] = _in_turn(NUMBERS, number // 7, random)(number, random)
    return _shaped(number, pairs, random)


Make = Callable[[int, Random], Case]


def _in_turn(kinds: tuple[Make, ...], place: int, random: Random) -> Make:
    return kinds[place] if place < len(kinds) else random.choice(kinds)


ATTRIBUTES = {
    **TEXTS,
    "email": "EMAIL",
    "phone": "SMS",
    "birthday": "BIRTHDAY",
    "loyalty_points": "POINTS",
}


def _shaped(number: int, pairs: Mapping[str, Case], random: Random) -> Hostile:
    """Make the JSON object of a contact: usually its pairs, sometimes anything else."""
    members = [f'"{name}":'.encode() + case.raw for name, case in pairs.items()]
    cases = {ATTRIBUTES[name]: case for name, case in pairs.items()}
    match random.randrange(40) if number >= len(SHAPES) else number:
        case 0:
            members.append(b'"unknown_%d":{"a":[1,{"b":"%s"}]}' % (number, CANARY.encode()))
        case 1:  # A key that comes twice: the last one counts, as in every reader of JSON.
            members.insert(0, b'"firstname":"first of two %s"' % CANARY.encode())
        case 2:
            random.shuffle(members)
            members = [b" \n\t" + member + b"\r\n " for member in members]
        case 3 if number < len(SHAPES) or random.random() < 0.3:
            shape = random.choice(SHAPES)
            broken = Case("no object", shape, (), frozenset({MALFORMED, "no_identity"}))
            return Hostile(number, shape, {"EMAIL": broken})
        case 4:
            members.append(b'"nested_%d":' % number + b"[" * 200 + b"]" * 200)
        case 5:  # The name of a property is anything as well.
            members.append(_json("\u202e\x1f; drop table --" + CANARY) + b":null")
    properties = b"{" + b",".join(members) + b"}"
    return Hostile(number, properties, cases, extra_reasons=_too_large(properties))


SHAPES = (b"{}", b"[]", b"7", b'"text"', b"true", b"[[{}]]", b'{"email":{}}', b'{"email":null}')


def _too_large(properties: bytes) -> frozenset[str]:
    """Return the reason for a contact that is too heavy to travel, however it is written."""
    is_large = len(properties) > MAPPED_BYTES_MAX // 2
    return frozenset({TOO_LONG}) if is_large else frozenset()


def _json(text: str) -> bytes:
    """Return a text as JSON with everything escaped that can be."""
    return json.dumps(text, ensure_ascii=True).encode()


# Texts


def _text(kind: str, value: str, *, raw: bytes | None = None) -> Case:
    if "\0" in value:
        return Case(kind, raw or _json(value), (), frozenset({MALFORMED}))
    if len(value) > TEXT_MAX:
        return Case(kind, raw or _json(value), (), frozenset({TOO_LONG}))
    blank = not value or value.isspace()
    return Case(kind, raw or _json(value), (NOTHING if blank else value,))


def _plain(number: int, random: Random) -> Case:
    return _text("plain", f"{CANARY} {random.choice(string.ascii_letters)}{number}")


def _fixed(kind: str, *texts: str) -> Make:
    def make(number: int, random: Random) -> Case:
        return _text(kind, random.choice(texts).replace("{c}", f"{CANARY}{number}"))

    return make


def _unreadable(kind: str, *raws: bytes) -> Make:
    def make(number: int, random: Random) -> Case:
        raw = random.choice(raws).replace(b"{c}", CANARY.encode())
        return Case(kind, raw, (), frozenset({MALFORMED}))

    return make


def _characters(number: int, random: Random) -> Case:
    """Make a text of any characters at all but NUL and halves of pairs."""
    points = (random.choice(_RANGES) for _ in range(random.randint(1, 40)))
    drawn = "".join(chr(random.randint(*each)) for each in points)
    text = CANARY + drawn
    raw = json.dumps(text, ensure_ascii=random.random() < 0.5).encode()
    return _text("any characters", text, raw=raw)


_RANGES = (
    *((0x01, 0x1F), (0x20, 0x7E), (0x7F, 0x9F), (0xA0, 0x24F), (0x300, 0x36F), (0x590, 0x6FF)),
    *((0x1F1E6, 0x1F1FF), (0x200B, 0x200F), (0x2028, 0x202E), (0x2066, 0x2069), (0xE000, 0xE0FF)),
    *((0xFDD0, 0xFDEF), (0xFE00, 0xFE0F), (0xFFF0, 0xFFFF), (0x1F600, 0x1F64F), (0xE0100, 0xE01EF)),
    *((0x10FFF0, 0x10FFFF), (0x3400, 0x34FF), (0xAC00, 0xACFF)),
)


def _long(number: int, random: Random) -> Case:
    # A text at its limit, one beyond, and some that no record could carry; few of each.
    length = random.choice((TEXT_MAX, TEXT_MAX + 1, TEXT_MAX, 200_000, 1_000_000))
    if number > LONG_ONES and number % 40:
        length = random.choice((255, 256, 1_024, 4_096))
    return _text("long", (CANARY + "x" * length)[:length])


LONG_ONES = 400


def _number_as_text(number: int, random: Random) -> Case:
    """Make a number or a truth value where text is promised."""
    value = random.choice((0, -1, 7, 2**53, 2**63 - 1, -(2**63), True, False, 0.5, -0.25, 1e300))
    written = json.dumps(value)
    as_text = {str(value), written, written.lower(), str(value).lower()}
    return Case("a number as text", written.encode(), tuple(as_text))


def _huge_number(number: int, random: Random) -> Case:
    raw = random.choice((b"9" * 400, b"9" * 5_000, b"1e999", b"-1e400", b"1" + b"0" * 30))
    # A reader may have it exactly, or say that it is no number it can hold.
    carried = (raw.decode(), str(float(raw))) if b"e" not in raw and len(raw) < 1_000 else ()
    return Case("a huge number", raw, carried, frozenset({MALFORMED, TOO_LONG, VALUE}))


TEXT_KINDS: tuple[Make, ...] = (
    _characters,
    _long,
    _number_as_text,
    _huge_number,
    _fixed("NUL", "{c}\0", "\0{c}", "a\0b{c}"),
    _unreadable("half of a pair", rb'"{c}\ud83d"', rb'"\ude00{c}"', rb'"\udc00\ud800{c}"'),
    _unreadable("an object as text", b'{"{c}":1}', b'["{c}"]', b"[" * 200 + b"]" * 200),
    _fixed("control characters", "{c}\x01\x02\x1b[31m", "\x1f{c}\x1e", "{c}\x7f\x80", "a\x08{c}"),
    _fixed("blanks", "", " ", "\t\n", "\u00a0\u3000\u2003", "\r\n\r\n"),
    _fixed("no blanks though unseen", "\u200b{c}", "\ufeff{c}\ufeff", "\u2060{c}", "\u180e{c}"),
    _fixed("right to left", "\u202e{c}\u202c", "\u05d0\u05d1{c}", "\u2067{c}\u2069", "\u200f{c}"),
    _fixed("combining", "e\u0301{c}", "Z" + "\u0351\u0352\u0353" * 60 + "{c}", "\u1100\u1161{c}"),
    _fixed("emoji", "\U0001f468\u200d\U0001f469\u200d\U0001f467{c}", "\U0001f1e9\U0001f1ea{c}"),
    _fixed("a formula", "=cmd|' /C calc'!A0{c}", "+{c}", "-2+3{c}", "@SUM(1){c}", '=LINK("x/{c}")'),
    _fixed("SQL", "'; drop table links; --{c}", "' or 1=1 --{c}", "$1{c}", "{c}$$", "\\'{c}"),
    _fixed("a line of log", '{c}\n{"event":"forged","level":"error"}', "{c}\r\n2026-01-01 ERROR"),
    _fixed("a header", "{c}\r\nBcc: all@example.com\r\n\r\nBody", "Subject: {c}\nX: y"),
    _fixed("a template", "{{7*7}}{c}", "${jndi:ldap://x/{c}}", "%s%n%x{c}", "{0}{c}", "%00{c}"),
    _fixed("HTML", "<script>alert('{c}')</script>", "<img src=x onerror=a()>{c}", "&amp;{c}&#0;"),
    _fixed("a path", "../../etc/passwd{c}", "C:\\Windows\\{c}", "file:///{c}", "/a/{c}?a=b&c=d#e"),
    _fixed("words for nothing", "null {c}", "undefined{c}", "None {c}", "NaN {c}", "nil{c}"),
    _fixed("a number in text", "00123 {c}", "1e309{c}", "0x1F{c}", "1_000{c}", "+0{c}", "١٢٣{c}"),
    _fixed("JSON in text", '{"{c}":' + "[" * 500 + "]" * 500 + "}", "\\u0000{c}", "\\ud800"),
    _fixed("separators", "{c};a;b", "{c},\"a\",'b'", "{c}|a", "{c}\u2028a\u2029b", "a\x1fb{c}\x1e"),
)  # fmt: skip
PLAIN: tuple[Make, ...] = (_plain,)


# Addresses


def _email(
    kind: str, template: str, *, carried: bool = True, may_be_rejected: bool = False
) -> Make:
    def make(number: int, random: Random) -> Case:
        address = template.replace("{c}", f"{CANARY}{number}")
        reasons = frozenset({EMAIL, VALUE} if may_be_rejected or not carried else set())
        return Case(kind, _json(address), (address.strip().lower(),) if carried else (), reasons)

    return make


def _no_email(raw: bytes, *reasons: str) -> Make:
    def make(number: int, random: Random) -> Case:
        written = raw.replace(b"{c}", f"{CANARY}{number}".encode())
        return Case("no address", written, (), frozenset(reasons))

    return make


_PLAIN_EMAIL = _email("plain", "{c}@example.com")
EMAILS: tuple[Make, ...] = (
    *[_PLAIN_EMAIL] * 40,
    _email("odd address", "{c}!#$%&'*+/=?^_`{|}~-@example.com"),
    _email("odd address", "{c}+tag@Sub.Example.COM"),
    _email("odd address", "  {c}.blanks@example.com\t\r\n"),
    _email("odd address", "UPPER.{c}@EXAMPLE.ORG"),
    _email("odd address", "{c}@" + "a" * 63 + ".example.com"),
    _email("odd address", "{c}@xn--bcher-kva.example", may_be_rejected=True),
    _email("international", "{c}@bücher.example", may_be_rejected=True),
    _email("international", "{c}ö@example.com", may_be_rejected=True),
    _email("international", "{c}\u202e@example.com", carried=False),
    _email("quoted", '"{c} quoted"@example.com', may_be_rejected=True),
    _email("literal", "{c}@[127.0.0.1]", carried=False),
    _email("literal", "{c}@[IPv6:::1]", carried=False),
    _email("no address", "{c}", carried=False),
    _email("no address", "{c}@", carried=False),
    _email("no address", "@{c}.example.com", carried=False),
    _email("no address", "{c}@@example.com", carried=False),
    _email("no address", "{c}@localhost", carried=False),
    _email("no address", "{c}..a@example.com", carried=False),
    _email("no address", ".{c}@example.com", carried=False),
    _email("no address", "{c}@-example.com", carried=False),
    _email("no address", "{c}@example..com", carried=False),
    _email("no address", "{c}@exam ple.com", carried=False),
    _email("no address", "{c}@example.com, b@example.com", carried=False),
    _email("no address", "{c}@example.com>\r\nBcc: all@example.com", carried=False),
    _email("no address", "{c}\x1f@example.com", carried=False),
    _email("no address", "mailto:{c}@example.com?subject=x", carried=False),
    _email("no address", "Ada <{c}@example.com>", carried=False),
    _email("long address", "{c}" + "a" * 64 + "@example.com", carried=False),
    _email("long address", "{c}@" + ".".join(["b" * 60] * 5) + ".com", carried=False),
    _email("long address", "{c}@" + "b." * 40_000 + "com", carried=False),
    _no_email(b'"{c}\\u0000@example.com"', MALFORMED, EMAIL),
    _no_email(b'"{c}\\ud800@example.com"', MALFORMED, EMAIL),
    _no_email(b'""', "no_identity"),
    _no_email(b'" \\t "', "no_identity"),
    _no_email(b"null", "no_identity"),
    _no_email(b"17", EMAIL),
    _no_email(b"true", EMAIL),
    _no_email(b'["{c}@example.com"]', MALFORMED),
    _no_email(b'{"value":"{c}@example.com"}', MALFORMED),
)  # fmt: skip


# Numbers to call


def _phone(template: str, carried: str | None, *, may_be_rejected: bool = False) -> Make:
    def make(number: int, random: Random) -> Case:
        digits = f"{PHONE_CANARY}{number:05}"
        raw = _json(template.replace("{d}", digits))
        reasons = frozenset({PHONE, MALFORMED} if carried is None or may_be_rejected else set())
        stands = () if carried is None else (carried.replace("{d}", digits),)
        return Case("a phone", raw, stands, reasons)

    return make


PHONES: tuple[Make, ...] = (
    _phone("+49{d}", "49{d}"),
    _phone("0{d}", "49{d}"),
    _phone("0049 {d}", "49{d}"),
    _phone("\u202a+49\u00a0{d}\u202c", "49{d}"),
    _phone("+49 (0) {d}", "49{d}"),
    _phone("\uff0b49{d}", "49{d}", may_be_rejected=True),
    _phone("+49{d}\0", None),  # As malformed, like every NUL.
    _phone("tel:+49{d}", None),
    _phone("+49{d}x7", None),
    _phone("+49{d};ext=7", None),
    _phone("+49{d}123456789", None),
    _phone("+4912", None),
    _phone("=+49{d}", None),
    _phone("+49{d}\r\nBcc: all@example.com", None),
    _phone("++49{d}", None),
    _phone("+0{d}", None),
    _phone("\u0664\u0669", None),
    _phone("+49{d}" + " " * 2_000, "49{d}", may_be_rejected=True),
    _phone("-1", None),
    _phone("1e15", None),
    _phone("NaN", None),
)


# Days and numbers


def _day(raw: str, carried: str | None) -> Make:
    return lambda number, random: Case(
        "a day",
        _json(raw),
        () if carried is None else (carried,),
        frozenset({DATE, MALFORMED} if carried is None else set()),
    )


def _any_day(number: int, random: Random) -> Case:
    day = date.fromordinal(random.randint(1, date.max.toordinal())).isoformat()
    return Case("a day", _json(day), (day,))


DATES: tuple[Make, ...] = (
    _any_day,
    _day("0001-01-01", "0001-01-01"),
    _day("9999-12-31", "9999-12-31"),
    _day("2024-02-29T23:59:59.999Z", "2024-02-29"),
    _day("2024-02-30", None),
    _day("2023-02-29", None),
    _day("0000-00-00", None),
    _day("10000-01-01", None),
    _day("-0001-01-01", None),
    _day("9999-12-31T23:59:59-23:59", None),
    _day("0001-01-01T00:00:00+23:59", None),
    _day("99999999999999", "5138-11-16"),  # HubSpot's older form: milliseconds.
    _day("999999999999999", None),
    _day("1e30", None),
    _day("today", None),
    _day("2024-01-01\0", None),
    _day("2024-01-01'; drop table x", None),
    _day("\uff12\uff10\uff12\uff14-01-01", None),
    _day("", NOTHING),
)


def _amount(raw: bytes, *carried: float, may_be_rejected: bool = False) -> Make:
    reasons = frozenset({VALUE, MALFORMED} if may_be_rejected or not carried else set())
    return lambda number, random: Case("an amount", raw, carried, reasons)


NUMBERS: tuple[Make, ...] = (
    _amount(b'"12"', 12),
    _amount(b'" 12.5 "', 12.5),
    _amount(b"12", 12),
    _amount(b"-0.0", 0),
    _amount(b'"1e3"', 1000),
    _amount(b'"9007199254740993"', 9007199254740992, 9007199254740993, may_be_rejected=True),
    _amount(b'"1e308"', 1e308),
    _amount(b'"1e309"'),
    _amount(b"1e309"),
    _amount(b'"NaN"'),
    _amount(b'"-Infinity"'),
    _amount(b'"0x10"'),
    _amount(b'"12,5"'),
    _amount(b'"=1+1"'),
    _amount(b'"1_000"'),
    _amount(b'"\\u0000"'),
    _amount(b"true"),
    _amount(b'"' + b"9" * 5_000 + b'"'),
    _amount(b'"one"'),
    _amount(b"{}"),
)


# What became of them


def judge(contact: Hostile, there: Json | None, reason: str | None) -> list[str]:
    """Return what is wrong with how a contact ended: empty if it is unharmed, or rejected rightly.

    `there` is the destination's contact at its address; `reason` is why the API says that it was
    rejected. Nothing that is returned holds contact data.
    """
    name = f"contact {contact.number} ({contact.kinds})"
    if there is None:
        if reason is None:
            return [f"{name} is neither at the destination nor rejected"]
        is_known = reason in contact.reasons
        return [] if is_known else [f"{name} is rejected for {reason}, not {contact.reasons}"]
    if reason is not None:
        return [f"{name} is at the destination, and rejected for {reason}"]
    attributes = {"EMAIL": there["email"], **there["attributes"]}
    return [
        f"{name}: {attribute} is not what was sent ({case.kind})"
        for attribute, case in contact.cases.items()
        if not any(_equal(each, attributes.get(attribute, NOTHING)) for each in case.carried)
    ]


def _equal(wanted: object, there: object) -> bool:
    if isinstance(wanted, float | int) and isinstance(there, float | int):
        return float(wanted) == float(there)
    return type(wanted) is type(there) and wanted == there
