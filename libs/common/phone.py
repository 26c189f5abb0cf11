"""Turn phone numbers into E.164: a plus sign, the country's calling code, the number (S8).

Only what a table of calling codes and trunk prefixes can say: whether a number is in service, or
even of a plausible length for its country, is nobody's business here. Promises: what comes back is
`+` and 6 to 16 digits (S8; E.164 itself allows 15); a number in E.164 comes back as it is; the same
number written with blanks, brackets, dots or digits of another script comes back the same.
"""

import re
import unicodedata
from dataclasses import dataclass

from libs.common.errors import ContactRejectedError
from libs.common.reasons import Reject

DIGITS_MIN = 6
DIGITS_MAX = 16
PREFIX_DIGITS_MAX = 4
WRITTEN_MAX = 64  # Longer than any way to write 16 digits: the rest is not worth looking at.

E164 = r"\+[1-9][0-9]{5,15}"
_INTERNATIONAL_PREFIX = "00"  # ITU-T E.123; the exceptions are in `_COUNTRIES`.

# What people put between digits: blanks, brackets, dots, slashes and every sort of dash; and the
# invisible direction marks that come with copying from right-to-left text.
_BETWEEN = re.compile(
    r"[\s().\-/\u2010-\u2015\u2212\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069]+"
)
# "+44 (0)20 7946 0018": the zero in brackets is not dialled from abroad.
_ZERO_IN_BRACKETS = re.compile(r"(?<=\d)\s*\(0\)")


@dataclass(frozen=True, slots=True)
class Country:
    """How numbers are written inside a country.

    `trunk` precedes a number that is dialled inside the country only; `trunk_digits` is how many
    digits a number with it has, where the same digits may also begin a number without.
    """

    calling_code: str
    trunk: str = "0"
    trunk_digits: int | None = None
    international: str = _INTERNATIONAL_PREFIX


# ISO 3166-1 alpha-2 and the calling code (ITU-T E.164, List of assigned country codes, 2016).
_CALLING_CODES = """
AD376 AE971 AF93 AL355 AM374 AO244 AR54 AT43 AU61 AW297 AX358 AZ994 BA387 BD880 BE32 BF226 BG359
BH973 BI257 BJ229 BL590 BN673 BO591 BQ599 BR55 BT975 BW267 BY375 BZ501 CC61 CD243 CF236 CG242 CH41
CI225 CK682 CL56 CM237 CN86 CO57 CR506 CU53 CV238 CW599 CX61 CY357 CZ420 DE49 DJ253 DK45 DZ213
EC593 EE372 EG20 EH212 ER291 ES34 ET251 FI358 FJ679 FK500 FM691 FO298 FR33 GA241 GB44 GE995 GF594
GG44 GH233 GI350 GL299 GM220 GN224 GP590 GQ240 GR30 GT502 GW245 GY592 HK852 HN504 HR385 HT509 HU36
ID62 IE353 IL972 IM44 IN91 IO246 IQ964 IR98 IS354 IT39 JE44 JO962 JP81 KE254 KG996 KH855 KI686
KM269 KP850 KR82 KW965 KZ7 LA856 LB961 LI423 LK94 LR231 LS266 LT370 LU352 LV371 LY218 MA212 MC377
MD373 ME382 MF590 MG261 MH692 MK389 ML223 MM95 MN976 MO853 MQ596 MR222 MT356 MU230 MV960 MW265 MX52
MY60 MZ258 NA264 NC687 NE227 NF672 NG234 NI505 NL31 NO47 NP977 NR674 NU683 NZ64 OM968 PA507 PE51
PF689 PG675 PH63 PK92 PL48 PM508 PS970 PT351 PW680 PY595 QA974 RE262 RO40 RS381 RU7 RW250 SA966
SB677 SC248 SD249 SE46 SG65 SH290 SI386 SJ47 SK421 SL232 SM378 SN221 SO252 SR597 SS211 ST239 SV503
SY963 SZ268 TD235 TG228 TH66 TJ992 TK690 TL670 TM993 TN216 TO676 TR90 TV688 TW886 TZ255 UA380 UG256
UY598 UZ998 VA39 VE58 VN84 VU678 WF681 WS685 XK383 YE967 YT262 ZA27 ZM260 ZW263
"""
# The North American Numbering Plan: one code, "1" before a number of ten digits, 011 to leave.
_NORTH_AMERICA = """
AG AI AS BB BM BS CA DM DO GD GU JM KN KY LC MP MS PR SX TC TT US VC VG VI
"""
# Where a leading zero belongs to the number and is dialled from abroad as well.
_ZERO_STAYS = ("BF", "BJ", "CG", "CI", "IT", "SM", "VA")


