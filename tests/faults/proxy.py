"""A TCP proxy on loopback that a test lets go wrong: what lies between our processes and others.

Everything of one link passes here, both ways. Faults begin at once, also for connections that
stand, and end with `heal`. What a fault holds back is not lost: a black hole is a network that
delivers nothing for a while, as a half-open connection looks from both ends; only `reset` and
`torn` end connections.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from local import processes

CHUNK_BYTES = 64 << 10


@dataclass(slots=True)
class Fault:
    """What is wrong with a link; times in seconds."""

    latency_s: float = 0.0
    jitter_s: float = 0.0  # Added to the latency, up to so much, drawn anew for each chunk.
    bytes_per_s: float | None = None
    refuses: bool = False  # New connections are reset as soon as they stand.
    is_black_hole: bool = False  # Nothing gets through, either way.
    withholds_answers: bool = False  # What comes from the server does not get through.
    tears_after: int | None = None  # A connection is cut in the middle of what follows so much.


@dataclass(slots=True, eq=False)
class _Connection:
    """A client's connection and ours to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    passed: int = 0

    def reset(self) -> None:
        for writer in (self.client, self.server):
            writer.transport.abort()


@dataclass(slots=True)
class Proxy:
    """One link. Make it with `Links.before`."""

    server_port: int
    port: int = 0
    fault: Fault = field(default_factory=Fault)
    draw: random.Random = field(default_factory=random.Random)
    passed: int = 0  # Bytes, both ways: a test that slows nothing proves nothing.
    _connections: set[_Connection] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def suffer(self, fault: Fault) -> None:
        """Let a fault begin, in place of the one before."""
        self.fault = fault
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def heal(self) -> None:
        """Let everything pass again, what was held back first."""
        self.suffer(Fault())

    def reset(self) -> int:
        """Reset every connection that stands, without a farewell; return how many."""
        standing = list(self._connections)
        for connection in standing:
            connection.reset()
        return len(standing)

    @property
    def standing(self) -> int:
        """Return how many connections stand."""
        return len(self._connections)

    async def close(self) -> None:
        """End what stands."""
        self.heal()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """Carry one client's connection until either side ends it."""
        if self.fault.refuses:
            client.transport.abort()
            return
        try:
            answers, server = await asyncio.open_connection("127.0.0.1", self.server_port)
        except OSError:
            client.transport.abort()
            return
        connection = _Connection(client, server)
        self._connections.add(connection)
        pumps = [
            asyncio.create_task(self._pump(connection, reader, server, is_answer=False)),
            asyncio.create_task(self._pump(connection, answers, client, is_answer=True)),
        ]
        self._tasks.update(pumps)
        try:
            await asyncio.wait(pumps)
        finally:
            self._tasks.difference_update(pumps)
            self._connections.discard(connection)
            connection.reset()

    async def _pump(
        self,
        connection: _Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_answer: bool,
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                await self._delay(len(chunk), is_answer=is_answer)
                if self._tears(connection, len(chunk)):
                    writer.write(chunk[: max(1, len(chunk) // 2)])
                    await writer.drain()
                    break
                writer.write(chunk)
                await writer.drain()
                self.passed += len(chunk)
            else:
                # One side has said all; what the other still says may pass.
                if writer.can_write_eof():
                    writer.write_eof()
                return
        connection.reset()

    def _tears(self, connection: _Connection, size: int) -> bool:
        connection.passed += size
        after = self.fault.tears_after
        return after is not None and connection.passed > after

    async def _delay(self, size: int, *, is_answer: bool) -> None:
        while self.fault.is_black_hole or (is_answer and self.fault.withholds_answers):
            await self._changed.wait()
        fault = self.fault
        wait_s = fault.latency_s + self.draw.uniform(0.0, fault.jitter_s)
        if fault.bytes_per_s is not None:
            wait_s += size / fault.bytes_per_s
        if wait_s:
            await asyncio.sleep(wait_s)


class Links:
    """The proxies of one stack, by the name of the server behind each. Make it with `links`."""

    def __init__(self) -> None:
        self._proxies: dict[str, Proxy] = {}
        self._servers: list[asyncio.Server] = []

    def __getitem__(self, name: str) -> Proxy:
        """Return the link to a server."""
        return self._proxies[name]

    def names(self) -> list[str]:
        """Return which links there are."""
        return sorted(self._proxies)

    async def before(self, name: str, server_port: int) -> int:
        """Put a proxy before a server and return its port: a `local.stack.Link`."""
        proxy = self._proxies[name] = Proxy(server_port, port=processes.free_port())
        self._servers.append(await asyncio.start_server(proxy.accept, "127.0.0.1", proxy.port))
        return proxy.port

    def heal(self) -> None:
        """End every fault."""
        for proxy in self._proxies.values():
            proxy.heal()

    async def close(self) -> None:
        """End every link."""
        for server in self._servers:
            server.close()
        await asyncio.gather(*(proxy.close() for proxy in self._proxies.values()))


@asynccontextmanager
async def links() -> AsyncIterator[Links]:
    """Hold links for as long as the block lasts."""
    made = Links()
    try:
        yield made
    finally:
        await made.close()
