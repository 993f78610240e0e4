"""Serves HTTP on one stream: request after request, until someone ends it.

A route's exceptions stop here, as a handler's stop at event dispatch: they are logged once, with
an id that the client is told too, and the connection goes on.
"""

import logging
import secrets
from collections.abc import Mapping
from email.utils import formatdate

import h11
import trio

from trio_rt.errors import MisuseError, Refuse, TransportClosed
from trio_rt.web.files import FileChanged
from trio_rt.web.head import merge_headers, split_target
from trio_rt.web.idle import IdleStreams
from trio_rt.web.link import HttpLimits, HttpLink
from trio_rt.web.messages import HttpError, Request, Response
from trio_rt.web.pages import DEFAULT_HEADERS, Pages, Route
from trio_rt.web.stream import ByteStream

logger = logging.getLogger(__name__)

DEFAULT_LIMITS = HttpLimits()


async def serve_http(
    stream: ByteStream,
    pages: Pages,
    *,
    connection: h11.Connection | None = None,
    request: h11.Request | None = None,
    limits: HttpLimits = DEFAULT_LIMITS,
    idle: IdleStreams | None = None,
) -> None:
    """Answers the requests of one stream, and closes it.

    It returns when the peer leaves, stays idle, breaks the protocol or is too slow; every wait has
    its deadline in `limits`. Cancelling it closes the stream at once.

    Args:
        stream: the connected stream; it is closed at the end in any case.
        pages: what there is to see.
        connection: h11's state of the stream, if something has been read from it already.
        request: the head that was read from it by `read_head`.
        limits: what the connection may cost.
        idle: where it is listed while it waits for a request; `end` there ends it then.
    """
    link = HttpLink(stream, connection, limits, idle)
    try:
        await _serve(link, pages, request, limits)
    except TransportClosed:
        pass  # nobody is there any more to be told
    except (FileChanged, OSError) as error:
        logger.warning("a file for %s was cut short: %s", link.peer, error)
    finally:
        stream.close()


async def refuse(
    stream: ByteStream,
    answer: HttpError | Response,
    *,
    connection: h11.Connection,
    request: h11.Request | None,
    limits: HttpLimits = DEFAULT_LIMITS,
) -> None:
    """Answers with one last response, and closes the stream when the peer has had time to read it.

    It takes as long as `send_timeout` and `close_timeout` allow. Cancelling it closes the stream
    at once.

    Args:
        stream: the connected stream; it is closed at the end in any case.
        answer: what to say.
        connection: h11's state of the stream.
        request: the head that was read from it, or `None` if that failed.
        limits: what the connection may cost.
    """
    link = HttpLink(stream, connection, limits)
    if isinstance(answer, HttpError):
        _note(link.peer, answer)
        answer = answer.response()
    try:
        headers = _all_headers(answer, DEFAULT_HEADERS)
        await link.send(answer, headers, without_body=_is_head(request), is_last=True)
        await link.linger()
    except TransportClosed:
        pass
    finally:
        stream.close()


async def _serve(
    link: HttpLink, pages: Pages, head: h11.Request | None, limits: HttpLimits
) -> None:
    while True:
        try:
            head = head or await link.next_head()
            if head is None:
                return
            response = await _respond(link, pages, head, limits)
        except HttpError as error:
            _note(link.peer, error)
            response = error.response()
        headers = _all_headers(response, pages.headers)
        if not await link.send(response, headers, without_body=_is_head(head)):
            await link.linger()
            return
        head = None
        link.start_next_cycle()
        await trio.lowlevel.checkpoint()  # pipelined requests may need no other wait


async def _respond(link: HttpLink, pages: Pages, head: h11.Request, limits: HttpLimits) -> Response:
    _check_framing(head)
    method = head.method.decode("ascii")
    path, query = split_target(head.target)
    route = pages.match(method, path)
    body = await link.read_body(head)
    request = Request(method, path, query, merge_headers(head), body, link.peer)
    with trio.move_on_after(limits.route_timeout):
        return await _call(route, request)
    logger.error("%s took over %s s", route.name, limits.route_timeout)
    raise HttpError(503, "timeout", "the server could not answer in time")


async def _call(route: Route, request: Request) -> Response:
    try:
        return await _answer(route, request)
    except Exception as error:
        ident = secrets.token_hex(4)
        logger.error("%s failed [%s]", route.name, ident, exc_info=error)
        return Response.error(500, "internal", "the server failed", details={"id": ident})


async def _answer(route: Route, request: Request) -> Response:
    try:
        return _checked(route, await route.handler(request))
    except HttpError as error:
        return error.response()
    except Refuse as no:
        return Response.error(403, no.code, no.message, details=no.details)


def _checked(route: Route, response: object) -> Response:
    if isinstance(response, Response):
        return response
    raise MisuseError(
        f"{route.name} returned {type(response).__name__}: "
        "return Response('text'), or Response.json(value)"
    )


def _check_framing(head: h11.Request) -> None:
    """Refuses two lengths at once: of two programs in a row, each may believe another one.

    h11 would go by the chunks, which RFC 9112, section 6.1 allows; but that is how requests are
    smuggled past a proxy, and no honest client sends them.
    """
    names = [name for name, _ in head.headers]
    if b"transfer-encoding" in names and b"content-length" in names:
        raise HttpError(400, "bad_request", "a body has one length")


def _is_head(request: h11.Request | None) -> bool:
    return request is not None and request.method == b"HEAD"


def _all_headers(response: Response, defaults: Mapping[str, str]) -> list[tuple[str, str]]:
    # RFC 9110, section 6.6.1 wants the date.
    headers = {"date": formatdate(usegmt=True), **defaults, **response.headers}
    if not response.is_bodiless:
        headers["content-type"] = response.content_type
        headers["content-length"] = str(response.size)
    return list(headers.items())


def _note(peer: str, error: HttpError) -> None:
    """One line about a broken request; h11 quotes the peer by `repr`: no control characters."""
    if error.__cause__ is not None:
        logger.info("%s was answered %d: %.200s", peer, error.status, error.__cause__)
