"""What every wire and every transport has to keep: checks that any implementation runs.

Each check is an async function that gets a maker of fresh pairs, and asserts. Run all of them:

    @pytest.mark.parametrize("check", WIRE_CHECKS, ids=lambda check: check.__name__)
    async def test_contract(check):
        await check(memory_wire_pair)

They need no particular clock: nothing is waited for but what has to come, and that for at most
`DEADLINE`. Over real sockets the clock has to be the real one.

It is one long file because both contracts are lists of short checks over the same few steps.
"""

from array import array
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

import trio
from trio.testing import wait_all_tasks_blocked

from trio_rt import reasons
from trio_rt.codec.socketio import Encoded
from trio_rt.errors import TransportClosed
from trio_rt.schedule.bell import Bell
from trio_rt.transport.base import Transport
from trio_rt.transport.wire import Wire

DEADLINE = 5.0
"""Seconds that anything may take which has to come."""

CHUNK_BYTES = 10_000
"""How much is sent at once to fill a wire: no divisor of usual buffers."""

NewWires = Callable[[], tuple[Wire, Wire]]
"""Makes two connected wires with bounded buffers; the checks close them."""

# The wire


async def check_order(new_wires: NewWires) -> None:
    """Bytes arrive once and in the order in which they were sent, in both directions at once."""
    ours, theirs = new_wires()
    sent, answer = _pattern(300_000), _pattern(200_000)[::-1]
    received: dict[str, bytes] = {}

    async def gather(name: str, wire: Wire, size: int) -> None:
        received[name] = await _receive_exactly(wire, size)

    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gather, "there", theirs, len(sent))
            nursery.start_soon(gather, "back", ours, len(answer))
            nursery.start_soon(ours.send_all, sent)
            nursery.start_soon(theirs.send_all, answer)
    assert received == {"there": sent, "back": answer}
    _close(ours, theirs)


async def check_small_pieces(new_wires: NewWires) -> None:
    """Nothing is lost where what is sent is cut into single bytes."""
    ours, theirs = new_wires()
    for byte in b"one byte after the other":
        await _send(ours, bytes([byte]))
    assert await _receive(theirs, 24) == b"one byte after the other"
    _close(ours, theirs)


async def check_nothing_yet(new_wires: NewWires) -> None:
    """Without bytes there is WouldBlock, before the first and between two."""
    ours, theirs = new_wires()
    for word in (b"first", b"second"):
        _assert_nothing(theirs)
        await _send(ours, word)
        assert await _receive(theirs, len(word)) == word
        _assert_nothing(theirs)
    _close(ours, theirs)


async def check_end(new_wires: NewWires) -> None:
    """The end is `b""`, behind all bytes, and again each time one asks."""
    ours, theirs = new_wires()
    await _send(ours, b"last words")
    ours.close()
    assert await _receive(theirs, 10) == b"last words"
    assert await _receive(theirs) == b""
    assert theirs.receive_nowait() == b""
    _close(theirs)


async def check_closed(new_wires: NewWires) -> None:
    """A closed wire raises TransportClosed, however often it is closed and used."""
    ours, theirs = new_wires()
    await _send(theirs, b"never read")
    for _ in range(2):
        ours.close()
        _assert_closed(ours.receive_nowait)
        _assert_closed(lambda: ours.send_nowait(b"x"))
        ours.send_eof()
        with trio.fail_after(DEADLINE):
            await ours.wait_writable()
    _close(theirs)


async def check_peer_gone(new_wires: NewWires) -> None:
    """Sending to a peer that has closed raises TransportClosed, at the latest after a while."""
    ours, theirs = new_wires()
    theirs.close()
    with trio.fail_after(DEADLINE), suppress(TransportClosed):
        while True:
            await ours.send_all(b"x")
            await wait_all_tasks_blocked()
    _assert_closed(lambda: ours.send_nowait(b"x"))
    _close(ours)


async def check_peer_goes_while_blocked(new_wires: NewWires) -> None:
    """Who waits to send gets TransportClosed when the peer closes."""
    ours, theirs = new_wires()
    await _fill(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_assert_raises_closed, lambda: ours.send_all(_pattern(CHUNK_BYTES)))
        await wait_all_tasks_blocked()
        theirs.close()
    _close(ours)


