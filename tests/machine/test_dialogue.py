"""The client's half of Engine.IO and Socket.IO, by table and against what may come."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_rt import reasons
from trio_rt.codec.socketio import ACK, EVENT, Packet
from trio_rt.machine.dialogue import (
    Connected,
    ConnectRefused,
    Dialogue,
    DialogueState,
    Effect,
    Opened,
    PutOut,
    SendPong,
)
from trio_rt.machine.effects import End

OPEN = '0{"sid":"e","upgrades":[],"pingInterval":10000,"pingTimeout":4000,"maxPayload":1000}'
PONG = (SendPong(),)
S = DialogueState


def new_dialogue(*asked: str, connected: Sequence[str] = ()) -> Dialogue:
    """An open one, with namespaces."""
    dialogue = Dialogue(max_attachments=10)
    assert dialogue.receive(OPEN, 0.0) == (Opened(1000),)
    for name in (*asked, *connected):
        dialogue.ask(name)
    for name in connected:
        assert dialogue.receive(f'40{name},{{"sid":"S"}}', 0.0) == (
            Connected(name, "S", None, False),
        )
    return dialogue


def assert_ended(dialogue: Dialogue, effects: Sequence[Effect], reason: reasons.Reason) -> None:
    [end] = effects
    assert isinstance(end, End)
    assert end.reason.code == reason.code
    assert dialogue.state is S.CLOSED
    assert dialogue.deadline == math.inf
    assert dialogue.receive("2", 0.0) == ()
    assert dialogue.tick(1e9) == ()


# The session


@pytest.mark.parametrize("first", ["2", "40", "1", "", "0", "0[]", "0{}", b"binary", "0{"])
def test_opening(first: str | bytes) -> None:
    """Before the open packet nothing else may come."""
    dialogue = Dialogue(max_attachments=10)
    assert dialogue.deadline == math.inf
    assert_ended(dialogue, dialogue.receive(first, 0.0), reasons.PARSE_ERROR)


@pytest.mark.parametrize("message", [OPEN, "9", "", "x", "bad base64", b"alone", "49", "4"])
def test_no_message_of_a_server(message: str | bytes) -> None:
    """What no server sends ends the session."""
    dialogue = new_dialogue("/")
    assert_ended(dialogue, dialogue.receive(message, 0.0), reasons.PARSE_ERROR)


@pytest.mark.parametrize("message", ["1", "3", "3probe", "5", "6"])
def test_meaningless(message: str) -> None:
    """What means nothing on a WebSocket is ignored, and is no sign of life."""
    dialogue = new_dialogue()
    assert dialogue.receive(message, 5.0) == ()
    assert dialogue.deadline == 14.0


def test_heartbeat() -> None:
    """Each ping is answered, and puts the end off; silence is the end."""
    dialogue = new_dialogue()
    assert dialogue.deadline == 14.0
    assert dialogue.receive("2", 9.0) == PONG
    assert dialogue.deadline == 23.0
    assert dialogue.tick(22.9) == ()
    assert_ended(dialogue, dialogue.tick(23.0), reasons.PING_TIMEOUT)


def test_pause() -> None:
    """While nothing is read pongs go unasked, twice in each timeout, and silence is no end."""
    dialogue = new_dialogue()
    dialogue.pause(13.0)
    assert dialogue.state is S.PAUSED
    for now in (15.0, 17.0, 19.0, 21.0):
        assert dialogue.deadline == now
        assert dialogue.tick(now) == PONG
    assert dialogue.receive("2", 22.0) == PONG  # read as the last before the pause began
    assert dialogue.deadline == 23.0
    dialogue.resume(22.5)
    assert dialogue.state is S.OPEN
    assert dialogue.deadline == 36.5
    dialogue.resume(30.0)
    assert dialogue.deadline == 36.5


def test_pause_before_and_after() -> None:
    """A session that is not open cannot pause."""
    dialogue = Dialogue(max_attachments=10)
    dialogue.pause(1.0)
    assert dialogue.state is S.OPENING
    dialogue.close()
    dialogue.pause(1.0)
    assert dialogue.state is S.CLOSED


# Namespaces

PACKETS = {
    "CONNECT": '40/a,{"sid":"S2","pid":"P","rt":1}',
    "EVENT": '42/a,["e"]',
    "ACK": "43/a,1[]",
    "DISCONNECT": "41/a,",
    "CONNECT_ERROR": '44/a,{"message":"no","data":{"code":1}}',
}
TABLE: dict[tuple[str, str], Effect | None] = {
    ("absent", "CONNECT"): None,
    ("absent", "EVENT"): None,
    ("absent", "ACK"): None,
    ("absent", "DISCONNECT"): None,
    ("absent", "CONNECT_ERROR"): None,
    ("asked", "CONNECT"): Connected("/a", "S2", "P", True),
    ("asked", "EVENT"): Packet(EVENT, "/a", None, ["e"]),
    ("asked", "ACK"): Packet(ACK, "/a", 1, []),
    ("asked", "DISCONNECT"): PutOut("/a"),
    ("asked", "CONNECT_ERROR"): ConnectRefused("/a", "no", {"code": 1}),
    ("connected", "EVENT"): Packet(EVENT, "/a", None, ["e"]),
    ("connected", "ACK"): Packet(ACK, "/a", 1, []),
    ("connected", "DISCONNECT"): PutOut("/a"),
    ("connected", "CONNECT_ERROR"): ConnectRefused("/a", "no", {"code": 1}),
}


@pytest.mark.parametrize(("cell", "effect"), TABLE.items())
def test_table(cell: tuple[str, str], effect: Effect | None) -> None:
    """Each packet means what the table says."""
    place, packet = cell
    dialogue = {
        "absent": new_dialogue,
        "asked": lambda: new_dialogue("/a"),
        "connected": lambda: new_dialogue(connected=["/a"]),
    }[place]()
    assert dialogue.receive(PACKETS[packet], 0.0) == (() if effect is None else (effect,))
    if isinstance(effect, PutOut | ConnectRefused):
        assert dialogue.receive(PACKETS["EVENT"], 0.0) == (), "it is absent now"


def test_second_connect() -> None:
    """A second CONNECT for one namespace ends the session."""
    dialogue = new_dialogue(connected=["/a"])
    assert_ended(dialogue, dialogue.receive(PACKETS["CONNECT"], 0.0), reasons.PARSE_ERROR)


def test_left() -> None:
    """What comes for a namespace that was left is ignored; it may be asked for again."""
    dialogue = new_dialogue(connected=["/a", "/b"])
    dialogue.leave("/a")
    assert dialogue.receive(PACKETS["EVENT"], 0.0) == ()
    assert dialogue.receive('42/b,["e"]', 0.0) == (Packet(EVENT, "/b", None, ["e"]),)
    dialogue.ask("/a")
    assert dialogue.receive(PACKETS["CONNECT"], 0.0) == (Connected("/a", "S2", "P", True),)


@pytest.mark.parametrize("reply", ["40", "40{}", '40{"sid":7}', '40{"pid":"P"}'])
def test_connect_without_sid(reply: str) -> None:
    """A CONNECT reply has a sid."""
    dialogue = new_dialogue("/")
    assert_ended(dialogue, dialogue.receive(reply, 0.0), reasons.PARSE_ERROR)


@pytest.mark.parametrize(
    ("reply", "effect"),
    [
        ('40{"sid":"S","pid":7}', Connected("/", "S", None, False)),
        ('40{"sid":"S","rt":2}', Connected("/", "S", None, False)),
        ('40{"sid":"S","rt":true}', Connected("/", "S", None, True)),
        ("44", ConnectRefused("/", "", None)),
        ('44{"message":5}', ConnectRefused("/", "5", None)),
    ],
)
def test_odd_replies(reply: str, effect: Effect) -> None:
    """What is not understood of a reply is left out."""
    assert new_dialogue("/").receive(reply, 0.0) == (effect,)


# Attachments


def test_attachments() -> None:
    """A binary event is whole with its last attachment; pings may come between."""
    dialogue = new_dialogue(connected=["/"])
    header = '452-["e",{"_placeholder":true,"num":1},{"_placeholder":true,"num":0}]'
    assert dialogue.receive(header, 0.0) == ()
    assert dialogue.is_assembling
    assert dialogue.receive(b"one", 0.0) == ()
    assert dialogue.receive("2", 1.0) == PONG
    assert dialogue.receive("bdHdv", 0.0) == (Packet(EVENT, "/", None, ["e", b"two", b"one"]),)
    assert not dialogue.is_assembling


def test_attachments_for_nobody() -> None:
    """Attachments of an event that is ignored are ignored with it."""
    dialogue = new_dialogue()
    assert dialogue.receive('451-["e",{"_placeholder":true,"num":0}]', 0.0) == ()
    assert dialogue.receive(b"one", 0.0) == ()
    assert dialogue.state is S.OPEN


@pytest.mark.parametrize(
    "messages",
    [
        ['451-["e",{"_placeholder":true,"num":0}]', '42["text"]'],
        ['451-["e"]', b"nobody names it"],
        ['4511-["e"]'],
    ],
    ids=["text between", "not named", "too many"],
)
def test_wrong_attachments(messages: list[str | bytes]) -> None:
    """Attachments that do not fit end the session."""
    dialogue = new_dialogue(connected=["/"])
    effects: Sequence[Effect] = ()
    for message in messages:
        effects = dialogue.receive(message, 0.0)
    assert_ended(dialogue, effects, reasons.PARSE_ERROR)


# Whatever comes

texts = st.text(max_size=30)
messages = st.one_of(
    st.binary(max_size=5),
    texts,
    st.builds("4{}{}".format, st.sampled_from("0123456"), texts),
    st.sampled_from([OPEN, "2", *PACKETS.values(), '451-["e",{"_placeholder":true,"num":0}]']),
)


@given(st.lists(st.tuples(messages, st.floats(0, 30)), max_size=20), st.booleans())
def test_anything(sequence: list[tuple[str | bytes, float]], is_open: bool) -> None:
    """Whatever comes is effects, and an End is the last of them."""
    dialogue = new_dialogue("/a", "/") if is_open else Dialogue(max_attachments=10)
    now = 0.0
    effects: list[Effect] = []
    for message, seconds in sequence:
        now += seconds
        effects += dialogue.receive(message, now)
        effects += dialogue.tick(now)
        ends = [effect for effect in effects if isinstance(effect, End)]
        assert (dialogue.state is S.CLOSED) == (len(ends) == 1)
        assert not ends or effects[-1] is ends[0]
        assert dialogue.state is S.CLOSED or dialogue.deadline > now
