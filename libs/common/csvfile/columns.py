"""What columns are called, and what they mean: header names in German and English.

A meaning is only ever suggested; a person confirms it. Promises: the names of one file are unique,
printable and without what a mapping cannot name; the same header has the same names in each file.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum

NAME_CHARACTERS_MAX = 200  # As what a mapping may name (services/config_api/models.py).

# What no generated decoder can have for a name (services/mapper), and what no person can see.
_UNNAMEABLE = re.compile(r'["\\\x00-\x1f\x7f\u200b-\u200f\u2028\u2029\ufeff]')
_BLANKS = re.compile(r"\s+")
_GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss"})


class Meaning(StrEnum):
    """What a column holds, as far as its name tells."""

    ID = "id"
    EMAIL = "email"
    PHONE = "phone"
    FIRST_NAME = "first_name"
    LAST_NAME = "last_name"
    FULL_NAME = "full_name"
    SALUTATION = "salutation"
    COMPANY = "company"
    JOB_TITLE = "job_title"
    STREET = "street"
    POSTCODE = "postcode"
    CITY = "city"
    STATE = "state"
    COUNTRY = "country"
    BIRTHDAY = "birthday"
    LANGUAGE = "language"
    WEBSITE = "website"


# Folded as `fold` does. Of several columns that mean the same, the name that stands first wins.
_NAMES: Mapping[Meaning, str] = {
    Meaning.ID: """id contactid customerid customernumber customerno memberid externalid userid
        extid kontaktid kontaktnummer kundennummer kundennr kundenid mitgliedsnummer mitgliedsnr
        nummer""",
    Meaning.EMAIL: """email emailaddress mail mailaddress primaryemail workemail businessemail
        emailadresse mailadresse epost epostadresse email1 email1value privatemail
        geschaeftlichemail emailgeschaeftlich emailprivat""",
    Meaning.PHONE: """sms phone mobile mobilephone mobilenumber cell cellphone phonenumber telephone
        tel whatsapp phone1value handy handynummer mobil mobilnummer mobiltelefon telefon
        telefonnummer telefonnr rufnummer telefonmobil telefongeschaeftlich""",
    Meaning.FIRST_NAME: "firstname givenname forename first vorname rufname",
    Meaning.LAST_NAME: "lastname surname familyname last nachname familienname zuname",
    Meaning.FULL_NAME: "name fullname displayname contactname vollstaendigername kontaktname",
    Meaning.SALUTATION: "salutation title prefix anrede titel",
    Meaning.COMPANY: """company companyname organization organisation organizationname account
        accountname firma firmenname unternehmen betrieb""",
    Meaning.JOB_TITLE: "jobtitle job position role beruf funktion berufsbezeichnung",
    Meaning.STREET: "street streetaddress address address1 addressline1 strasse adresse anschrift",
    Meaning.POSTCODE: "zip zipcode postcode postalcode plz postleitzahl",
    Meaning.CITY: "city town ort stadt wohnort",
    Meaning.STATE: "state province region county bundesland kanton",
    Meaning.COUNTRY: "country land staat",
    Meaning.BIRTHDAY: "birthday birthdate dateofbirth dob geburtstag geburtsdatum gebdatum",
    Meaning.LANGUAGE: "language locale lang sprache",
    Meaning.WEBSITE: "website url web homepage webseite internetseite",
}
_MEANINGS = {name: meaning for meaning, names in _NAMES.items() for name in names.split()}


def fold(name: str) -> str:
    """Return what names have in common that mean the same word: `E-Mail`, `e_mail`, `EMAIL`."""
    plain = unicodedata.normalize("NFKC", name).casefold().translate(_GERMAN)
    letters = unicodedata.normalize("NFKD", plain)
    return "".join(each for each in letters if each.isalnum())


def meaning_of(name: str) -> Meaning | None:
    """Return what a column of this name holds; None if its name does not tell."""
    return _MEANINGS.get(fold(name))


def clean(name: str) -> str:
    """Return a header cell as a name that a mapping can use; blank if nothing of it is left."""
    visible = _UNNAMEABLE.sub(" ", name)
    return _BLANKS.sub(" ", visible).strip()[:NAME_CHARACTERS_MAX].strip()


def numbered(count: int) -> tuple[str, ...]:
    """Return the names of the columns of a file that has no header."""
    return tuple(f"column {number}" for number in range(1, count + 1))


def by_meaning(names: Iterable[str]) -> dict[Meaning, str]:
    """Return for each meaning the column that has it."""
    ranks = {name: rank for rank, name in enumerate(_MEANINGS)}
    found: dict[Meaning, str] = {}
    for name in sorted(names, key=lambda each: ranks.get(fold(each), len(ranks))):
        if (meaning := meaning_of(name)) is not None:
            found.setdefault(meaning, name)
    return found


def pairs(
    names: Sequence[str], attributes: Mapping[str, Meaning | None]
) -> Iterator[tuple[str, str]]:
    """Yield which column an attribute is likely to be filled from: by its name, else by meaning.

    `attributes` are a destination's by name, with what is known of each already. No column is
    suggested twice.
    """
    folded = {fold(name): name for name in reversed(names)}
    meant = by_meaning(names)
    used: set[str] = set()
    for attribute, known in attributes.items():
        meaning = known or meaning_of(attribute)
        column = folded.get(fold(attribute)) if known is None else None
        if column is None and meaning is not None:
            column = meant.get(meaning)
        if column is not None and column not in used:
            used.add(column)
            yield column, attribute