async def check_close_wakes(new_wires: NewWires) -> None:
    """Closing wakes who waits for bytes and who waits to send: both get TransportClosed."""
    ours, theirs = new_wires()
    await _fill(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_assert_raises_closed, ours.receive)
        nursery.start_soon(_assert_raises_closed, lambda: ours.send_all(_pattern(CHUNK_BYTES)))
        await wait_all_tasks_blocked()
        ours.close()
        ours.close()
    _close(theirs)


async def check_full(new_wires: NewWires) -> None:
    """A full wire takes 0 bytes; when the peer has read, who waits is woken and it takes more."""
    ours, theirs = new_wires()
    sent = await _fill(ours)
    assert ours.send_nowait(b"x") == 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_within, ours.wait_writable)
        await wait_all_tasks_blocked()
        assert await _receive(theirs, sent) == _pattern(sent)
    assert ours.send_nowait(b"more") > 0
    _close(ours, theirs)


async def check_cancelled_receive(new_wires: NewWires) -> None:
    """Cancelling who waits for bytes loses none, even when they arrive in the same step."""
    ours, theirs = new_wires()
    for is_late in (True, False):
        received = b""
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                nonlocal received
                received = await theirs.receive()

            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            if not is_late:
                ours.send_nowait(b"x")
            nursery.cancel_scope.cancel()
        if is_late:
            ours.send_nowait(b"x")
        assert (received or await _receive(theirs)) == b"x"
    _close(ours, theirs)


async def check_cancelled_bell(new_wires: NewWires) -> None:
    """A cancelled wait for `readable` loses no ring: the next one returns at once."""
    ours, theirs = new_wires()
    await _send(ours, b"x")
    await _rung(theirs.unread)  # so both bells are
    with trio.CancelScope() as scope:
        scope.cancel()
        await theirs.readable.wait()
    await _rung(theirs.readable)
    assert theirs.receive_nowait() == b"x"
    _close(ours, theirs)


async def check_cancelled_wait_writable(new_wires: NewWires) -> None:
    """Cancelling who waits to send changes nothing: the next one waits, and is woken."""
    ours, theirs = new_wires()
    sent = await _fill(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.wait_writable)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_within, ours.wait_writable)
        await wait_all_tasks_blocked()
        await _receive(theirs, sent)
    _close(ours, theirs)


async def check_cancelled_send(new_wires: NewWires) -> None:
    """Of a cancelled `send_all` the first part arrives, and then what is sent after it."""
    ours, theirs = new_wires()
    sent = await _fill(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, b"a" * 100_000)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    received = await _receive(theirs, sent)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, b"behind")
        rest = b""
        while not rest.endswith(b"behind"):
            rest += await _receive(theirs)
    assert received == _pattern(sent)
    assert len(rest) < 100_000
    assert rest.removesuffix(b"behind").strip(b"a") == b""
    _close(ours, theirs)


async def check_send_eof(new_wires: NewWires) -> None:
    """After `send_eof` the peer finds the end behind all bytes, and receiving goes on."""
    ours, theirs = new_wires()
    await _send(ours, b"all I have")
    ours.send_eof()
    ours.send_eof()
    assert await _receive(theirs, 10) == b"all I have"
    assert await _receive(theirs) == b""
    for word in (b"I", b"hear", b"you"):
        await _send(theirs, word)
        assert await _receive(ours, len(word)) == word
    _assert_closed(lambda: ours.send_nowait(b"x"))
    _close(ours, theirs)


async def check_end_wakes(new_wires: NewWires) -> None:
    """Who waits for bytes is woken by the end."""
    ours, theirs = new_wires()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect, theirs, b"")
        await wait_all_tasks_blocked()
        ours.send_eof()
    _close(ours, theirs)


