"""Tells Kubernetes, Prometheus and the supervisor how a process is: /live, /ready, /metrics.

`/live` says "this process is wedged, restart it": it must never ask a broker, a database or a
provider, or an outage of theirs becomes a restart storm of ours. `/ready` says "it can serve now".
Checks are plain functions that return at once: they look at what the process knows already. With
port 0 the system chooses one; `port` tells which after `start`.

    health = HealthServer(settings.health_host, settings.health_port)
    health.add_live("consumer", consumer.is_alive)
    await health.start()
"""

from collections.abc import Callable, Mapping

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from libs.common import logs, metrics

Check = Callable[[], bool]

CLOSE_S = 1.0  # A scrape that is under way may end; nothing else waits for it.

log = logs.get(__name__)


class HealthServer:
    """One small HTTP server per process. A process without checks is live and ready."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._live: dict[str, Check] = {}
        self._ready: dict[str, Check] = {}
        self._runner: web.AppRunner | None = None

    def add_live(self, name: str, check: Check) -> None:
        """Add a condition without which the process has to be restarted."""
        self._live[name] = check

    def add_ready(self, name: str, check: Check) -> None:
        """Add a condition without which the process can not serve now."""
        self._ready[name] = check

    async def start(self) -> None:
        """Listen; `port` is the real one from here on. Raises OSError if it is taken."""
        app = web.Application()
        app.router.add_get("/live", self._answer_live)
        app.router.add_get("/ready", self._answer_ready)
        app.router.add_get("/metrics", _answer_metrics)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        log.info("health_served", host=self.host, port=self.port)

    async def stop(self) -> None:
        """Stop listening; harmless if it never started."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer_live(self, _request: web.Request) -> web.Response:
        return _answer(self._live)

    async def _answer_ready(self, _request: web.Request) -> web.Response:
        return _answer(self._ready)


def _answer(checks: Mapping[str, Check]) -> web.Response:
    failing = sorted(name for name, check in checks.items() if not check())
    return web.json_response({"failing": failing}, status=503 if failing else 200)


async def _answer_metrics(_request: web.Request) -> web.Response:
    return web.Response(body=metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})