def _countries() -> dict[str, Country]:
    countries = {entry[:2]: Country(entry[2:]) for entry in _CALLING_CODES.split()}
    for code in _NORTH_AMERICA.split():
        countries[code] = Country("1", trunk="1", trunk_digits=11, international="011")
    for code in _ZERO_STAYS:
        countries[code] = Country(countries[code].calling_code, trunk="")
    for code in ("RU", "KZ"):
        countries[code] = Country("7", trunk="8", trunk_digits=11, international="810")
    countries["AU"] = Country("61", international="0011")
    countries["BY"] = Country("375", trunk="80", trunk_digits=11, international="810")
    countries["HU"] = Country("36", trunk="06")
    countries["JP"] = Country("81", international="010")
    return countries


COUNTRIES = _countries()


# Whether a number is written already as we write it: not None.
is_e164 = re.compile(E164).fullmatch


def normalise(number: str, default_country: str | None) -> str:
    """Return a number in E.164.

    `default_country` (ISO 3166-1 alpha-2) says where numbers without a calling code belong. Raises
    ContactRejectedError: invalid_phone if there are not 6 to 16 digits, or letters among them;
    phone_without_country if it is a national number and no (known) country is given.
    """
    if is_e164(number):
        return number
    digits, is_international = _digits(number)
    if is_international:
        return _international(digits)
    country = COUNTRIES.get((default_country or "").upper())
    if country is None:
        return _without_country(digits)
    if country.international != _INTERNATIONAL_PREFIX and digits.startswith(country.international):
        return _international(digits.removeprefix(country.international))
    if digits.startswith(_INTERNATIONAL_PREFIX):
        return _international(digits.removeprefix(_INTERNATIONAL_PREFIX))
    return _international(country.calling_code + _without_trunk(digits, country))


def _digits(number: str) -> tuple[str, bool]:
    """Return the ASCII digits, and whether a plus sign stood before them."""
    if len(number) > WRITTEN_MAX:
        raise ContactRejectedError(Reject.INVALID_PHONE)
    text = number if number.isascii() else unicodedata.normalize("NFKC", number)
    text = _BETWEEN.sub("", _ZERO_IN_BRACKETS.sub("", text) if "+" in text else text)
    is_international = text.startswith("+")
    written = text.removeprefix("+")
    if not written.isdecimal():
        raise ContactRejectedError(Reject.INVALID_PHONE)
    digits = written
    if not written.isascii():
        digits = "".join(str(unicodedata.decimal(character)) for character in written)
    # A prefix to leave the country may stand before the longest number.
    if not DIGITS_MIN <= len(digits) <= DIGITS_MAX + PREFIX_DIGITS_MAX:
        raise ContactRejectedError(Reject.INVALID_PHONE)
    return digits, is_international


def _international(digits: str) -> str:
    number = f"+{digits}"
    if not is_e164(number):
        raise ContactRejectedError(Reject.INVALID_PHONE)
    return number


def _without_country(digits: str) -> str:
    if digits.startswith(_INTERNATIONAL_PREFIX):
        return _international(digits.removeprefix(_INTERNATIONAL_PREFIX))
    raise ContactRejectedError(Reject.PHONE_WITHOUT_COUNTRY)


def _without_trunk(digits: str, country: Country) -> str:
    if country.trunk_digits is not None and len(digits) != country.trunk_digits:
        return digits
    return digits.removeprefix(country.trunk)
