"""The namespaces of one connection, cell by cell and against a naive model."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from trio_rt import reasons
from trio_rt.codec.socketio import ACK, EVENT, Packet
from trio_rt.machine.effects import Connect, End, Left, RefuseConnect
from trio_rt.machine.engine import Engine
from trio_rt.machine.heartbeat import Heartbeat
from trio_rt.machine.multiplex import MAX_NAME_CHARS, Multiplex
from trio_rt.reasons import Reason

TIMEOUT = 45.0
NEVER = math.inf
PLACEHOLDER = '{"_placeholder":true,"num":0}'


def new_multiplex(*, max_namespaces: int = 3, max_attachments: int = 10) -> Multiplex:
    return Multiplex(max_namespaces, max_attachments, TIMEOUT, 0.0)


def absent() -> Multiplex:
    return new_multiplex()


def connecting() -> Multiplex:
    multiplex = absent()
    assert list(multiplex.receive("0/n,")) == [Connect("/n", None)]
    return multiplex


def request(multiplex: Multiplex, name: str) -> Connect:
    """What the server is asked when a client wants to be in a namespace."""
    [asked] = multiplex.receive(f"0{name},")
    assert isinstance(asked, Connect)
    return asked


def let_in(multiplex: Multiplex, name: str) -> Multiplex:
    assert multiplex.accepted(request(multiplex, name))
    return multiplex


def connected() -> Multiplex:
    return let_in(absent(), "/n")


def put_out() -> Multiplex:
    multiplex = connected()
    multiplex.put_out("/n", 100.0)
    return multiplex


def assert_ends(effects: Any, reason: Reason) -> None:
    """That the only effect is the end, for this reason."""
    [end] = effects
    assert isinstance(end, End)
    assert (end.reason.code, end.reason.come_back) == (reason.code, reason.come_back)


# --- The table. A cell that is None is a violation.

INPUTS = {
    "CONNECT": '0/n,{"token":"t"}',
    "EVENT": '2/n,["e",1]',
    "EVENT with an id": '2/n,0["e"]',
    "ACK": "3/n,7[]",
    "DISCONNECT": "1/n,",
    "CONNECT_ERROR": '4/n,{"message":"m"}',
}
CONNECT = [Connect("/n", {"token": "t"})]
LEFT = [Left("/n")]
ON = [
    [Packet(EVENT, "/n", None, ["e", 1])],
    [Packet(EVENT, "/n", 0, ["e"])],
    [Packet(ACK, "/n", 7, [])],
]
IGNORED: list[Any] = []

TABLE: dict[Callable[[], Multiplex], list[Any]] = {
    absent: [CONNECT, None, None, None, None, None],
    connecting: [None, None, None, None, LEFT, None],
    connected: [None, *ON, LEFT, None],
    put_out: [CONNECT, IGNORED, IGNORED, IGNORED, IGNORED, None],
}


@pytest.mark.parametrize("make", TABLE, ids=lambda make: make.__name__.upper())
@pytest.mark.parametrize("name", INPUTS)
def test_table(make: Callable[[], Multiplex], name: str) -> None:
    """Each packet means, in each place, what the table says."""
    expected = TABLE[make][list(INPUTS).index(name)]
    effects = make().receive(INPUTS[name])
    if expected is None:
        assert_ends(effects, reasons.FORCED_CLOSE)
    else:
        assert list(effects) == expected


@pytest.mark.parametrize("name", ["EVENT", "ACK", "DISCONNECT"])
def test_places_are_apart(name: str) -> None:
    """To be in one namespace allows nothing in another."""
    multiplex = connected()
    assert_ends(multiplex.receive(INPUTS[name].replace("/n", "/m")), reasons.FORCED_CLOSE)


def test_left_is_absent() -> None:
    """After its own DISCONNECT a client may connect again, and do nothing else."""
    multiplex = connected()
    assert list(multiplex.receive("1/n,")) == LEFT
    assert_ends(multiplex.receive(INPUTS["EVENT"]), reasons.FORCED_CLOSE)
    assert list(multiplex.receive(INPUTS["CONNECT"])) == CONNECT


def test_refused_is_absent() -> None:
    """A client that was not let in may ask again."""
    multiplex = absent()
    assert multiplex.refused(request(multiplex, "/n"), 1.0)
    assert list(multiplex.receive(INPUTS["CONNECT"])) == CONNECT


@pytest.mark.parametrize("asks_again", [False, True])
def test_left_while_connecting(asks_again: bool) -> None:
    """An answer to a client that has left meanwhile is none, though it may ask anew."""
    multiplex = absent()
    first = request(multiplex, "/n")
    assert list(multiplex.receive("1/n,")) == LEFT
    second = request(multiplex, "/n") if asks_again else None
    assert not multiplex.accepted(first)
    assert not multiplex.refused(first, 1.0)
    assert second is None or multiplex.accepted(second)


def test_put_out_while_connecting() -> None:
    """Only a client that is connected can be put out."""
    multiplex = connecting()
    multiplex.put_out("/n", 1.0)
    assert list(multiplex.receive(INPUTS["CONNECT"])) == CONNECT


def test_put_out_and_back() -> None:
    """Who was put out and is let in again is connected like anybody else."""
    multiplex = let_in(put_out(), "/n")
    assert list(multiplex.receive(INPUTS["EVENT"])) == ON[0]


# --- Bad input

BAD = {
    "nothing": "",
    "an unknown type": "9",
    "EVENT with an object": "2{}",
    "EVENT with an empty array": "2[]",
    "EVENT without a payload": "2",
    "EVENT with a bad id": '2abc["e"]',
    "EVENT with bad JSON": '2["e"',
    "EVENT with a reserved name": '2["disconnect"]',
    "EVENT nested too deep": '2["e",' + "[" * 100_000,
    "ACK without a payload": "312",
    "CONNECT with an array": "0[]",
    "CONNECT with a string": '0"x"',
    "CONNECT with null": "0null",
    "BINARY_EVENT with a bad count": f'5x-["e",{PLACEHOLDER}]',
    "BINARY_EVENT with no attachments": '50-["e"]',
    "an attachment without a packet": b"x",
    "an empty attachment without a packet": b"",
}


@pytest.mark.parametrize("make", [absent, connecting, connected, put_out])
@pytest.mark.parametrize("payload", BAD.values(), ids=BAD)
def test_malformed(make: Callable[[], Multiplex], payload: str | bytes) -> None:
    """What cannot be read ends the connection, wherever the client is."""
    assert_ends(make().receive(payload), reasons.PARSE_ERROR)


# --- Attachments


def test_attachments() -> None:
    """A binary event is handed on whole, with its last attachment."""
    multiplex = connected()
    second = PLACEHOLDER.replace("0", "1")
    assert list(multiplex.receive(f'52-/n,5["e",{second},{PLACEHOLDER}]')) == []
    assert list(multiplex.receive(b"a")) == []
    assert list(multiplex.receive(b"b")) == [Packet(EVENT, "/n", 5, ["e", b"b", b"a"])]
    assert list(multiplex.receive(INPUTS["EVENT"])) == ON[0]


def test_attachments_of_an_acknowledgement() -> None:
    """A binary acknowledgement is handed on whole too."""
    multiplex = connected()
    assert list(multiplex.receive(f"61-/n,5[{PLACEHOLDER}]")) == []
    assert list(multiplex.receive(b"a")) == [Packet(ACK, "/n", 5, [b"a"])]


@pytest.mark.parametrize(
    ("make", "expected"), [(absent, None), (connecting, None), (put_out, IGNORED)]
)
def test_attachments_elsewhere(make: Callable[[], Multiplex], expected: Any) -> None:
    """A binary event means in each place what a plain one does."""
    multiplex = make()
    effects = multiplex.receive(f'51-/n,["e",{PLACEHOLDER}]')
    if expected is None:
        assert_ends(effects, reasons.FORCED_CLOSE)  # before an attachment is kept for it
    else:
        assert list(effects) == []
        assert list(multiplex.receive(b"a")) == expected


@pytest.mark.parametrize("text", [*INPUTS.values(), f'51-/n,["e",{PLACEHOLDER}]'])
def test_text_between_attachments(text: str) -> None:
    """Nothing may come between a packet and its attachments."""
    multiplex = connected()
    multiplex.receive(f'51-/n,["e",{PLACEHOLDER}]')
    assert_ends(multiplex.receive(text), reasons.PARSE_ERROR)


def test_one_attachment_too_many() -> None:
    """A packet gets no more attachments than it announced."""
    multiplex = connected()
    multiplex.receive(f'51-/n,["e",{PLACEHOLDER}]')
    multiplex.receive(b"a")
    assert_ends(multiplex.receive(b"b"), reasons.PARSE_ERROR)


def test_attachments_that_do_not_fit() -> None:
    """Placeholders that do not fit the attachments end the connection."""
    multiplex = connected()
    multiplex.receive('51-/n,["e",{"_placeholder":true,"num":1}]')
    assert_ends(multiplex.receive(b"a"), reasons.PARSE_ERROR)


@pytest.mark.parametrize("depth", [300, 600, 900])
def test_attachments_in_depth(depth: int) -> None:
    """A nested binary event arrives or ends the connection, whatever Python can follow."""
    multiplex = connected()
    effects = multiplex.receive('51-/n,["e",' + "[" * depth + PLACEHOLDER + "]" * depth + "]")
    effects = effects or multiplex.receive(b"a")
    if not isinstance(effects[0], Packet):
        assert_ends(effects, reasons.PARSE_ERROR)


def test_max_attachments() -> None:
    """As many attachments as the limit says may come, and one more not."""
    multiplex = connected()
    assert list(multiplex.receive(f'510-/n,["e",{PLACEHOLDER}]')) == []
    assert_ends(connected().receive(f'511-/n,["e",{PLACEHOLDER}]'), reasons.PARSE_ERROR)
    assert_ends(connected().receive(f'5{"9" * 15}-/n,["e"]'), reasons.PARSE_ERROR)


# --- Limits


def test_max_namespaces() -> None:
    """One namespace too many is refused by name, and everything else goes on."""
    multiplex = let_in(new_multiplex(max_namespaces=2), "/")
    assert list(multiplex.receive("0/n,")) == [Connect("/n", None)]
    [refusal] = multiplex.receive("0/m,")
    assert isinstance(refusal, RefuseConnect)
    assert (refusal.namespace, refusal.code) == ("/m", "too_many_namespaces")
    assert "2" in refusal.message
    assert list(multiplex.receive('2["e"]')) == [Packet(EVENT, "/", None, ["e"])]


def test_max_namespaces_after_one_was_left() -> None:
    """Leaving makes room."""
    multiplex = let_in(new_multiplex(max_namespaces=1), "/n")
    multiplex.receive("1/n,")
    assert list(multiplex.receive("0/m,")) == [Connect("/m", None)]


def test_max_namespaces_after_being_put_out() -> None:
    """Being put out makes room, and only the latest are remembered."""
    multiplex = new_multiplex(max_namespaces=1)
    for name in ("/n", "/m"):
        let_in(multiplex, name).put_out(name, 1.0)
    assert list(multiplex.receive('2/m,["e"]')) == IGNORED
    assert_ends(multiplex.receive('2/n,["e"]'), reasons.FORCED_CLOSE)


def test_max_name() -> None:
    """A namespace's name has a largest length."""
    longest = "/" + "n" * (MAX_NAME_CHARS - 1)
    assert list(absent().receive(f"0{longest}")) == [Connect(longest, None)]
    assert_ends(absent().receive(f"0{longest}n"), reasons.FORCED_CLOSE)


