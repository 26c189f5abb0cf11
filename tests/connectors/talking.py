"""Small servers that say exactly what a test wants, and a client that may go there."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from libs.common.settings import Environment
from libs.connectors.addresses import Site
from libs.connectors.http import HttpClient
from tests.connectors.served import RecordingObserver

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
JSON = "application/json"


def response(status: int, body: bytes = b"{}", content_type: str = JSON, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} x", f"content-length: {len(body)}"]
    if content_type:
        lines.append(f"content-type: {content_type}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answering(*answers: bytes) -> tuple[list[bytes], Talk]:
    """Return a talk that reads requests and gives these answers, and what it was sent."""
    seen: list[bytes] = []
    left = list(answers)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            head = await reader.readuntil(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            seen.append(head + await reader.readexactly(length))
            writer.write(left.pop(0))
            await writer.drain()

    return seen, talk


@asynccontextmanager
async def speaking(talk: Talk) -> AsyncIterator[tuple[HttpClient, Site, RecordingObserver]]:
    """Serve one talk per connection on loopback; yield a client that may go there."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    observer = RecordingObserver()
    client = HttpClient(environment=Environment.TEST, loopback_urls={"any": url}, observe=observer)
    try:
        yield client, client.site(url, ()), observer
    finally:
        await client.aclose()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