async def check_unread(new_wires: NewWires) -> None:
    """`unread` is rung with `readable` when nobody waits for that, and not when somebody does."""
    ours, theirs = new_wires()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect, theirs, b"1")
        await wait_all_tasks_blocked()
        ours.send_nowait(b"1")
    assert not theirs.unread.take()
    ours.send_nowait(b"2")
    await _rung(theirs.unread)
    assert theirs.readable.take()
    await _expect(theirs, b"2")
    ours.send_eof()
    await _rung(theirs.unread)
    assert theirs.readable.take()
    _close(ours, theirs)


async def check_stand_in(new_wires: NewWires) -> None:
    """Who only listens to `unread`, and receives once each time, gets everything and the end."""
    ours, theirs = new_wires()
    sent = await _fill(ours)
    ours.send_eof()
    received = b""
    has_ended = False
    while not has_ended:
        await _rung(theirs.unread)
        with suppress(trio.WouldBlock):
            data = theirs.receive_nowait()
            received += data
            has_ended = not data
    assert received == _pattern(sent)
    _close(ours, theirs)


WIRE_CHECKS: tuple[Callable[[NewWires], Awaitable[None]], ...] = (
    check_order,
    check_small_pieces,
    check_nothing_yet,
    check_end,
    check_closed,
    check_peer_gone,
    check_peer_goes_while_blocked,
    check_close_wakes,
    check_full,
    check_cancelled_receive,
    check_cancelled_bell,
    check_cancelled_wait_writable,
    check_cancelled_send,
    check_send_eof,
    check_end_wakes,
    check_unread,
    check_stand_in,
)
"""The contract of `trio_rt.transport.wire.Wire`."""


# The transport


class FarEnd(Protocol):
    """The client of a transport; `WebSocketPeer` is one."""

    def encode(self, *messages: str | bytes) -> bytes:
        """Messages as the client sends them."""
        ...

    async def send_bytes(self, data: bytes) -> None:
        """Sends bytes as they are, parts of messages too."""

    async def receive(self) -> object:
        """The next message of the server; None at the end; what is no message is a value too."""

    def close(self) -> None:
        """Closes at once."""


NewTransport = Callable[[], tuple[Transport, FarEnd]]
"""Makes a transport and its client, on a fresh wire with bounded buffers."""

_PACKET = Encoded(b'2["news","' + b"x" * CHUNK_BYTES + b'"]')


async def check_messages(new_transport: NewTransport) -> None:
    """Messages arrive in order, text as `str` and binary as `bytes`; those sent arrive as well."""
    transport, far = new_transport()
    assert transport.receive_nowait() == []
    await far.send_bytes(far.encode("4one", b"two", "4three"))
    assert await _messages(transport, 3) == ["4one", b"two", "4three"]
    transport.send_nowait(transport.encode(Encoded(b'2["four"]')))
    await _within(transport.drain)
    transport.send_engine(b"2")
    await _within(transport.drain)
    assert await _far_messages(far, 2) == ['42["four"]', "2"]
    _close(transport, far)


async def check_partial(new_transport: NewTransport) -> None:
    """Cut anywhere, a message is nothing until its last byte is there; all bytes are counted."""
    transport, far = new_transport()
    data = far.encode("4cut")
    for cut in range(1, len(data)):
        await far.send_bytes(data[:cut])
        await _until_received(transport, cut + (cut - 1) * len(data))
        assert transport.receive_nowait() == []
        await far.send_bytes(data[cut:])
        assert await _messages(transport, 1) == ["4cut"]
        assert transport.received_bytes == cut * len(data)
    _close(transport, far)


async def check_blocked(new_transport: NewTransport) -> None:
    """A transport whose peer reads nothing is blocked, and rings once; drained, it is free."""
    transport, far = new_transport()
    assert not transport.blocked.take()
    count = await _block(transport)
    assert transport.blocked.take()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_within, transport.drain)
        await wait_all_tasks_blocked()
        assert transport.is_blocked
        assert await _far_messages(far, count) == ["4" + _PACKET.text.decode()] * count
    await _within(transport.drain)
    _assert_free(transport)
    _close(transport, far)


