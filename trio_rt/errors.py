"""Every exception of trio_rt.

RealtimeError
├── LocalError               your side did it
│   ├── MisuseError          a call that can never work; the message has the right one
│   └── LimitError           a limit of this node would be passed
├── RemoteError              the peer did it, or is not there
│   ├── RemoteProtocolError  it broke the protocol; carries the reason to end with
│   ├── TransportClosed      its transport ended; carries the reason
│   ├── Disconnected         the socket is gone, so it can neither get nor answer anything
│   ├── Refused              it said no to us, as a server does by `Refuse`
│   └── CallTimeout          no acknowledgement came in time (also a TimeoutError)
├── BackplaneError           what joins the nodes of a cluster did it, or is not there
│   ├── BackplaneDown        it cannot be reached; says whether the command may have been done
│   └── BackplaneRefused     it said no, and will again: wrong password, certificate, version
└── Refuse                   raised by YOU to say no; the client is told
"""

from collections.abc import Mapping
from typing import Any, NoReturn

from trio_rt import reasons
from trio_rt.reasons import Reason


class RealtimeError(Exception):
    """The root of all exceptions that trio_rt raises."""


class Misnomer:
    """An attribute that other frameworks have: whoever reads it is told what there is instead.

    One for each such name, and no `__getattr__`: with that, Python 3.11 takes four times as long
    for every attribute that there is.
    """

    def __init__(self, name: str, right: str) -> None:
        self._name = name
        self._right = right

    def __get__(self, owner: object, kind: type) -> NoReturn:
        message = f"{kind.__name__!r} object has no attribute {self._name!r}. Write: {self._right}"
        raise AttributeError(message, name=self._name, obj=owner)


def name_misnomers(kind: type, right: Mapping[str, str]) -> None:
    """Gives a class its misnomers: what to write instead, by name."""
    for name, call in right.items():
        setattr(kind, name, Misnomer(name, call))


class LocalError(RealtimeError):
    """This side did something that cannot be done now."""


class MisuseError(LocalError):
    """A call that can never work. The message names the right one."""


class LimitError(LocalError):
    """A limit of this node would be passed. The message names the limit and its setting."""


class RemoteError(RealtimeError):
    """The peer did something wrong, or is not there any more."""


class RemoteProtocolError(RemoteError):
    """The peer broke the protocol.

    Attributes:
        reason: how the connection has to end because of it.
    """

    def __init__(self, message: str, reason: Reason = reasons.PARSE_ERROR) -> None:
        super().__init__(message)
        self.reason = reason.because(message)


class TransportClosed(RemoteError):
    """The transport has ended: nothing more can be received or sent.

    Attributes:
        reason: why it ended.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.text)
        self.reason = reason


class Disconnected(RemoteError):
    """The socket is gone, so it can neither get nor answer anything.

    Attributes:
        reason: why it ended.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"the socket is disconnected: {reason.text}")
        self.reason = reason


class Refused(RemoteError):
    """The server said no: to a client that wants to connect, or to its call.

    Attributes:
        code: a stable name for programs; empty if the server gives none.
        message: one sentence for people.
        details: any JSON value with more, or None.
    """

    def __init__(self, code: str, message: str, details: Any = None) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code
        self.message = message
        self.details = details


class CallTimeout(RemoteError, TimeoutError):
    """No acknowledgement came in time."""


class BackplaneError(RealtimeError):
    """What joins the nodes of a cluster failed."""


class BackplaneDown(BackplaneError):
    """The backplane cannot be reached now. It may be back in a moment.

    Attributes:
        outcome_unknown: whether the command may have been carried out all the same. If False it
            certainly was not, and can be given again without harm.
    """

    def __init__(self, message: str, *, outcome_unknown: bool) -> None:
        ending = "it may have been carried out" if outcome_unknown else "it was not carried out"
        super().__init__(f"{message}; {ending}")
        self.outcome_unknown = outcome_unknown


class BackplaneRefused(BackplaneError):
    """The backplane says no, and will say no again until somebody changes its or our settings."""


class Refuse(RealtimeError):
    """Say no to a client, and tell it why.

    Raise it in a handler: the acknowledgement, or an `error` event where none was asked for, has
    `{"error": {"code", "message", "details"}}`. Raise it in an authenticator, a middleware or
    `on_connect`: the client gets a CONNECT_ERROR.

    Args:
        code: a stable name for programs, such as `"forbidden"`.
        message: one sentence for people; the code if left out.
        details: any JSON value with more, sent as it is.

    Raises:
        MisuseError: if the code is no text.
    """

    def __init__(self, code: str, message: str = "", details: Any = None) -> None:
        if not isinstance(code, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MisuseError(
                f"a refusal has a name that programs know, not {code!r}. "
                f'Write: raise Refuse("forbidden", "you may not do that")'
            )
        super().__init__(message or code)
        self.code = code
        self.message = message or code
        self.details = details