# --- The deadline for CONNECT


def test_deadline() -> None:
    """A connection that is in no namespace in time ends, once."""
    multiplex = absent()
    assert multiplex.deadline == TIMEOUT
    assert list(multiplex.tick(TIMEOUT - 0.01)) == []
    assert_ends(multiplex.tick(TIMEOUT), reasons.CONNECT_TIMEOUT)
    assert list(multiplex.tick(TIMEOUT + 1)) == []
    assert multiplex.deadline == NEVER


def test_deadline_while_connecting() -> None:
    """To have asked is not to be in."""
    multiplex = connecting()
    assert multiplex.deadline == TIMEOUT
    assert_ends(multiplex.tick(TIMEOUT), reasons.CONNECT_TIMEOUT)


def test_deadline_when_connected() -> None:
    """Once connected there is none."""
    multiplex = connected()
    assert multiplex.deadline == NEVER
    assert list(multiplex.tick(1e9)) == []


def test_deadline_when_refused() -> None:
    """A refusal does not give the client more time."""
    multiplex = absent()
    multiplex.refused(request(multiplex, "/n"), 30.0)
    assert multiplex.deadline == TIMEOUT


def leave(multiplex: Multiplex, name: str, now: float) -> None:
    """As a client does, and as the server does when it is told."""
    assert list(multiplex.receive(f"1{name},")) == [Left(name)]
    multiplex.check_deserted(now)


