"""What a peer that breaks the rules brings on itself, and what it does not do to others."""

import json
import logging
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.lowlevel
from websockets.frames import Opcode

from tests.interop.raw import RawSocket, Unchecked, masked, raw_socket
from tests.interop.stage import Notes, Stage, new_server
from trio_rt import Server

EVENT = '42["x"]'


def text(data: str | bytes, *, fin: bool = True, **bits: bool) -> Unchecked:
    """A text frame."""
    return Unchecked(Opcode.TEXT, data.encode() if isinstance(data, str) else data, fin, **bits)


def more(data: bytes, *, fin: bool = True) -> Unchecked:
    """A continuation frame."""
    return Unchecked(Opcode.CONT, data, fin)


ENGINE = {
    "unknown packet type": ["9"],
    "empty text message": [""],
    "message without a packet": ["4"],
    "control characters": ["9\x1b[31m\r\nFAKE LOG LINE\0"],
    "direction marks": ["9\u202e\u2028fake"],
    "bad base64": ["b!!!"],
}
SOCKETIO = {
    "unknown packet type": ["49"],
    "second CONNECT": ["40"],
    "event of a namespace not joined": ['42/other,["x"]'],
    "event after leaving": ["41", EVENT],
    "CONNECT_ERROR from a client": ['44{"message":"no"}'],
    "object for an event": ["42{}"],
    "empty event": ["42[]"],
    "event without payload": ["42"],
    "event with an id and no payload": ["4212"],
    "event named by null": ["42[null]"],
    "event named by a list": ["42[[]]"],
    "bad JSON": ['42["x"'],
    "NaN": ['42["x",NaN]'],
    "trailing text": ['42["x"]["y"]'],
    "control characters in JSON": ['42["x\x1b[31m\n"]'],
    "bad ack id": ['42abc["x"]'],
    "huge ack id": ["42" + "9" * 400 + '["x"]'],
    "ack without payload": ["431"],
    "reserved event": ['42["disconnect"]'],
    "deep nesting": ['42["x",' + "[" * 100_000],
    "no attachments": ['450-["x"]'],
    "too many attachments": ['4511-["x"]'],
    "bad attachment count": ['45x-["x"]'],
    "huge attachment count": ["45" + "9" * 400 + '-["x"]'],
    "placeholder out of range": ['451-["x",{"_placeholder":true,"num":1}]', b"1"],
    "negative placeholder": ['451-["x",{"_placeholder":true,"num":-1}]', b"1"],
    "text instead of an attachment": ['451-["x",{"_placeholder":true,"num":0}]', EVENT],
    "attachment without a header": [b"1"],
}
WEBSOCKET = {
    "reserved bit 1": [text(EVENT, rsv1=True)],
    "reserved bit 2": [text(EVENT, rsv2=True)],
    "continuation of nothing": [more(b"x")],
    "message inside a message": [text("42", fin=False), text(EVENT)],
    "fragmented ping": [Unchecked(Opcode.PING, b"", fin=False)],
    "bad UTF-8": [text(b'42["\xff"]')],
    "surrogate in UTF-8": [text(b'42["\xed\xa0\x80"]')],
    "UTF-8 cut at the end": [text(b'42["\xe2\x98')],
    "close of one byte": [Unchecked(Opcode.CLOSE, b"\x03")],
    "close with a code of nobody": [Unchecked(Opcode.CLOSE, (1005).to_bytes(2, "big"))],
    "close with bad UTF-8": [Unchecked(Opcode.CLOSE, (1000).to_bytes(2, "big") + b"\xff")],
}
RAW = {
    "unmasked": b"\x81\x01x",
    "unknown opcode": b"\x83\x80\0\0\0\0",
    "ping over 125 bytes": b"\x89\xfe\x00\x80\0\0\0\0" + b"x" * 128,
    "length with the top bit": b"\x81\xff" + b"\xff" * 8 + b"\0\0\0\0",
}
BROKEN = [
    *(pytest.param(sends, {1002}, id=f"Engine.IO: {name}") for name, sends in ENGINE.items()),
    *(
        pytest.param(sends, {1002, 1008}, id=f"Socket.IO: {name}")
        for name, sends in SOCKETIO.items()
    ),
    *(
        pytest.param(sends, {1007 if "UTF-8" in name else 1002}, id=f"WebSocket: {name}")
        for name, sends in WEBSOCKET.items()
    ),
    *(pytest.param(sends, {1002}, id=f"WebSocket: {name}") for name, sends in RAW.items()),
]
IGNORED = {
    "open": "0",
    "close": "1",
    "upgrade": "5",
    "noop": "6",
    "unknown ack": '43999["x"]',
    "pong without a ping": "3",
}


