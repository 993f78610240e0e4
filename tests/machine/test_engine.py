"""One Engine.IO session, cell by cell, and against anything a client may send."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_rt import reasons
from trio_rt.codec.socketio import EVENT, Packet
from trio_rt.machine.effects import Connect, End, Left, RefuseConnect, SendPing
from trio_rt.machine.engine import Engine, EngineState
from trio_rt.machine.heartbeat import Heartbeat, HeartbeatState
from trio_rt.machine.multiplex import Multiplex
from trio_rt.reasons import Reason

INTERVAL, TIMEOUT, CONNECT_TIMEOUT = 25.0, 20.0, 45.0


def new_engine() -> Engine:
    multiplex = Multiplex(2, 10, CONNECT_TIMEOUT, 0.0)
    return Engine(Heartbeat(INTERVAL, TIMEOUT, 0.0), multiplex)


def open_engine() -> Engine:
    """A session that is connected to `/`."""
    engine = new_engine()
    [request] = engine.receive("40")
    assert isinstance(request, Connect)
    assert engine.multiplex.accepted(request)
    return engine


def closed_engine() -> Engine:
    engine = open_engine()
    engine.close()
    return engine


def assert_ended(engine: Engine, effects: Any, reason: Reason) -> None:
    """That the session ended for this reason, and means nothing any more."""
    [end] = effects
    assert isinstance(end, End)
    assert end.reason.code == reason.code
    assert_closed(engine)


def assert_closed(engine: Engine) -> None:
    assert engine.state is EngineState.CLOSED
    for message in ("40/other,", '42["e"]', "3", "9", "", b"x", "b!"):
        assert list(engine.receive(message)) == []
    assert list(engine.tick(1e9)) == []


# --- The table: OPEN


@pytest.mark.parametrize(
    ("message", "effects"),
    [
        ('42["e"]', [Packet(EVENT, "/", None, ["e"])]),
        ("40/n,", [Connect("/n", None)]),
        ("41", [Left("/")]),
        ('451-["e",{"_placeholder":true,"num":0}]', []),
    ],
)
def test_open_message(message: str, effects: list[Any]) -> None:
    """A message goes upwards without its type."""
    engine = open_engine()
    assert list(engine.receive(message)) == effects
    assert engine.state is EngineState.OPEN


@pytest.mark.parametrize("attachment", [b"\x00\xff", "bAP8="], ids=["binary", "base64"])
def test_open_binary_message(attachment: str | bytes) -> None:
    """A binary message goes upwards as it is, and so does one that came as base64."""
    engine = open_engine()
    engine.receive('451-["e",{"_placeholder":true,"num":0}]')
    assert list(engine.receive(attachment)) == [Packet(EVENT, "/", None, ["e", b"\x00\xff"])]


def test_open_heartbeat_between_attachments() -> None:
    """A pong may come between a packet and its attachments."""
    engine = open_engine()
    engine.tick(INTERVAL)
    engine.receive('451-["e",{"_placeholder":true,"num":0}]')
    assert list(engine.receive("3")) == []
    assert engine.heartbeat.state is HeartbeatState.QUIET
    assert list(engine.receive(b"x")) == [Packet(EVENT, "/", None, ["e", b"x"])]


@pytest.mark.parametrize("pong", ["3", "3probe"])
def test_open_pong(pong: str) -> None:
    """A pong is noted: the client lives on."""
    engine = open_engine()
    assert list(engine.tick(INTERVAL)) == [SendPing()]
    assert list(engine.receive(pong)) == []
    assert engine.heartbeat.state is HeartbeatState.QUIET
    assert engine.deadline == 2 * INTERVAL


@pytest.mark.parametrize("message", ["0", "1", "5", "6", '0{"sid":"x"}', "6x"])
def test_open_meaningless(message: str) -> None:
    """Types that mean nothing from a client on an open WebSocket are ignored."""
    engine = open_engine()
    assert list(engine.receive(message)) == []
    assert engine.state is EngineState.OPEN


@pytest.mark.parametrize(
    "message",
    ["2", "2probe", "7", "9", "", "x", "\u0664", "\ud800", "\0", "bA", "b!!!!"],
    ids=ascii,
)
def test_open_other_type(message: str) -> None:
    """A ping, an unknown type, an empty message and bad base64 end the session."""
    engine = open_engine()
    assert_ended(engine, engine.receive(message), reasons.PARSE_ERROR)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("4", reasons.PARSE_ERROR),
        ("42{}", reasons.PARSE_ERROR),
        ('42["disconnect"]', reasons.PARSE_ERROR),
        ("40", reasons.FORCED_CLOSE),
        ('42/n,["e"]', reasons.FORCED_CLOSE),
        ('44{"message":"m"}', reasons.FORCED_CLOSE),
        (b"x", reasons.PARSE_ERROR),
        ("bAP8=", reasons.PARSE_ERROR),
    ],
    ids=repr,
)
def test_open_violation_above(message: str | bytes, reason: Reason) -> None:
    """What breaks the rules of the layer above ends the session too."""
    engine = open_engine()
    assert_ended(engine, engine.receive(message), reason)


@pytest.mark.parametrize("message", ['42["e"]', "41", "43[]", '44{"message":"m"}'])
def test_open_first_packet(message: str) -> None:
    """The first packet has to be a CONNECT."""
    engine = new_engine()
    effects = engine.receive(message)
    assert [type(effect) for effect in effects] == [End]
    assert_closed(engine)


def test_open_tick() -> None:
    """Nothing is due before the deadline."""
    engine = open_engine()
    assert engine.deadline == INTERVAL
    assert list(engine.tick(INTERVAL - 0.01)) == []


def test_open_tick_ping() -> None:
    """A ping is due after the interval."""
    engine = open_engine()
    assert list(engine.tick(INTERVAL)) == [SendPing()]
    assert engine.deadline == INTERVAL + TIMEOUT


def test_open_tick_expiry() -> None:
    """A session whose pong is overdue ends."""
    engine = open_engine()
    engine.tick(INTERVAL)
    effects = engine.tick(INTERVAL + TIMEOUT)
    assert engine.deadline == math.inf
    assert_ended(engine, effects, reasons.PING_TIMEOUT)


def test_open_messages_are_no_pong() -> None:
    """Only a pong shows that the client lives."""
    engine = open_engine()
    engine.tick(INTERVAL)
    engine.receive('42["e"]')
    assert_ended(engine, engine.tick(INTERVAL + TIMEOUT), reasons.PING_TIMEOUT)


def test_open_tick_upwards() -> None:
    """The layer above has its deadline, with a living heartbeat as well."""
    engine = new_engine()
    assert list(engine.tick(INTERVAL)) == [SendPing()]
    engine.receive("3")
    assert engine.deadline == CONNECT_TIMEOUT
    [end] = engine.tick(CONNECT_TIMEOUT)
    assert isinstance(end, End)
    assert end.reason == reasons.CONNECT_TIMEOUT


def test_open_tick_ping_and_upwards() -> None:
    """A late tick does both when both are due."""
    engine = new_engine()
    assert list(engine.tick(CONNECT_TIMEOUT)) == [SendPing(), End(reasons.CONNECT_TIMEOUT)]


# --- The table: CLOSED


@pytest.mark.parametrize(
    "act",
    [
        lambda engine: engine.receive('42["e"]'),
        lambda engine: engine.receive(b"x"),
        lambda engine: engine.receive("3"),
        lambda engine: engine.receive("9"),
        lambda engine: engine.tick(1e9),
        lambda engine: engine.close() or (),
    ],
    ids=["message", "binary message", "pong", "other type", "tick", "close"],
)
def test_closed(act: Callable[[Engine], Any]) -> None:
    """Nothing means anything after the end."""
    engine = closed_engine()
    assert list(act(engine)) == []
    assert_closed(engine)


# --- Anything

tokens = st.sampled_from([*"0123456b-,/[]{}x", '["e"]', "/n,", "40", "42", "451-", '"num":0'])
messages = st.binary() | st.text(st.characters(codec=None)) | st.lists(tokens).map("".join)
LEGAL = (Connect, Left, RefuseConnect, End, Packet)


@given(st.lists(messages))
def test_receive_anything(sent: list[str | bytes]) -> None:
    """Whatever comes has legal effects, and nothing comes after the end."""
    engine = open_engine()
    ends = 0
    for message in sent:
        effects = list(engine.receive(message))
        assert not (ends and effects)
        assert all(isinstance(effect, LEGAL) for effect in effects)
        ends += sum(isinstance(effect, End) for effect in effects)
    assert ends <= 1
    assert (engine.state is EngineState.CLOSED) == (ends == 1)


# --- The hot path says what the long way says

EVENTS = ['42["e"]', '427["e",{"a":[1]}]', f'42{"1" * 15}["e"]']
OTHERS: list[str | bytes] = [
    *("42[]", "42[7]", '42["connect"]', '42["e"', '42"e"', "42", "427", f'42{"1" * 16}["e"]'),
    *('42\u0663["e"]', '42-1["e"]', '42/n,["e"]', '42/,["e"]', '42["\\ud800"]'),
    *("40", "40/n,", "41", "41/n,", '437["e"]', "3", "2", "6", "x", ""),
    *('451-["e",{"_placeholder":true,"num":0}]', "b", "bAA==", b"x", b"4"),
]
PUT_OUT = "put out"


@pytest.mark.parametrize("event", EVENTS)
def test_event(event: str) -> None:
    """An event of the main namespace is taken the short way, as it would be the long way."""
    packet = open_engine().receive_event(event)
    assert [packet] == list(open_engine().receive(event))
    assert new_engine().receive_event(event) is None
    assert closed_engine().receive_event(event) is None
    assembling = open_engine()
    assert list(assembling.receive('451-["e",{"_placeholder":true,"num":0}]')) == []
    assert assembling.receive_event(event) is None


@given(st.lists(st.sampled_from([*EVENTS * 4, *OTHERS, PUT_OUT]), max_size=12))
def test_event_among_others(script: list[str | bytes]) -> None:
    """What is taken the short way is what it would be the long way, whatever came before."""
    short, long = open_engine(), open_engine()
    for message in script:
        if message is PUT_OUT:
            short.multiplex.put_out("/", 1.0)
            long.multiplex.put_out("/", 1.0)
            continue
        packet = short.receive_event(message)
        found = list(short.receive(message)) if packet is None else [packet]
        asked = list(long.receive(message))
        assert [repr(effect) for effect in found] == [repr(effect) for effect in asked]
        if found and isinstance(found[0], Connect) and isinstance(asked[0], Connect):
            short.multiplex.accepted(found[0])
            long.multiplex.accepted(asked[0])
        assert short.state is long.state
