"""Put contacts on lists and take them off: each whose lists change is changed by it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sandbox.constant_contact.state import Customer


def join(account: Customer, contact_ids: Iterable[str], list_ids: Sequence[str]) -> list[str]:
    """Put contacts on lists; return whose lists changed. A deleted contact comes back to life."""
    return _set(account, contact_ids, add=list_ids, remove=())


def leave(account: Customer, contact_ids: Iterable[str], list_ids: Sequence[str]) -> list[str]:
    """Take contacts off lists; return whose lists changed."""
    return _set(account, contact_ids, add=(), remove=list_ids)


def _set(
    account: Customer, contact_ids: Iterable[str], *, add: Sequence[str], remove: Sequence[str]
) -> list[str]:
    changed = []
    for contact_id in dict.fromkeys(contact_ids):
        contact = account.contacts.by_id[contact_id]
        kept = [each for each in dict.fromkeys([*contact.lists, *add]) if each not in remove]
        if tuple(kept) == contact.lists:
            continue
        deleted_s = None if add else contact.deleted_s
        account.contacts.put(
            replace(contact, lists=tuple(kept), updated_s=account.now_s, deleted_s=deleted_s)
        )
        changed.append(contact_id)
    return changed
