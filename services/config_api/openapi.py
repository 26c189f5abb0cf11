"""The API's own description (OpenAPI 3.1): what FastAPI derives, with our errors and headers.

docs/openapi.json is this, held to the code by a test.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.config_api.errors import MEDIA_TYPE
from services.config_api.pages import SIZE_MAX

DESCRIPTION = f"""\
Everything a front end needs to set up a sync, and nothing it must know beside it.

* **Errors** are `application/problem+json` (RFC 9457) with a stable `code`; `errors[]` says where
  (JSON Pointer) and what. `type` leads to an explanation.
* **Idempotency-Key** on every POST: the same key and body get the same answer for 24 hours
  (`Idempotency-Replayed: true`).
* **ETag and If-Match** on integrations and their mapping: 428 without, 412 when somebody else
  was faster.
* **Pages** by `page_size` (at most {SIZE_MAX}) and `page_token`; `Link: rel="next"` as well.
* **Limits** of our own in `RateLimit` and `RateLimit-Policy`; 429 with `Retry-After` beyond.
* A route that holds `:verb` is a POST. Ids carry a prefix; another workspace's id is 404.
"""

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457.",
    "required": ["type", "title", "status", "detail", "code", "trace_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "trace_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["code", "detail"],
                "properties": {
                    "pointer": {"type": "string", "format": "json-pointer"},
                    "parameter": {"type": "string"},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                    "rule": {"type": "string"},
                },
            },
        },
    },
    "examples": [
        {
            "type": "/v1/problems/not_ready",
            "title": "The integration is not complete",
            "status": 422,
            "detail": "The integration cannot be activated before these steps are done: opt_in.",
            "code": "not_ready",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            "errors": [
                {
                    "pointer": "/opt_in/accepted",
                    "code": "opt_in_missing",
                    "detail": "Confirm that these contacts agreed to receive e-mails from you.",
                    "rule": "W4",
                }
            ],
        }
    ],
}
_ANSWER = {
    "description": "What went wrong, where, and what to do (RFC 9457).",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Any text of the caller's, such as a UUID: the POST happens once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


def install(app: FastAPI) -> None:
    """Make `app` describe itself like this."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = describe(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend it


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of `app`."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=DESCRIPTION,
        routes=app.routes,
        openapi_version="3.1.0",
    )
    schemas = document["components"]["schemas"]
    schemas["Problem"] = _PROBLEM
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for path in document["paths"].values():
        for method, operation in path.items():
            _complete(method, operation)
    return document


def _complete(method: str, operation: dict[str, Any]) -> None:
    """Say what every route has in common."""
    operation["responses"].pop("422", None)
    operation["responses"]["default"] = _ANSWER
    if method == "post":
        operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)
    if "security" in operation:
        (scheme,) = operation["security"]
        (scope,) = scheme["ApiKey"]
        operation["description"] = f"{operation.get('description', '')}\n\nScope: `{scope}`."