def echoing(**changes: object) -> tuple[Server, Notes]:
    """A server that returns what it gets, and the reasons of its disconnections."""
    server = new_server(**changes)
    gone = Notes()

    @server.on("*")
    async def echo(socket, event, *payload):
        return [event, *payload]

    @server.on_disconnect
    async def bye(socket, reason):
        gone.add(reason.code)

    return server, gone


@asynccontextmanager
async def entered(server: Server) -> AsyncIterator[RawSocket]:
    """A raw socket that is connected to the main namespace."""
    async with raw_socket(server.port) as raw:
        assert (await raw.receive()).startswith("0{")
        await raw.send("40")
        assert (await raw.receive()).startswith("40{")
        yield raw


async def assert_served(raw: RawSocket) -> None:
    """The connection is open and its events are answered."""
    await raw.send('427["well?"]')
    assert await raw.receive() == '437[["well?"]]'


def assert_one_clean_line(caplog: pytest.LogCaptureFixture) -> None:
    """There is one line in the log, without a traceback or what could pass for another line."""
    ours = [record for record in caplog.records if record.name.startswith("trio_rt")]
    [record] = [record for record in ours if record.levelno >= logging.INFO]
    assert record.exc_info is None
    kinds = {unicodedata.category(character) for character in record.getMessage()}
    assert kinds.isdisjoint({"Cc", "Cf", "Zl", "Zp"})


@pytest.mark.parametrize(("sends", "codes"), BROKEN)
async def test_violation(
    play: Stage, caplog: pytest.LogCaptureFixture, sends: list[str | bytes] | bytes, codes: set[int]
) -> None:
    """A broken rule ends its own connection, with one clean line in the log, and no other."""
    server, gone = echoing()
    await play.serve(server)
    async with entered(server) as neighbour, entered(server) as offender:
        if isinstance(sends, bytes):
            await offender.send_bytes(sends)
        else:
            await offender.send(*sends)
        assert await offender.receive_close() in codes
        await offender.receive_end()
        assert (await gone.next()) in {"parse error", "forced close", "client namespace disconnect"}
        await assert_served(neighbour)
    assert_one_clean_line(caplog)


@pytest.mark.parametrize(
    "sends",
    [
        [EVENT],
        ["41"],
        ["43[]"],
        ['40["token"]'],
        ['40"token"'],
        ["40null"],
        ["4042"],
        ['451-["x",{"_placeholder":true,"num":0}]', b"1"],
        ["49"],
    ],
    ids=lambda sends: sends[0],
)
async def test_violation_before_connecting(play: Stage, sends: list[str | bytes]) -> None:
    """Whatever is not a proper CONNECT ends a connection that has no namespace yet."""
    server, gone = echoing()
    await play.serve(server)
    async with raw_socket(server.port) as raw:
        await raw.send(*sends)
        assert await raw.receive_close() in {1002, 1008}
        await raw.receive_end()
    assert gone.rest() == []


@pytest.mark.parametrize("sends", IGNORED.values(), ids=IGNORED)
async def test_ignored(play: Stage, sends: str) -> None:
    """What makes no sense but does no harm is ignored."""
    server, _ = echoing()
    await play.serve(server)
    async with entered(server) as raw:
        await raw.send(sends)
        await assert_served(raw)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(masked(text("x" * 2_000)), id="one frame"),
        pytest.param(b"\x81\xff" + (2**62).to_bytes(8, "big") + b"\0\0\0\0", id="only announced"),
        pytest.param(masked(text("4" * 600, fin=False)) + masked(more(b"4" * 600)), id="fragments"),
    ],
)
async def test_too_big(play: Stage, caplog: pytest.LogCaptureFixture, data: bytes) -> None:
    """A message over the limit is refused as soon as that can be known."""
    server, gone = echoing(max_payload_bytes=1_000)
    await play.serve(server)
    async with entered(server) as neighbour, entered(server) as offender:
        await offender.send_bytes(data)
        assert await offender.receive_close() == 1009
        assert await gone.next() == "message too big"
        await assert_served(neighbour)
    assert_one_clean_line(caplog)


async def test_fragments(play: Stage) -> None:
    """A message in many fragments, with pings between and one cut inside a character, is one."""
    server, _ = echoing()
    await play.serve(server)
    async with entered(server) as raw:
        parts = [b'421["', b"\xe2", b"\x98", b"\x83", b"", b'"]']
        await raw.send(text(parts[0], fin=False))
        for part in parts[1:-1]:
            await raw.send(more(part, fin=False), Unchecked(Opcode.PING, part))
        await raw.send(more(parts[-1]))
        assert await raw.receive_after_pongs(len(parts) - 2) == '431[["☃"]]'


