"""The proxy does what its faults say: a fault that does nothing would prove everything."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.faults.proxy import Fault, Links, Proxy, links

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
SOON_S = 0.2  # What does not come within this does not come.


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
    writer.close()


@pytest.fixture
async def link() -> AsyncIterator[Proxy]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with links() as made:
        await made.before("echo", server.sockets[0].getsockname()[1])
        yield made["echo"]
    server.close()


Open = Callable[[], Awaitable[Ends]]


@pytest.fixture
async def opened(link: Proxy) -> AsyncIterator[Open]:
    """Return what opens a connection through the link; all are closed in the end."""
    made: list[Ends] = []

    async def one() -> Ends:
        made.append(await asyncio.open_connection("127.0.0.1", link.port))
        return made[-1]

    yield one
    for _, writer in made:
        writer.transport.abort()


async def said(ends: Ends, words: bytes) -> bytes:
    """Return what comes back."""
    ends[1].write(words)
    return await asyncio.wait_for(ends[0].readexactly(len(words)), 60)


async def comes_within(ends: Ends, seconds: float) -> bool:
    try:
        await asyncio.wait_for(ends[0].readexactly(1), seconds)
    except TimeoutError:
        return False
    return True


async def test_without_a_fault_everything_passes(link: Proxy, opened: Open) -> None:
    ends = await opened()

    assert await said(ends, b"x" * 300_000) == b"x" * 300_000
    assert link.passed >= 600_000
    assert link.standing == 1


async def test_latency_and_bandwidth_delay_both_ways(link: Proxy, opened: Open) -> None:
    ends = await opened()
    now = asyncio.get_running_loop().time
    link.suffer(Fault(latency_s=0.1, jitter_s=0.05))
    began = now()
    await said(ends, b"ping")
    slow_s = now() - began
    link.suffer(Fault(bytes_per_s=40_000))
    began = now()
    await said(ends, b"x" * 4_000)
    narrow_s = now() - began

    assert slow_s >= 0.2
    assert narrow_s >= 0.2


async def test_a_black_hole_holds_back_and_gives_everything_back(link: Proxy, opened: Open) -> None:
    ends = await opened()
    link.suffer(Fault(is_black_hole=True))
    ends[1].write(b"a")
    is_held_back = not await comes_within(ends, SOON_S)
    link.heal()

    assert is_held_back
    assert await asyncio.wait_for(ends[0].readexactly(1), 60) == b"a"


async def test_answers_alone_can_be_withheld(link: Proxy, opened: Open) -> None:
    ends = await opened()
    link.suffer(Fault(withholds_answers=True))
    before = link.passed
    ends[1].write(b"a")
    async with asyncio.timeout(60):
        while link.passed == before:  # noqa: ASYNC110  # a counter tells nobody
            await asyncio.sleep(0.01)
    is_held_back = not await comes_within(ends, SOON_S)

    assert is_held_back
    assert link.passed == before + 1  # The server has it.


async def test_what_stands_can_be_reset_and_what_comes_refused(link: Proxy, opened: Open) -> None:
    ends = await opened()
    await said(ends, b"a")
    link.suffer(Fault(refuses=True))
    assert link.reset() == 1

    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await said(ends, b"a")
    again = await opened()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await said(again, b"a")
    link.heal()
    assert await said(await opened(), b"a") == b"a"


async def test_a_frame_is_torn_in_its_middle(link: Proxy, opened: Open) -> None:
    ends = await opened()
    link.suffer(Fault(tears_after=10))
    await said(ends, b"12345")
    ends[1].write(b"1234567890")

    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(ends[0].readexactly(10), 60)


async def test_without_a_server_a_connection_is_reset() -> None:
    async with links() as made:
        assert isinstance(made, Links)
        port = await made.before("nobody", 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.transport.abort()
        assert made.names() == ["nobody"]
