"""Seeded people: contacts as an address book of the whole world holds them, some unusable.

The same count, seed and share give the same people, on any machine. Names are of many alphabets;
no e-mail address and no phone number occurs twice within a seed; addresses are of the domains that
RFC 2606 keeps for examples.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle


class Invalid(StrEnum):
    """Why a person is no use to a mailing: on purpose, and known to the test."""

    NO_EMAIL = "no_email"
    MALFORMED_EMAIL = "malformed_email"
    SHORT_PHONE = "short_phone"


@dataclass(frozen=True, slots=True)
class Person:
    first_name: str
    last_name: str
    email: str | None
    phone: str | None  # E.164 for most, German national notation for some.
    company: str
    city: str
    country: str  # ISO 3166-1 alpha-2.
    birthday: str  # YYYY-MM-DD.
    invalid: Invalid | None


@dataclass(frozen=True, slots=True)
class _Alphabet:
    first_names: Sequence[str]
    last_names: Sequence[str]
    city: str
    country: str
    calling_code: str  # With the first digits of a mobile number of that country.


ALPHABETS = (
    _Alphabet(("Anna", "Max", "Jörg", "Käthe"), ("Müller", "Groß", "Weiß"), "Köln", "DE", "+49151"),
    _Alphabet(
        ("Ada", "Grace", "Alan"), ("Lovelace", "O'Brien", "Smith-Jones"), "Leeds", "GB", "+447"
    ),
    _Alphabet(("Łukasz", "Żaneta", "Stanisław"), ("Wójcik", "Dąbrowska"), "Łódź", "PL", "+4860"),
    _Alphabet(("José", "Núria", "Iñaki"), ("García Lorca", "Muñoz"), "A Coruña", "ES", "+346"),
    _Alphabet(("Ågot", "Søren", "Þóra"), ("Østergård", "Bjørnsdóttir"), "Tromsø", "NO", "+474"),
    _Alphabet(("Nguyễn", "Phạm"), ("Thị Hồng Ánh", "Văn Đức"), "Đà Nẵng", "VN", "+8490"),
    _Alphabet(("Олена", "Сергій", "Юлія"), ("Шевченко", "Кличко"), "Київ", "UA", "+38050"),
    _Alphabet(("Αθηνά", "Γιώργος"), ("Παπαδόπουλος", "Νικολάου"), "Θεσσαλονίκη", "GR", "+3069"),
    _Alphabet(("محمد", "فاطمة"), ("الحسن", "عبد الله"), "القاهرة", "EG", "+2010"),
    _Alphabet(("נועה", "דוד"), ("כהן", "לוי"), "תל אביב", "IL", "+97250"),
    _Alphabet(("伟", "秀英"), ("王", "李"), "上海", "CN", "+86138"),
    _Alphabet(("さくら", "健太"), ("髙橋", "渡邊"), "東京", "JP", "+8190"),
    _Alphabet(("สมชาย", "มาลี"), ("ศรีสุข", "ใจดี"), "กรุงเทพฯ", "TH", "+668"),
    _Alphabet(("Zoë 🌻", "Sam 👩‍🚀"), ("Rivera 🎉",), "San José", "US", "+1408"),
)
DOMAINS = ("example.com", "example.org", "example.net", "mail.example.com")
COMPANIES = (
    "Analytical Engines Ltd",
    "Müller & Söhne GmbH",
    "株式会社サンプル",
    'The "Quoted" Co.',
    "",
)
MALFORMED = (
    "{local}",
    "{local}@",
    "{local}#{domain}",
    "{local}@@{domain}",
    "{local} @{domain}",
    "{local}@{domain}.",
)
PHONE_ABSENT_SHARE = 0.10
PHONE_NATIONAL_SHARE = 0.05
OLDEST_YEAR, YOUNGEST_YEAR = 1940, 2005


def people(count: int, *, seed: int = 1, invalid_share: float = 0.0) -> Iterator[Person]:
    """Yield so many people; `invalid_share` of them, rounded, in turn of each kind of `Invalid`."""
    draw = random.Random(seed)
    chosen = sorted(draw.sample(range(count), round(count * invalid_share)))
    kinds = dict(zip(chosen, cycle(Invalid), strict=False))
    for number in range(count):
        yield _person(draw, number, seed, kinds.get(number))


def _person(draw: random.Random, number: int, seed: int, invalid: Invalid | None) -> Person:
    alphabet = draw.choice(ALPHABETS)
    return Person(
        first_name=draw.choice(alphabet.first_names),
        last_name=draw.choice(alphabet.last_names),
        email=_email(draw, number, seed, invalid),
        phone=_phone(draw, alphabet, number, invalid),
        company=draw.choice(COMPANIES),
        city=alphabet.city,
        country=alphabet.country,
        birthday=_birthday(draw),
        invalid=invalid,
    )


def _email(draw: random.Random, number: int, seed: int, invalid: Invalid | None) -> str | None:
    local = f"person{draw.choice(('.', '_', '+', '-'))}{number}.s{seed}"
    domain = draw.choice(DOMAINS)
    match invalid:
        case Invalid.NO_EMAIL:
            return None
        case Invalid.MALFORMED_EMAIL:
            return draw.choice(MALFORMED).format(local=local, domain=domain)
        case _:
            return f"{local}@{domain}"


def _phone(
    draw: random.Random, alphabet: _Alphabet, number: int, invalid: Invalid | None
) -> str | None:
    dice = draw.random()
    if invalid is Invalid.SHORT_PHONE:
        return f"+4{number % 1000:03d}"
    if dice < PHONE_ABSENT_SHARE:
        return None
    if dice < PHONE_ABSENT_SHARE + PHONE_NATIONAL_SHARE:
        return f"0151 {number:08d}"
    return f"{alphabet.calling_code}{number:08d}"


def _birthday(draw: random.Random) -> str:
    year = draw.randint(OLDEST_YEAR, YOUNGEST_YEAR)
    return f"{year}-{draw.randint(1, 12):02d}-{draw.randint(1, 28):02d}"
