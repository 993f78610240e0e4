"""A WebSocket keeps the contract of transports on every wire, and RFC 6455 besides."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.codec import raw
from trio_rt import reasons
from trio_rt.codec.frames import Close, FrameDecoder, Ping, Pong, close_frame, ping_frame
from trio_rt.codec.socketio import Encoded
from trio_rt.errors import TransportClosed
from trio_rt.reasons import Reason
from trio_rt.testing.contracts import TRANSPORT_CHECKS, NewTransport, NewWires
from trio_rt.testing.peer import MASK, WebSocketPeer
from trio_rt.transport.memory import memory_wire_pair
from trio_rt.transport.websocket import MAX_CONTROL_REST_BYTES, WebSocketTransport

MAX_MESSAGE_BYTES = 1_000
DEADLINE = 5.0


@pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=lambda check: check.__name__)
async def test_contract(
    new_wires: NewWires, check: Callable[[NewTransport], Awaitable[None]]
) -> None:
    """Over every kind of wire it keeps what `Transport` promises."""

    def new_transport() -> tuple[WebSocketTransport, WebSocketPeer]:
        ours, theirs = new_wires()
        decoder = FrameDecoder(max_message_bytes=MAX_MESSAGE_BYTES)
        return WebSocketTransport(theirs, decoder), WebSocketPeer(ours)

    await check(new_transport)


Pair = tuple[WebSocketTransport, WebSocketPeer]


def make_pair(capacity: int = 65_536, received: bytes = b"") -> Pair:
    """A transport and its client, in memory."""
    ours, theirs = memory_wire_pair(capacity)
    decoder = FrameDecoder(max_message_bytes=MAX_MESSAGE_BYTES)
    return WebSocketTransport(theirs, decoder, received), WebSocketPeer(ours)


@pytest.fixture
def pair() -> Pair:
    return make_pair()


def assert_ended(transport: WebSocketTransport, reason: Reason) -> None:
    """Receiving ends with this reason, each time."""
    for _ in range(2):
        with pytest.raises(TransportClosed) as ended:
            transport.receive_nowait()
        assert (ended.value.reason.code, ended.value.reason.close_code) == (
            reason.code,
            reason.close_code,
        )


# Pings


async def test_ping_is_answered(pair: Pair) -> None:
    """A ping is answered with its payload, and is no message."""
    transport, peer = pair
    await peer.send_ping(b"are you there?")
    assert transport.receive_nowait() == []
    assert await peer.receive() == Pong(b"are you there?")


async def test_ping_among_messages(pair: Pair) -> None:
    """Messages around a ping are all there, in order."""
    transport, peer = pair
    before, after = peer.encode("4a"), peer.encode("4b")
    await peer.send_bytes(before + ping_frame(b"p", mask=MASK) + after)
    assert transport.receive_nowait() == ["4a", "4b"]
    assert await peer.receive() == Pong(b"p")


async def test_pings_that_come_together(pair: Pair) -> None:
    """Pings that arrive at once are answered in order."""
    transport, peer = pair
    await peer.send_bytes(b"".join(ping_frame(bytes([n]), mask=MASK) for n in range(10)))
    assert transport.receive_nowait() == []
    transport.send_engine(b"2")
    assert [await peer.receive() for _ in range(10)] == [Pong(bytes([n])) for n in range(10)]
    assert await peer.receive() == "2"


async def test_pong_is_ignored(pair: Pair) -> None:
    """A pong that nobody asked for is nothing."""
    transport, peer = pair
    await peer.send_bytes(raw.frame(raw.PONG, b"?"))
    assert transport.receive_nowait() == []


async def test_pongs_of_one_who_does_not_read() -> None:
    """A peer that pings for ever and reads nothing gets no more than so many bytes of pongs."""
    transport, peer = make_pair(capacity=200)
    while not transport.is_blocked:
        transport.send_engine(b"2")
    answered = MAX_CONTROL_REST_BYTES // 127
    for number in range(answered + 100):
        await peer.send_ping(number.to_bytes(4) + b"x" * 121)
        transport.receive_nowait()
    pongs = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.drain)
        with trio.move_on_after(DEADLINE):
            while len(pongs) <= answered:
                message = await peer.receive()
                if isinstance(message, Pong):
                    pongs.append(message)
    numbers = [int.from_bytes(pong.payload[:4]) for pong in pongs]
    assert numbers == list(range(answered + 1))


# The end


@pytest.mark.parametrize("code", [None, 1000, 1001, 3000, 4999])
async def test_close_is_echoed(pair: Pair, code: int | None) -> None:
    """The peer's close frame is answered with its own code, whatever we ended for."""
    transport, peer = pair
    await peer.send_bytes(peer.encode("4last") + close_frame(code, "bye", mask=MASK))
    assert transport.receive_nowait() == ["4last"]
    assert_ended(transport, reasons.TRANSPORT_CLOSE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.finish, reasons.SERVER_SHUTDOWN)
        answer = await peer.receive()
        assert isinstance(answer, Close)
        assert answer.code == (1005 if code is None else code)
        assert await peer.receive() is None
        peer.close()


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (reasons.SERVER_SHUTDOWN, 1001),
        (reasons.SLOW_CONSUMER, 1013),
        (reasons.CLIENT_DISCONNECT, 1000),
        (reasons.MESSAGE_TOO_BIG, 1009),
        (reasons.TRANSPORT_ERROR, 1011),
    ],
)
async def test_close_frame(pair: Pair, reason: Reason, code: int) -> None:
    """Our close frame says the reason's status and name; 1006 is never sent."""
    transport, peer = pair
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.finish, reason)
        assert await peer.receive() == Close(code, reason.code)
        peer.close()