@pytest.mark.parametrize("end", [Multiplex.put_out, leave])
def test_deadline_when_deserted(end: Callable[[Multiplex, str, float], None]) -> None:
    """Who has left, or was put out of, its last namespace has the whole time again."""
    multiplex = let_in(connected(), "/m")
    end(multiplex, "/n", 100.0)
    assert multiplex.deadline == NEVER
    end(multiplex, "/m", 110.0)
    assert multiplex.deadline == 110.0 + TIMEOUT


# --- Against a model

NAMES = ["/", "/a", "/b", "/c"]
LIMIT = 2
DATA = {"2": '7["e"]', "3": "7[]", "4": '{"message":"m"}'}


class MultiplexModel(RuleBasedStateMachine):
    """The model is three sets of names, and the time since which the client has been nowhere."""

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.multiplex = new_multiplex(max_namespaces=LIMIT)
        self.engine = Engine(Heartbeat(1e9, 1e9, 0.0), self.multiplex)
        self.asked: set[str] = set()
        self.requests: dict[str, Connect] = {}
        self.inside: set[str] = set()
        self.thrown_out: list[str] = []  # the latest last; older ones are forgotten
        self.nowhere_since: float | None = 0.0
        self.has_ended = False

    def receive(self, payload: str | bytes) -> list[Any]:
        message = payload if isinstance(payload, bytes) else f"4{payload}"
        return list(self.engine.receive(message))

    @precondition(lambda self: not self.has_ended)
    @rule(data=st.data())
    def client_connects(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted({*NAMES} - self.asked - self.inside)))
        effects = self.receive(f"0{name},")
        if len(self.asked | self.inside) >= LIMIT:
            assert [type(effect) for effect in effects] == [RefuseConnect]
            assert effects[0].namespace == name
        else:
            assert effects == [Connect(name, None)]
            if name in self.thrown_out:
                self.thrown_out.remove(name)
            self.asked.add(name)
            self.requests[name] = effects[0]

    @precondition(lambda self: not self.has_ended and (self.inside or self.thrown_out))
    @rule(data=st.data(), kind=st.sampled_from([EVENT, ACK]), is_binary=st.booleans())
    def client_sends(self, data: st.DataObject, kind: int, is_binary: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.inside.union(self.thrown_out))))
        if is_binary:
            assert self.receive(f'{kind + 3}1-{name},7["e",{PLACEHOLDER}]') == []
            effects, sent = self.receive(b"x"), b"x"
        else:
            effects, sent = self.receive(f'{kind}{name},7["e","x"]'), "x"
        expected = [Packet(kind, name, 7, ["e", sent])] if name in self.inside else []
        assert effects == expected

    @precondition(lambda self: not self.has_ended and self.known)
    @rule(data=st.data())
    def client_leaves(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.known)))
        effects = self.receive(f"1{name},")
        if name in self.thrown_out:
            assert effects == []
            return
        assert effects == [Left(name)]
        self.asked.discard(name)
        self.leave(name)
        self.multiplex.check_deserted(self.now)  # as the server does when it is told

    @rule(kind=st.sampled_from("01234"), name=st.sampled_from(NAMES))
    def client_breaks_a_rule(self, kind: str, name: str) -> None:
        """In a copy of the session, because it is over then."""
        if not self.has_ended and self.is_legal(kind, name):
            return
        engine = copy.deepcopy(self.engine)
        text = f"4{kind}{name},{DATA.get(kind, '')}"
        if not self.has_ended:
            assert_ends(engine.receive(text), reasons.FORCED_CLOSE)
        for message in (text, b"x", "40/new,"):
            assert list(engine.receive(message)) == []
        assert list(engine.tick(1e9)) == []

    def is_legal(self, kind: str, name: str) -> bool:
        if kind == "0":
            return name not in self.asked | self.inside
        if kind == "1":
            return name in self.known
        return kind != "4" and name in self.inside.union(self.thrown_out)

    @precondition(lambda self: not self.has_ended and self.asked)
    @rule(data=st.data(), is_accepted=st.booleans())
    def server_answers(self, data: st.DataObject, is_accepted: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.asked)))
        self.asked.discard(name)
        if is_accepted:
            self.inside.add(name)
            self.nowhere_since = None
            assert self.multiplex.accepted(self.requests[name])
        else:
            assert self.multiplex.refused(self.requests[name], self.now)

    @precondition(lambda self: not self.has_ended and self.inside)
    @rule(data=st.data())
    def server_puts_out(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.inside)))
        self.leave(name)
        self.thrown_out = [*self.thrown_out, name][-LIMIT:]
        self.multiplex.put_out(name, self.now)

    @precondition(lambda self: not self.has_ended)
    @rule(seconds=st.sampled_from([0.0, 1.0, TIMEOUT / 2, TIMEOUT]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        effects = list(self.multiplex.tick(self.now))
        if self.nowhere_since is not None and self.now >= self.nowhere_since + TIMEOUT:
            assert_ends(effects, reasons.CONNECT_TIMEOUT)
            self.engine.close()  # as the connection does when it is told
            self.has_ended = True
        else:
            assert effects == []
            assert self.multiplex.deadline > self.now

    def leave(self, name: str) -> None:
        was_inside = name in self.inside
        self.inside.discard(name)
        if was_inside and not self.inside:
            self.nowhere_since = self.now

    @property
    def known(self) -> set[str]:
        return self.asked.union(self.inside, self.thrown_out)

    @invariant()
    def is_never_in_too_many(self) -> None:
        assert len(self.asked | self.inside) <= LIMIT

    @invariant()
    def has_a_deadline_if_nothing_is_connected(self) -> None:
        if self.has_ended:
            return
        if self.inside:
            assert self.multiplex.deadline == NEVER
        else:
            assert self.nowhere_since is not None
            assert self.multiplex.deadline == self.nowhere_since + TIMEOUT


TestMultiplexModel = MultiplexModel.TestCase
