"""Puts the API together: routes, errors, limits and its OpenAPI document.

`create_app` takes everything it stands on, so that a test gives it what it likes; without parts
the application can only describe itself (`python -m services.config_api openapi`).
"""

from fastapi import FastAPI
from starlette.types import ASGIApp

from services.config_api import errors, openapi
from services.config_api.edge import Edge
from services.config_api.routes import (
    api_keys,
    audit_events,
    connections,
    imports,
    integrations,
    notices,
    oauth,
    problems,
    provider_events,
    providers,
    quota,
    quota_ledger,
    quota_requests,
    reconciliations,
    runs,
    users,
    workspaces,
)
from services.config_api.routing import Parts, UploadBounds

ROUTERS = (
    workspaces.router,
    users.operator_router,
    api_keys.router,
    providers.router,
    connections.router,
    connections.provider_router,
    oauth.router,
    provider_events.router,
    imports.router,
    imports.provider_router,
    imports.upload_router,
    integrations.router,
    integrations.provider_router,
    runs.router,
    quota.router,
    users.router,
    notices.router,
    quota_requests.router,
    quota_ledger.router,
    quota_ledger.export_router,
    reconciliations.router,
    audit_events.router,
    problems.router,
)


def create_app(parts: Parts | None) -> FastAPI:
    """Return the application; a request needs `parts`."""
    app = FastAPI(
        title="contactsync configuration API",
        version="1",
        summary="Connect accounts, map fields, start syncs and see what became of each contact.",
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        docs_url="/docs",
        redirect_slashes=False,  # An address that is not one of ours is 404, whoever is in front.
    )
    app.state.parts = parts
    errors.install(app)
    for router in ROUTERS:
        app.include_router(router)
    openapi.install(app)
    return app


def served(app: FastAPI, *, body_bytes_max: int, uploads: UploadBounds | None = None) -> ASGIApp:
    """Return what a server runs: the application inside its edge."""
    larger = {imports.PATH: (uploads or UploadBounds()).bytes_max}
    return Edge(app, body_bytes_max=body_bytes_max, larger=larger)