async def test_finish_reads_to_the_end(pair: Pair) -> None:
    """A peer that still sends reads our close frame: we read on until it has ended."""
    transport, peer = pair
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.finish, reasons.SERVER_SHUTDOWN)
        await wait_all_tasks_blocked()
        for _ in range(100):
            await peer.send("4" + "x" * 900)
            await wait_all_tasks_blocked()
        assert isinstance(await peer.receive(), Close)
        peer.close()


VIOLATIONS = [
    pytest.param(raw.frame(raw.TEXT, b"4x", mask=b""), reasons.PARSE_ERROR, 1002, id="no mask"),
    pytest.param(raw.frame(0x3, b""), reasons.PARSE_ERROR, 1002, id="unknown opcode"),
    pytest.param(raw.frame(raw.TEXT, b"4x", rsv=4), reasons.PARSE_ERROR, 1002, id="not negotiated"),
    pytest.param(raw.frame(raw.TEXT, b"4\xff"), reasons.PARSE_ERROR, 1007, id="no UTF-8"),
    pytest.param(raw.frame(raw.CONTINUATION), reasons.PARSE_ERROR, 1002, id="nothing to continue"),
    pytest.param(raw.frame(raw.PING, b"x" * 126), reasons.PARSE_ERROR, 1002, id="long ping"),
    pytest.param(raw.close(1006), reasons.PARSE_ERROR, 1002, id="close 1006"),
    pytest.param(
        raw.frame(raw.TEXT, length=MAX_MESSAGE_BYTES + 1),
        reasons.MESSAGE_TOO_BIG,
        1009,
        id="too big",
    ),
]