async def check_engine_while_blocked(new_transport: NewTransport) -> None:
    """An engine packet on a blocked transport is inside no message, and before later ones."""
    transport, far = new_transport()
    count = await _block(transport)
    transport.send_engine(b"2")
    received: list[object] = []

    async def read() -> None:
        received.extend(await _far_messages(far, count + 2))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await _within(transport.drain)
        transport.send_nowait(transport.encode(Encoded(b'2["later"]')))
        await _within(transport.drain)
    assert received.index("2") <= count
    received.remove("2")
    assert received == ["4" + _PACKET.text.decode()] * count + ['42["later"]']
    _close(transport, far)


async def check_cancelled_drain(new_transport: NewTransport) -> None:
    """A cancelled drain neither loses nor repeats a byte; the next one goes on."""
    transport, far = new_transport()
    count = await _block(transport)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.drain)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert transport.is_blocked
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_within, transport.drain)
        assert await _far_messages(far, count) == ["4" + _PACKET.text.decode()] * count
    _close(transport, far)


async def check_transport_end(new_transport: NewTransport) -> None:
    """When the peer has gone its messages come first, then TransportClosed, each time."""
    transport, far = new_transport()
    await far.send_bytes(far.encode("4last"))
    far.close()
    assert await _messages(transport, 1) == ["4last"]
    for _ in range(2):
        assert await _ending(transport) == reasons.TRANSPORT_CLOSE.code
        transport.readable.ring()
    _close(transport)


async def check_transport_closed(new_transport: NewTransport) -> None:
    """Closing wakes reader and writer; everything raises TransportClosed after it."""
    transport, far = new_transport()
    await _block(transport)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_ending, transport)
        nursery.start_soon(_assert_raises_closed, transport.drain)
        await wait_all_tasks_blocked()
        transport.close()
        transport.close()
    _assert_closed(transport.receive_nowait)
    fresh, fresh_far = new_transport()
    fresh.close()
    _assert_closed(lambda: fresh.send_nowait(fresh.encode(_PACKET)))
    _assert_closed(lambda: fresh.send_engine(b"2"))
    await _within(lambda: fresh.finish(reasons.SERVER_SHUTDOWN))
    _close(far, fresh_far)


async def check_finish(new_transport: NewTransport) -> None:
    """`finish` sends what waits, ends when the peer has ended, and may be called again."""
    transport, far = new_transport()
    count = await _block(transport)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_within, lambda: transport.finish(reasons.SERVER_SHUTDOWN))
        assert await _far_messages(far, count) == ["4" + _PACKET.text.decode()] * count
        with trio.fail_after(DEADLINE), suppress(TransportClosed):
            while await far.receive() is not None:
                pass
        far.close()
    await _within(lambda: transport.finish(reasons.SERVER_SHUTDOWN))
    _assert_closed(transport.receive_nowait)


async def check_cancelled_finish(new_transport: NewTransport) -> None:
    """Whether the peer reads or not, a cancelled `finish` has closed at once."""
    for is_reading in (False, True):
        transport, far = new_transport()
        if not is_reading:
            await _block(transport)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.finish, reasons.SERVER_SHUTDOWN)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        _assert_closed(transport.receive_nowait)
        await _within(partial(transport.finish, reasons.SERVER_SHUTDOWN))
        _close(far)


async def check_transport_unread(new_transport: NewTransport) -> None:
    """`unread` is rung when something arrives while nobody waits for `readable`."""
    transport, far = new_transport()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_rung, transport.readable)
        await wait_all_tasks_blocked()
        await far.send_bytes(far.encode("2"))
    assert await _messages(transport, 1, is_rung=True) == ["2"]
    transport.unread.take()
    await far.send_bytes(far.encode("2"))
    await _rung(transport.unread)
    assert transport.readable.take()
    _close(transport, far)


TRANSPORT_CHECKS: tuple[Callable[[NewTransport], Awaitable[None]], ...] = (
    check_messages,
    check_partial,
    check_blocked,
    check_engine_while_blocked,
    check_cancelled_drain,
    check_transport_end,
    check_transport_closed,
    check_finish,
    check_cancelled_finish,
    check_transport_unread,
)
"""The contract of `trio_rt.transport.base.Transport`."""


