"""A contact as requests write it and as answers show it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid5

from sandbox.constant_contact.contacts import CORE, NAMESPACE, UNSUBSCRIBED, Address, Contact
from sandbox.constant_contact.errors import invalid, not_found
from sandbox.constant_contact.lists import MEMBERSHIPS_MAX
from sandbox.constant_contact.moments import day, written
from sandbox.constant_contact.state import Customer

INCLUDES = (
    *("custom_fields", "list_memberships", "phone_numbers", "street_addresses"),
    *("taggings", "notes"),
)
EMAIL_CHARACTERS_MAX = 80
CORE_CHARACTERS_MAX = 50
VALUE_CHARACTERS_MAX = 255
PHONE_CHARACTERS_MAX = 25
PHONES_MAX = ADDRESSES_MAX = 3
CUSTOM_FIELDS_MAX = 25
PHONE_KINDS = ("home", "work", "mobile", "other")
ADDRESS_KINDS = ("home", "work", "other")
ADDRESS_PARTS = ("street", "city", "state", "postal_code", "country")
PERMISSIONS = ("explicit", "implicit", "not_set", "pending_confirmation", "temp_hold")


def described(contact: Contact, includes: Collection[str]) -> dict[str, Any]:
    """Return a contact as GET shows it: parts only if they are asked for, empty values never."""
    told: dict[str, Any] = {"contact_id": contact.id}
    if contact.email is not None:
        told["email_address"] = _email(contact.email)
    told |= contact.core
    told |= {"create_source": "Account", "update_source": "Account"}
    told |= {"created_at": written(contact.created_s), "updated_at": written(contact.updated_s)}
    if contact.deleted_s is not None:
        told["deleted_at"] = day(contact.deleted_s)
    if contact.sms is not None:
        told["sms_channel"] = dict(contact.sms)
    parts = {
        "custom_fields": list(contact.custom_fields.values()),
        "phone_numbers": list(contact.phone_numbers),
        "street_addresses": list(contact.street_addresses),
        "list_memberships": list(contact.lists),
        "taggings": [],
        "notes": [],
    }
    return told | {name: part for name, part in parts.items() if name in includes}


def _email(email: Address) -> dict[str, Any]:
    at = written(email.created_s)
    told = {
        "address": email.address,
        "permission_to_send": email.permission,
        "created_at": at,
        "updated_at": at,
        "opt_in_source": "Account",
        "opt_in_date": at,
        "confirm_status": "off",
    }
    if email.opted_out_s is not None:
        told |= {"opt_out_source": "Contact", "opt_out_date": written(email.opted_out_s)}
    return told


def written_over(account: Customer, contact: Contact, body: Mapping[str, Any]) -> Contact:
    """Return a contact after a PUT: core values replaced, parts only if they are there.

    It comes back to life if it was deleted. Raises the 400 of what cannot be taken.
    """
    problems = [*_core_problems(body), *_part_problems(account, body)]
    if problems:
        raise invalid(", ".join(problems))
    now_s = account.now_s
    core = {name: body[name] for name in CORE if body.get(name) not in (None, "")}
    changed = replace(contact, core=core, updated_s=now_s, deleted_s=None)
    if "email_address" in body:
        email = body["email_address"]
        written_as = None if email is None else _address(contact.email, email, now_s)
        changed = replace(changed, email=written_as)
    return with_parts(account, changed, body)


def with_parts(account: Customer, contact: Contact, body: Mapping[str, Any]) -> Contact:
    """Return a contact with the parts that a body has, the others as they were."""
    now = written(account.now_s)
    stamps = {"created_at": now, "updated_at": now}
    if "phone_numbers" in body:
        phones = (
            {"phone_number_id": _part_id(contact, "phone", number), **each, **stamps}
            for number, each in enumerate(body["phone_numbers"])
        )
        contact = replace(contact, phone_numbers=tuple(phones))
    if "street_addresses" in body:
        addresses = (
            {"street_address_id": _part_id(contact, "address", number), **each, **stamps}
            for number, each in enumerate(body["street_addresses"])
        )
        contact = replace(contact, street_addresses=tuple(addresses))
    if "custom_fields" in body:
        fields = {each["custom_field_id"]: dict(each) for each in body["custom_fields"]}
        contact = replace(contact, custom_fields=fields)
    if "list_memberships" in body:
        contact = replace(contact, lists=tuple(dict.fromkeys(body["list_memberships"])))
    return contact


def _part_id(contact: Contact, part: str, number: int) -> str:
    return str(uuid5(NAMESPACE, f"{contact.id}:{part}:{number}"))


def _address(before: Address | None, wanted: Mapping[str, Any], now_s: int) -> Address:
    """Return an address as written; nobody who unsubscribed is made active by it."""
    permission = wanted.get("permission_to_send") or "implicit"
    if before is not None and before.permission == UNSUBSCRIBED:
        return replace(before, address=str(wanted["address"]))
    created_s = before.created_s if before is not None else now_s
    return Address(str(wanted["address"]), permission, created_s)


def _core_problems(body: Mapping[str, Any]) -> list[str]:
    email = body.get("email_address")
    problems = []
    if not any(body.get(name) for name in ("first_name", "last_name", "email_address")):
        problems.append("one of first_name, last_name or email_address is required")
    if email is not None:
        address = email.get("address") if isinstance(email, dict) else None
        if not isinstance(address, str) or not _is_address(address):
            problems.append("email_address.address is invalid")
        elif email.get("permission_to_send", "implicit") not in PERMISSIONS:
            problems.append("email_address.permission_to_send does not have a valid value")
    for name in CORE[:4]:
        value = body.get(name)
        if value is not None and not _is_text(value, CORE_CHARACTERS_MAX):
            problems.append(f"{name} is too long")
    return problems


def _part_problems(account: Customer, body: Mapping[str, Any]) -> list[str]:
    problems = []
    for name, most in (
        ("phone_numbers", PHONES_MAX),
        ("street_addresses", ADDRESSES_MAX),
        ("custom_fields", CUSTOM_FIELDS_MAX),
        ("list_memberships", MEMBERSHIPS_MAX),
    ):
        part = body.get(name, [])
        kind = str if name == "list_memberships" else dict
        if not isinstance(part, list) or not all(isinstance(each, kind) for each in part):
            problems.append(f"{name} is invalid")
        elif len(part) > most:
            problems.append(f"{name} has more than {most} items")
    if problems:
        return problems
    return [*_phone_problems(body), *_field_problems(account, body), *_list_problems(account, body)]


def _phone_problems(body: Mapping[str, Any]) -> Sequence[str]:
    problems = []
    for each in body.get("phone_numbers", []):
        if not _is_text(each.get("phone_number"), PHONE_CHARACTERS_MAX):
            problems.append("phone_number is invalid")
        if each.get("kind", "home") not in PHONE_KINDS:
            problems.append("kind does not have a valid value")
    kinds = [each.get("kind") for each in body.get("street_addresses", [])]
    return problems + ["kind does not have a valid value"] * sum(
        kind not in ADDRESS_KINDS for kind in kinds
    )


def _field_problems(account: Customer, body: Mapping[str, Any]) -> Sequence[str]:
    return [
        "custom_field_id is invalid"
        for each in body.get("custom_fields", [])
        if each.get("custom_field_id") not in account.custom_fields.by_id
        or not ("choice_ids" in each or _is_text(each.get("value"), VALUE_CHARACTERS_MAX))
    ]


def _list_problems(account: Customer, body: Mapping[str, Any]) -> Sequence[str]:
    live = {each.id for each in account.lists.live}
    unknown = [each for each in body.get("list_memberships", []) if each not in live]
    return [f"list {each} does not exist" for each in unknown]


def _is_text(value: object, characters_max: int) -> bool:
    return isinstance(value, str) and len(value) <= characters_max


def _is_address(text: str) -> bool:
    name, _, domain = text.partition("@")
    return bool(name and "." in domain and "@" not in domain) and len(text) <= EMAIL_CHARACTERS_MAX


def found(account: Customer, contact_id: str) -> Contact:
    """Return a contact, a deleted one too; raises the 404 of one that is not there."""
    contact = account.contacts.by_id.get(contact_id)
    if contact is None:
        message = f"contact {contact_id} was not found"
        raise not_found(message)
    return contact