async def test_byte_by_byte(play: Stage) -> None:
    """Frames that arrive byte by byte are as good as whole ones."""
    server, _ = echoing()
    await play.serve(server)
    async with entered(server) as raw:
        for byte in masked(text('421["slow"]')) + masked(text('422["slower"]')):
            await raw.send_bytes(bytes([byte]))
            await trio.lowlevel.checkpoint()
        assert await raw.receive() == '431[["slow"]]'
        assert await raw.receive() == '432[["slower"]]'


async def test_many_in_one_write(play: Stage) -> None:
    """Frames that arrive together are answered one by one, in order."""
    server, _ = echoing()
    await play.serve(server)
    async with entered(server) as raw:
        await raw.send(*(f'42{number}["n"]' for number in range(100)))
        assert [await raw.receive() for _ in range(100)] == [
            f'43{number}[["n"]]' for number in range(100)
        ]


async def test_attachment_in_fragments(play: Stage) -> None:
    """An attachment may be fragmented, with a ping between it and its header."""
    server, _ = echoing()
    await play.serve(server)
    async with entered(server) as raw:
        await raw.send(
            '451-1["x",{"_placeholder":true,"num":0}]',
            Unchecked(Opcode.PING, b""),
            "3",
            Unchecked(Opcode.BINARY, b"ab", fin=False),
            more(b"cd"),
        )
        assert await raw.receive_after_pongs(1) == '461-1[["x",{"_placeholder":true,"num":0}]]'
        assert await raw.receive() == b"abcd"


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_close_handshake(play: Stage, code: int) -> None:
    """A close frame is answered with its own code, and then the connection is closed."""
    server, gone = echoing()
    await play.serve(server)
    async with entered(server) as raw:
        await raw.send(Unchecked(Opcode.CLOSE, code.to_bytes(2, "big")))
        assert await raw.receive_close() == code
        await raw.receive_end()
    assert await gone.next() == "transport close"


async def test_no_connect_in_time(play: Stage) -> None:
    """A client that connects to no namespace in time is ended."""
    server, _ = echoing(connect_timeout=0.1)
    await play.serve(server)
    async with raw_socket(server.port) as raw:
        assert await raw.receive_close() == 1008


async def test_open_packet(play: Stage) -> None:
    """The open packet has exactly Engine.IO's five keys, in milliseconds and bytes."""
    server, _ = echoing(ping_interval=1.5, ping_timeout=0.5, max_payload_bytes=1234)
    await play.serve(server)
    async with raw_socket(server.port) as raw:
        packet = json.loads((await raw.receive())[1:])
    assert packet.pop("sid")
    assert packet == {"upgrades": [], "pingInterval": 1500, "pingTimeout": 500, "maxPayload": 1234}


async def test_base64(play: Stage) -> None:
    """A client that asks for base64 gets and sends its bytes as text."""
    server, _ = echoing()
    await play.serve(server)
    async with raw_socket(server.port, "EIO=4&transport=websocket&b64=1") as raw:
        await raw.receive()
        await raw.send("40")
        await raw.receive()
        await raw.send('451-1["x",{"_placeholder":true,"num":0}]', "bAQIDBA==")
        assert await raw.receive() == '461-1[["x",{"_placeholder":true,"num":0}]]'
        assert await raw.receive() == "bAQIDBA=="


@pytest.mark.parametrize("talk", [None, '42["chat"]', "6"], ids=["silent", "events", "noops"])
async def test_no_pongs(play: Stage, talk: str | None) -> None:
    """Who answers no ping is ended in time, whatever else it sends, and its neighbour is not."""
    server, gone = echoing(ping_interval=0.1, ping_timeout=0.2)
    await play.serve(server)
    neighbour = play.page(server)
    await neighbour("my.socket = await connected()")
    async with entered(server) as raw, trio.open_nursery() as nursery:
        if talk is not None:
            nursery.start_soon(raw.send_every, 0.02, talk)
        assert await raw.receive_close() == 1001
        nursery.cancel_scope.cancel()
    assert await gone.next() == "ping timeout"
    assert await neighbour("return my.socket.connected")
    assert gone.rest() == []


async def test_late_pong(play: Stage) -> None:
    """A pong is good until the timeout is over, and a ping comes for each one."""
    server, _ = echoing(ping_interval=0.05, ping_timeout=5.0)
    await play.serve(server)
    async with entered(server) as raw:
        for _ in range(5):
            assert await raw.receive() == "2"
            await raw.send("3")