@pytest.mark.parametrize(("data", "reason", "code"), VIOLATIONS)
@pytest.mark.parametrize("is_behind", [True, False], ids=["behind messages", "alone"])
async def test_violation(
    pair: Pair, data: bytes, reason: Reason, code: int, is_behind: bool
) -> None:
    """A broken rule ends with its reason, after the messages before it; what follows is nothing."""
    transport, peer = pair
    before = peer.encode("4one", b"two") if is_behind else b""
    await peer.send_bytes(before + data + peer.encode("4never"))
    if is_behind:
        assert transport.receive_nowait() == ["4one", b"two"]
        assert transport.readable.take()
    with pytest.raises(TransportClosed) as ended:
        transport.receive_nowait()
    assert (ended.value.reason.code, ended.value.reason.close_code) == (reason.code, code)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.finish, ended.value.reason)
        answer = await peer.receive()
        assert isinstance(answer, Close)
        assert answer.code == code
        peer.close()


async def test_ping_before_a_violation(pair: Pair) -> None:
    """A ping in front of what breaks the rules is still answered."""
    transport, peer = pair
    await peer.send_bytes(ping_frame(b"p", mask=MASK) + raw.frame(0x3, b""))
    assert_ended(transport, reasons.PARSE_ERROR)
    assert await peer.receive() == Pong(b"p")


async def test_ping_of_one_who_left(pair: Pair) -> None:
    """A ping of a peer that has gone loses no message that came with it."""
    transport, peer = pair
    await peer.send_bytes(peer.encode("4last") + ping_frame(mask=MASK))
    peer.close()
    assert transport.receive_nowait() == ["4last"]
    assert_ended(transport, reasons.TRANSPORT_CLOSE)


# The beginning, and what is sent


async def test_behind_the_handshake() -> None:
    """What came behind the handshake is read first, without waiting for more."""
    data = WebSocketPeer(memory_wire_pair()[0]).encode("4early", "4bird")
    transport, peer = make_pair(received=data[:-3])
    assert transport.readable.take()
    assert transport.receive_nowait() == ["4early"]
    await peer.send_bytes(data[-3:])
    assert transport.readable.take()
    assert transport.receive_nowait() == ["4bird"]
    assert transport.received_bytes == len(data)


async def test_attachments(pair: Pair) -> None:
    """A packet's attachments follow it as binary messages."""
    transport, peer = pair
    transport.send_nowait(transport.encode(Encoded(b"52-[]", (b"one", b"two"))))
    assert [await peer.receive() for _ in range(3)] == ["452-[]", b"one", b"two"]


async def test_base64() -> None:
    """To a client without binary frames attachments go as text, in another framing."""
    ours, theirs = memory_wire_pair()
    decoder = FrameDecoder(max_message_bytes=MAX_MESSAGE_BYTES)
    transport = WebSocketTransport(theirs, decoder, base64=True)
    peer = WebSocketPeer(ours)
    transport.send_nowait(transport.encode(Encoded(b"51-[]", (b"\x00\xff",))))
    assert [await peer.receive() for _ in range(2)] == ["451-[]", "bAP8="]
    assert transport.framing != make_pair()[0].framing


async def test_compression() -> None:
    """From the threshold on messages are compressed, in both directions, in another framing."""
    ours, theirs = memory_wire_pair()
    decoder = FrameDecoder(max_message_bytes=MAX_MESSAGE_BYTES, compression=True)
    transport = WebSocketTransport(theirs, decoder, compress_from=100)
    peer = WebSocketPeer(ours, compression=True)
    small, large = Encoded(b'2["x"]'), Encoded(b'2["%b"]' % (b"x" * 500))
    assert b"x" in transport.encode(small)
    assert len(transport.encode(large)) < 100
    transport.send_nowait(transport.encode(small) + transport.encode(large))
    assert [await peer.receive() for _ in range(2)] == [
        "4" + small.text.decode(),
        "4" + large.text.decode(),
    ]
    assert transport.framing != make_pair()[0].framing


async def test_server_ping_is_text(pair: Pair) -> None:
    """Engine.IO's ping is a text message, not a control frame: browsers see no others."""
    transport, peer = pair
    transport.send_engine(b"2")
    message = await peer.receive()
    assert message == "2"
    assert not isinstance(message, Ping)
