"""ETag and If-Match: nobody overwrites a change that he has not seen (RFC 9110, 13.1.1)."""

from typing import Annotated

from fastapi import Depends, Header

from services.config_api.errors import PreconditionRequiredError, StaleError

ANY = "*"


def etag(version: int) -> str:
    """Return the strong ETag of a version."""
    return f'"{version}"'


def _demand(
    if_match: Annotated[
        str | None, Header(description="The ETag of what was read (RFC 9110, 13.1.1).")
    ] = None,
) -> str:
    if not if_match:
        raise PreconditionRequiredError(detail="This change needs If-Match.")
    return if_match


# A header parameter, so that it stands in the OpenAPI document; required by us, not by the model,
# because its absence is 428 and not 422.
IfMatch = Annotated[str, Depends(_demand)]


# Where a change may be made unseen as well: a pause, a deletion.
MaybeMatch = Annotated[str | None, Header(alias="If-Match")]


def check(if_match: str, version: int) -> None:
    """Raise StaleError unless one of the tags is that of the present version."""
    tags = {tag.strip() for tag in if_match.split(",")}
    if ANY not in tags and etag(version) not in tags:
        raise StaleError(detail="If-Match names another version than the present one.")
