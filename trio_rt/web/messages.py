"""The values of one HTTP exchange as a route sees them: a request, a response, a refusal.

Whatever goes wrong is answered in one shape, the one that acknowledgements have too:
`{"error": {"code": str, "message": str, "details": any JSON value}}`.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar, overload

import attrs
import msgspec

from trio_rt.errors import MisuseError, RemoteError
from trio_rt.web.files import File

T = TypeVar("T")

JSON_TYPE = "application/json"

# RFC 9110, section 5: a token; and visible characters with blanks between them, so that no value
# can smuggle a line of its own.
_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"(?:[!-~\x80-\xff]+(?:[ \t]+[!-~\x80-\xff]+)*)?")
_FRAMING = frozenset(("content-length", "content-type", "transfer-encoding"))
_BODILESS = frozenset((204, 304))


def check_header(name: str, value: str) -> None:
    """Sees that a header may be sent.

    Raises:
        MisuseError: if the name is no token, the value has control characters or is not Latin-1,
            or the header is one that is derived from the response.
    """
    if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
        raise MisuseError(f"{name!r}: {value!r} is no valid HTTP header")
    if name.lower() in _FRAMING:
        raise MisuseError(
            f"{name} is set from the response itself: "
            "write Response(body, content_type=...) and leave its length out"
        )


def _as_body(body: bytes | str | File) -> bytes | File:
    return body.encode() if isinstance(body, str) else body


def _as_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        check_header(name, value)
    return MappingProxyType({name.lower(): value for name, value in headers.items()})


@attrs.frozen
class Request:
    """One request, with its whole body."""

    method: str
    """In capitals, as sent. A HEAD comes to the route of GET."""

    path: str
    """Percent-decoded, without the query; starts with a slash."""

    query: Mapping[str, str] = attrs.field(factory=dict[str, str])
    """The decoded query; of a name that comes twice, the last."""

    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    """Lower-case names; what came twice is joined as RFC 9110, section 5.3 says."""

    body: bytes = b""
    """Empty if there was none."""

    peer: str = ""
    """The address of the other end of the connection, which may be a proxy."""

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, type: type[T]) -> T: ...
    @overload
    def json(self, type: Any) -> Any: ...
    def json(self, type: Any = Any) -> Any:
        """The body as JSON, validated strictly.

        Args:
            type: what it has to be: an attrs class, a msgspec struct, a dataclass, a TypedDict,
                `list[int]` and so on.

        Raises:
            HttpError: if the content type is not JSON (415: a browser sends other types to foreign
                sites without asking them first), or the body is no such value (400, with the
                path of the wrong part). Let it pass: it is the answer.
        """
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != JSON_TYPE and not kind.endswith("+json"):
            raise HttpError(415, "unsupported_media_type", f"send it as {JSON_TYPE}")
        try:
            return msgspec.json.decode(self.body, type=type)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise HttpError(400, "invalid", str(error)) from error
        except RecursionError as error:
            raise HttpError(400, "invalid", "the JSON is nested too deeply") from error


@attrs.frozen
class Response:
    """What a route answers.

    Raises:
        MisuseError: if the status is none of 200 to 599, a header cannot be sent, or a status
            without a body (204, 304) has one.
    """

    body: bytes | File = attrs.field(default=b"", converter=_as_body)
    """Text is sent as UTF-8."""

    status: int = 200
    """200 to 599."""

    content_type: str = "text/plain; charset=utf-8"
    """Sent as it is, so text says its charset."""

    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], converter=_as_headers)
    """More headers; they take precedence over those of the pages. One value a name."""

    def __attrs_post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise MisuseError(f"{self.status} is no final HTTP status: use 200 to 599")
        if not _VALUE.fullmatch(self.content_type):
            raise MisuseError(f"{self.content_type!r} is no valid content type")
        if self.is_bodiless and self.size:
            raise MisuseError(f"a response with status {self.status} cannot have a body")

    @classmethod
    def json(
        cls, value: Any, status: int = 200, *, headers: Mapping[str, str] | None = None
    ) -> "Response":
        """A response with a JSON body.

        Args:
            value: a JSON value, or any attrs, msgspec or dataclass object.
            status: 200 to 599.
            headers: more headers.

        Raises:
            TypeError: if `value` cannot be JSON.
        """
        return cls(msgspec.json.encode(value), status, JSON_TYPE, headers or {})

    @classmethod
    def error(
        cls,
        status: int,
        code: str,
        message: str,
        *,
        details: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> "Response":
        """A response in the shape that all refusals have; see the module's head."""
        told = {"code": code, "message": message, "details": details}
        return cls.json({"error": told}, status, headers=headers)

    @property
    def size(self) -> int:
        """Length of the body in bytes."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.size

    @property
    def is_bodiless(self) -> bool:
        """Whether the status forbids a body (RFC 9110, section 6.4.1)."""
        return self.status in _BODILESS


class HttpError(RemoteError):
    """A request that is answered with an error. Raise it in a route to say so.

    Args:
        status: 400 to 599.
        code: a stable name for programs, such as `"not_found"`.
        message: one sentence for people, without the peer's own bytes.
        details: any JSON value with more.
        headers: more headers of the response.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str = "",
        details: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message or code)
        self.status = status
        self.code = code
        self.message = message or code
        self.details = details
        self.headers = headers

    def response(self) -> Response:
        """The error as a response."""
        return Response.error(
            self.status, self.code, self.message, details=self.details, headers=self.headers
        )
