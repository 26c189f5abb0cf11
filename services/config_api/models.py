"""What all resources share: how ids, models and answers look on the wire.

Promises: a field that a request model does not know is refused (API3 of the OWASP list), times are
RFC 3339 in UTC, ids carry a prefix that says what they name, and an id that is not one of ours is
answered like one that does not exist.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, TypeVar
from uuid import UUID

from fastapi import Depends, Path
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
)
from pydantic_core import PydanticCustomError

from libs.common import ids
from libs.common.ids import Prefix
from services.config_api.errors import NotFoundError, refuse_field, refuse_parameter

T = TypeVar("T")

# PostgreSQL stores no NUL, and a control character in a name is never meant. A pattern also keeps
# out halves of surrogate pairs, which JSON can spell and UTF-8 can not.
PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
# What addresses and credentials are made of.
VISIBLE_ASCII = r"^[\x21-\x7e]+$"

Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=PRINTABLE),
]
# What a provider calls a field, a list or an object.
RemoteName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=PRINTABLE)]
# An id in a body: what it must look like is said when it is read (`body_id`).
IdText = Annotated[str, StringConstraints(max_length=100, pattern=PRINTABLE)]


def is_storable(text: str) -> bool:
    """Return whether PostgreSQL could hold a text: no NUL, and no half of a surrogate pair."""
    return "\x00" not in text and text == text.encode(errors="ignore").decode()


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        kind, words = "moment_out_of_range", "In UTC this is beyond the years 1 to 9999"
        raise PydanticCustomError(kind, words) from None


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


def _usable_secret(secret: SecretStr) -> SecretStr:
    """Return a pasted secret without the blanks around it; no provider's has others in it."""
    text = secret.get_secret_value().strip()
    if not re.fullmatch(VISIBLE_ASCII, text):
        kind, words = "not_visible_ascii", "A credential has visible ASCII characters only"
        raise PydanticCustomError(kind, words)
    return SecretStr(text)


# A credential that people paste.
Secret = Annotated[SecretStr, Field(min_length=1, max_length=4096), AfterValidator(_usable_secret)]


# Nothing is taken for a yes, or for a number, that is none: "off" is no answer.
YesOrNo = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]


class Asked(BaseModel):
    """Base of what is sent to us."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Shown(BaseModel):
    """Base of what we answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def found(row: T | None, what: str) -> T:
    """Return a row; raise NotFoundError if there is none, or it is another workspace's."""
    if row is None:
        raise NotFoundError(detail=f"There is no such {what} in this workspace.")
    return row


def _path_id(prefix: Prefix, text: str, what: str) -> UUID:
    try:
        return ids.parse(prefix, text)
    except ValueError:
        raise NotFoundError(detail=f"There is no such {what} in this workspace.") from None


def body_id(prefix: Prefix, text: str, at: str) -> UUID:
    """Return an id from the body; raise InvalidError with its pointer if it is none of ours."""
    try:
        return ids.parse(prefix, text)
    except ValueError as error:
        raise refuse_field(
            at=at, code="invalid_id", detail=f"This is not an id: {error}."
        ) from None


def parameter_id(prefix: Prefix, text: str | None, parameter: str) -> UUID | None:
    """Return an id from the query, None without; raise InvalidError if it is none of ours."""
    try:
        return None if text is None else ids.parse(prefix, text)
    except ValueError as error:
        raise refuse_parameter(
            parameter=parameter, code="invalid_id", detail=f"This is not an id: {error}."
        ) from None


def _workspace_id(workspace_id: Annotated[str, Path(examples=["ws_" + "0" * 32])]) -> UUID:
    return _path_id(Prefix.WORKSPACE, workspace_id, "workspace")


def _key_id(key_id: Annotated[str, Path(examples=["key_" + "0" * 32])]) -> UUID:
    return _path_id(Prefix.API_KEY, key_id, "API key")


def _connection_id(connection_id: Annotated[str, Path(examples=["con_" + "0" * 32])]) -> UUID:
    return _path_id(Prefix.CONNECTION, connection_id, "connection")


def _integration_id(integration_id: Annotated[str, Path(examples=["int_" + "0" * 32])]) -> UUID:
    return _path_id(Prefix.INTEGRATION, integration_id, "integration")


def _run_id(run_id: Annotated[str, Path(examples=["run_" + "0" * 32])]) -> UUID:
    return _path_id(Prefix.RUN, run_id, "run")


def _user_id(user_id: Annotated[str, Path(examples=["usr_" + "0" * 32])]) -> UUID:
    return _path_id(Prefix.USER, user_id, "user")


def _quota_request_id(request_id: Annotated[str, Path(examples=["req_" + "0" * 32])]) -> UUID:
    return _path_id(Prefix.QUOTA_REQUEST, request_id, "quota request")


def _import_id(import_id: Annotated[str, Path(examples=["imp_" + "0" * 32])]) -> UUID:
    return _path_id(Prefix.IMPORT, import_id, "import")


WorkspaceId = Annotated[UUID, Depends(_workspace_id)]
KeyId = Annotated[UUID, Depends(_key_id)]
ConnectionId = Annotated[UUID, Depends(_connection_id)]
IntegrationId = Annotated[UUID, Depends(_integration_id)]
RunId = Annotated[UUID, Depends(_run_id)]
UserId = Annotated[UUID, Depends(_user_id)]
QuotaRequestId = Annotated[UUID, Depends(_quota_request_id)]
ImportId = Annotated[UUID, Depends(_import_id)]
