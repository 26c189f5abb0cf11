"""Where each part of the API lives in the generations that HubSpot serves side by side."""

DATES = ("2026-03", "2026-09")


def objects(rest: str = "") -> list[str]:
    """Return the paths of the objects API of contacts, and of what may be another object type."""
    return [
        path
        for kind in ("contacts", "{object_type}")
        for path in (
            f"/crm/v3/objects/{kind}{rest}",
            *(f"/crm/objects/{date}/{kind}{rest}" for date in DATES),
        )
    ]


def lists(rest: str = "") -> list[str]:
    return [f"/crm/v3/lists{rest}", *(f"/crm/lists/{date}{rest}" for date in DATES)]


def properties(rest: str = "") -> list[str]:
    """Return the paths of the properties API, as for objects."""
    return [
        path
        for kind in ("contacts", "{object_type}")
        for path in (
            f"/crm/v3/properties/{kind}{rest}",
            *(f"/crm/properties/{date}/{kind}{rest}" for date in DATES),
        )
    ]


def oauth(rest: str) -> list[str]:
    """Return the paths of the OAuth API from v3 on; v1 differs."""
    return [f"/oauth/{version}{rest}" for version in ("v3", *DATES)]


def account(rest: str) -> list[str]:
    return [f"/account-info/{version}{rest}" for version in ("v3", *DATES)]


def is_contacts(object_type: str) -> bool:
    """Tell whether an object type, as a path has it, is that of contacts."""
    return object_type.lower() in {"contact", "contacts", "0-1"}
