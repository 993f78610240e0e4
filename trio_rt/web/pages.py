"""What a server shows over plain HTTP: routes, fixed pages and directories of files."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import quote

import attrs
import trio

from trio_rt.errors import MisuseError
from trio_rt.web import files
from trio_rt.web.files import Directory, File
from trio_rt.web.messages import HttpError, Request, Response, check_header

Handler = Callable[[Request], Awaitable[Response]]
H = TypeVar("H", bound=Handler)

DEFAULT_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "x-content-type-options": "nosniff",
        "referrer-policy": "strict-origin-when-cross-origin",
        # `connect-src` names the WebSocket schemes: the listener has another port by default, and
        # that is another origin.
        "content-security-policy": (
            "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:"
        ),
    }
)
"""Sent with every response; change them by `Pages.header`."""

FILE_THREADS = 8
"""Threads that may read files of one `Pages` at once."""


@attrs.frozen
class Route:
    """What answers a request."""

    name: str
    """As it was registered, for logs."""

    handler: Handler


class Pages:
    """The pages of one server. A path with a route of its own is never looked for among files.

    There is no CORS: a page of another origin can send requests here, but not read the answers.
    """

    def __init__(self) -> None:
        self._routes: dict[str, dict[str, Route]] = {}
        self._mounts: dict[str, Route] = {}
        self._headers = dict(DEFAULT_HEADERS)
        self._threads = trio.CapacityLimiter(FILE_THREADS)

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of every response that does not set them itself; lower-case names."""
        return MappingProxyType(self._headers)

    def header(self, name: str, value: str | None) -> None:
        """Sets a header of every response, such as `Content-Security-Policy`.

        Args:
            name: in any case.
            value: `None` leaves the header out.

        Raises:
            MisuseError: if it cannot be sent.
        """
        check_header(name, value or "")
        if value is None:
            self._headers.pop(name.lower(), None)
        else:
            self._headers[name.lower()] = value

    def get(self, path: str) -> Callable[[H], H]:
        """Answers GET and HEAD of a path: `@pages.get("/path") async def f(request): ...`.

        The route returns a `Response`. It raises `HttpError` for any other status, and `Refuse`
        for 403; any other exception is logged and answered 500. It is cancelled, and the client
        answered 503, if it takes longer than the connection's `route_timeout`.

        Args:
            path: the whole path, decoded, beginning with a slash.

        Raises:
            MisuseError: if the path is not valid or is taken, or the route is not
                `async def f(request)`.
        """
        return self._route("GET", path)

    def post(self, path: str) -> Callable[[H], H]:
        """Answers POST of a path; otherwise as `get`."""
        return self._route("POST", path)

    def page(self, path: str, response: Response | str) -> None:
        """Answers GET and HEAD of a path with what is given here.

        Args:
            path: as of `get`.
            response: text stands for a plain text response.

        Raises:
            MisuseError: if the path is not valid or is taken.
        """
        fixed = Response(response) if isinstance(response, str) else response

        async def show(_request: Request) -> Response:
            return fixed

        self._route("GET", path)(show)

    def static(
        self, prefix: str, directory: str | Path, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answers GET and HEAD of everything under a prefix with the files of a directory.

        `index.html` stands for its directory. Hidden files, and whatever a link leads out of the
        directory to, are not there. Browsers ask each time whether a file has changed.

        Args:
            prefix: such as `"/"` or `"/assets"`. Of several that fit, the longest counts.
            directory: must exist.
            headers: headers of these files, over those of all pages.

        Raises:
            MisuseError: if the prefix is not valid or is taken, or there is no such directory.
        """
        _check_path(prefix, f'pages.static("/assets", {str(directory)!r})')
        mount, root = prefix.rstrip("/"), Path(directory).resolve()
        if not root.is_dir():
            raise MisuseError(f"{str(root)!r} is no directory: pages.static(prefix, directory)")
        if mount in self._mounts:
            raise MisuseError(f"{prefix!r} shows a directory already: {self._mounts[mount].name}")
        shown = Static(mount, root, Response(headers=headers or {}).headers, self._threads)
        self._mounts[mount] = Route(f"files of {root}", shown.show)

    def match(self, method: str, path: str) -> Route:
        """What answers this request.

        Raises:
            HttpError: 404 if nothing is there, 405 if it has other methods only.
        """
        routes = self._routes.get(path) or self._files_at(path)
        route = routes.get("GET" if method == "HEAD" else method)
        if route is None:
            if not routes:
                raise not_found()
            allowed = sorted({*routes, "HEAD"} if "GET" in routes else routes)
            raise HttpError(
                405,
                "method_not_allowed",
                f"use {' or '.join(allowed)}",
                headers={"allow": ", ".join(allowed)},
            )
        return route

    def _files_at(self, path: str) -> dict[str, Route]:
        mount = path
        while mount:
            if mount in self._mounts:
                break
            mount = mount.rpartition("/")[0]
        return {"GET": self._mounts[mount]} if mount in self._mounts else {}

    def _route(self, method: str, path: str) -> Callable[[H], H]:
        example = f'@pages.{method.lower()}("/path") async def f(request: Request) -> Response'
        _check_path(path, example)

        def register(handler: H) -> H:
            _check_handler(handler, example)
            routes = self._routes.setdefault(path, {})
            if method in routes:
                raise MisuseError(f"{method} {path} has a route already: give this one its own")
            routes[method] = Route(f"{method} {path}", handler)
            return handler

        return register


@attrs.frozen
class Static:
    """A directory that is shown under a prefix."""

    prefix: str
    """Without a slash at its end."""

    root: Path
    """Resolved."""

    headers: Mapping[str, str]
    threads: trio.CapacityLimiter

    async def show(self, request: Request) -> Response:
        """The file that the path names.

        Raises:
            HttpError: 404 if there is none that may be seen.
        """
        if request.path == self.prefix:
            return _with_slash(request.path)
        parts = files.split(request.path.removeprefix(self.prefix))
        found = await files.find(self.root, parts, self.threads) if parts else None
        if isinstance(found, File):
            return self._file(found, request.headers.get("if-none-match", ""))
        if isinstance(found, Directory):
            return _with_slash(request.path)
        raise not_found()

    def _file(self, file: File, known: str) -> Response:
        headers = {"etag": file.etag, "cache-control": "no-cache", **self.headers}
        if _knows(known, file.etag):
            return Response(status=304, headers=headers)
        return Response(file, content_type=file.content_type, headers=headers)


def _with_slash(path: str) -> Response:
    """Sends the browser to a directory's own path: relative links only work with the slash."""
    return Response(status=308, headers={"location": quote(path) + "/"})


def not_found() -> HttpError:
    """The answer where there is nothing to see."""
    return HttpError(404, "not_found", "there is nothing here")


def _knows(if_none_match: str, etag: str) -> bool:
    """Whether the client has this version (RFC 9110, section 13.1.2: by weak comparison)."""
    known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in known or "*" in known


def _check_path(path: object, example: str) -> None:
    if not isinstance(path, str) or not path.startswith("/"):
        raise MisuseError(f"{path!r} is no path: it begins with a slash, as in {example}")
    if set(path) & set("?#%") or not path.isprintable():
        raise MisuseError(f"{path!r} is no decoded path without a query: write {example}")


def _check_handler(handler: Handler, example: str) -> None:
    name = getattr(handler, "__qualname__", repr(handler))
    call = getattr(handler, "__call__", None)  # noqa: B004 - of an object with an async __call__
    if not inspect.iscoroutinefunction(handler) and not inspect.iscoroutinefunction(call):
        raise MisuseError(f"{name} is not an async function: write {example}")
    try:
        inspect.signature(handler).bind(None)
    except TypeError as error:
        raise MisuseError(f"{name} has to take one request: write {example}") from error