# What the checks are written in


class _Closable(Protocol):
    def close(self) -> None: ...


def _close(*ends: _Closable) -> None:
    for end in ends:
        end.close()


def _pattern(size: int) -> bytes:
    """Bytes in which nothing can be lost, doubled or swapped unseen."""
    return array("I", range(size // 4 + 1)).tobytes()[:size]


async def _within(act: Callable[[], Awaitable[None]]) -> None:
    with trio.fail_after(DEADLINE):
        await act()


async def _rung(bell: Bell) -> None:
    with trio.fail_after(DEADLINE):
        await bell.wait()


async def _send(wire: Wire, data: bytes) -> None:
    with trio.fail_after(DEADLINE):
        await wire.send_all(data)


async def _receive_exactly(wire: Wire, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        data = await wire.receive()
        assert data, f"the end after {len(received)} of {size} bytes"
        received += data
    return bytes(received)


async def _receive(wire: Wire, size: int | None = None) -> bytes:
    """What arrives next, or exactly so many bytes of it."""
    with trio.fail_after(DEADLINE):
        return await (wire.receive() if size is None else _receive_exactly(wire, size))


async def _expect(wire: Wire, data: bytes) -> None:
    assert await _receive(wire, len(data) or None) == data


async def _fill(wire: Wire) -> int:
    """Sends a pattern until the wire takes no more, and returns how many bytes it took."""
    pattern = _pattern(8_000_000)
    sent = 0
    while True:
        taken = wire.send_nowait(pattern[sent : sent + CHUNK_BYTES])
        sent += taken
        if not taken:
            await wait_all_tasks_blocked()  # what carries it on may make room
            taken = wire.send_nowait(pattern[sent : sent + CHUNK_BYTES])
            sent += taken
            if not taken:
                return sent


def _assert_nothing(wire: Wire) -> None:
    try:
        data = wire.receive_nowait()
    except trio.WouldBlock:
        return
    raise AssertionError(f"{data!r} was received, and nothing had been sent")


def _assert_closed(act: Callable[[], object]) -> None:
    try:
        result = act()
    except TransportClosed:
        return
    raise AssertionError(f"closed, and it returned {result!r}")


async def _assert_raises_closed(act: Callable[[], Awaitable[object]]) -> None:
    with trio.fail_after(DEADLINE):
        try:
            result = await act()
        except TransportClosed:
            return
    raise AssertionError(f"closed, and it returned {result!r}")


async def _block(transport: Transport) -> int:
    """Sends packets until the peer has to read before more is taken, and returns how many."""
    data = transport.encode(_PACKET)
    count = 0
    while True:
        while not transport.is_blocked:
            transport.send_nowait(data)
            count += 1
            assert count < 10_000, "a transport that is never blocked"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.drain)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        if transport.is_blocked:
            return count


def _assert_free(transport: Transport) -> None:
    assert not transport.is_blocked


async def _messages(
    transport: Transport, count: int, *, is_rung: bool = False
) -> list[str | bytes]:
    """The next messages; `is_rung` if the bell for the first has been heard."""
    messages: list[str | bytes] = []
    with trio.fail_after(DEADLINE):
        while len(messages) < count:
            if not is_rung:
                await transport.readable.wait()
            is_rung = False
            messages += transport.receive_nowait()
    return messages


async def _until_received(transport: Transport, size: int) -> None:
    """Takes in so many bytes, which are no whole message."""
    with trio.fail_after(DEADLINE):
        while transport.received_bytes < size:
            await transport.readable.wait()
            assert transport.receive_nowait() == []


async def _ending(transport: Transport) -> str:
    """The code of the reason with which receiving ends."""
    with trio.fail_after(DEADLINE):
        while True:
            await transport.readable.wait()
            try:
                assert transport.receive_nowait() == []
            except TransportClosed as error:
                return error.reason.code


async def _far_messages(far: FarEnd, count: int) -> list[object]:
    messages: list[object] = []
    with trio.fail_after(DEADLINE):
        while len(messages) < count:
            messages.append(await far.receive())
    return messages
