"""`python -m services.config_api [bootstrap [--replace] | openapi]`: the config API.

(nothing)   serve it on API_HOST and API_PORT
bootstrap   make the operator's key, printed once as a line of JSON
openapi     print the OpenAPI document (docs/openapi.json)
"""

import argparse
import asyncio
import json
import socket
import sys
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

import uvicorn

from libs.common import database, logs
from libs.common.lifecycle import Process, run
from libs.common.secrets import KeyRing
from libs.common.settings import DatabaseSettings, Environment, SecretsSettings, read
from libs.connectors.http import HttpClient
from services.config_api import bootstrap, listening, reseal
from services.config_api.app import create_app, served
from services.config_api.keys import FailureThrottle
from services.config_api.provider_accounts import ProviderAccounts
from services.config_api.rate_limit import RateLimiter
from services.config_api.routing import Addresses, Parts
from services.config_api.settings import Settings

SERVICE = "config_api"
DATE_S = 1.0  # How often the date in answers is renewed.
BACKLOG = 2048  # Connections that wait to be accepted; uvicorn's own default.

log = logs.get(__name__)


async def serve(process: Process, settings: Settings) -> None:
    """Wire the API, and serve it until told to stop."""
    engine = database.create_engine(
        settings.database_url,
        pool_size_max=settings.database_pool_size_max,
        application_name=process.service,
    )
    http = HttpClient(environment=settings.environment, loopback_urls=settings.provider_base_urls)
    try:
        sessions = database.session_maker(engine)
        parts = _parts(process, settings, sessions, http)
        app = create_app(parts)
        server = uvicorn.Server(
            uvicorn.Config(
                served(app, body_bytes_max=settings.body_bytes_max, uploads=settings.uploads),
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                timeout_graceful_shutdown=int(settings.drain_s),
            )
        )
        process.watch("http", ready=lambda: server.started)
        arranging = process.start(listening.keep_arranged(parts, process.stop))
        await _until_stopped(server, _listen(settings), process.stop)
        await arranging  # What it stands on ends below.
    finally:
        await http.aclose()
        await engine.dispose()


def _listen(settings: Settings) -> socket.socket:
    """Take the port; raise OSError, after saying which, if somebody else has it."""
    try:
        listener = socket.create_server((settings.api_host, settings.api_port), backlog=BACKLOG)
    except OSError:
        log.exception(
            "port_refused",
            host=settings.api_host,
            port=settings.api_port,
            message="choose another API_PORT, or end what listens there",
        )
        raise
    log.info("api_served", host=settings.api_host, port=listener.getsockname()[1])
    return listener


async def _until_stopped(
    server: uvicorn.Server, listener: socket.socket, stop: asyncio.Event
) -> None:
    """Serve without uvicorn's own signal handling and its loop, which wakes ten times a second.

    Signals are the process's. What its loop does beside waiting for them is the date in answers.
    """
    config = server.config
    if not config.loaded:
        config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    if server.should_exit:
        return
    while not await server.on_tick(0):
        try:
            async with asyncio.timeout(DATE_S):
                await stop.wait()
            server.should_exit = True
        except TimeoutError:
            continue
    await server.shutdown(sockets=[listener])


def _parts(
    process: Process, settings: Settings, sessions: database.SessionMaker, http: HttpClient
) -> Parts:
    secrets = KeyRing.parse(settings.keys.reveal())
    own = urlsplit(settings.base_url)
    return Parts(
        sessions=sessions,
        secrets=secrets,
        accounts=ProviderAccounts.wired(
            settings,
            http=http,
            transactions=database.transactions_of(sessions),
            secrets=secrets,
            clock=process.clock,
        ),
        clock=process.clock,
        addresses=Addresses(
            callback_url=f"{settings.base_url}/v1/oauth/callback",
            return_origins=frozenset({f"{own.scheme}://{own.netloc}", *settings.return_origins}),
            allows_loopback=settings.environment is not Environment.PRODUCTION,
            events_url=settings.events_url,
        ),
        throttle=FailureThrottle(process.clock),
        limiter=RateLimiter(
            process.clock,
            calls=settings.rate_limit_calls,
            window_s=settings.rate_limit_window_s,
        ),
        uploads=settings.uploads,
    )


async def _bootstrap(*, replace: bool) -> str:
    settings = read(DatabaseSettings)
    engine = database.create_engine(
        settings.database_url, pool_size_max=1, application_name=f"{SERVICE}_bootstrap"
    )
    try:
        return await bootstrap.bootstrap(database.session_maker(engine), replace=replace)
    finally:
        await engine.dispose()


@dataclass(frozen=True, kw_only=True)
class ResealSettings(DatabaseSettings, SecretsSettings):
    """What `reseal` reads."""


async def _reseal() -> reseal.Resealed:
    settings = read(ResealSettings)
    engine = database.create_engine(
        settings.database_url, pool_size_max=1, application_name=f"{SERVICE}_reseal"
    )
    keys = KeyRing.parse(settings.keys.reveal())
    try:
        return await reseal.reseal(database.session_maker(engine), keys)
    finally:
        await engine.dispose()


def main() -> None:
    """Read the arguments and do as they say."""
    parser = argparse.ArgumentParser(prog="python -m services.config_api", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    making = commands.add_parser("bootstrap", help="make the operator's key")
    making.add_argument("--replace", action="store_true", help="old ones stop working")
    commands.add_parser("reseal", help="seal stored credentials under the newest of KEYS")
    commands.add_parser("openapi", help="print the OpenAPI document")
    wanted = parser.parse_args()
    if wanted.command == "openapi":
        document = create_app(None).openapi()
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    elif wanted.command == "reseal":
        done = asyncio.run(_reseal())
        sys.stdout.write(json.dumps(asdict(done)) + "\n")
        sys.exit(1 if done.unreadable else 0)
    elif wanted.command == "bootstrap":
        try:
            key = asyncio.run(_bootstrap(replace=wanted.replace))
        except bootstrap.AlreadyBootstrappedError as error:
            sys.exit(f"bootstrap: {error}")
        sys.stdout.write(json.dumps({"operator": {"api_key": key}}) + "\n")
    else:
        settings = read(Settings)
        run(SERVICE, settings, lambda process: serve(process, settings))


if __name__ == "__main__":
    main()
