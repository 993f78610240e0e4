"""From the url that people write to the one that is dialled."""

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from trio_rt.errors import MisuseError

_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def websocket_url(url: str, path: str) -> str:
    """The url of Engine.IO's WebSocket.

    Args:
        url: of the server, with a query if there is one.
        path: where Socket.IO lives.

    Raises:
        MisuseError: if that is no url of a server, with what would be.
    """
    right = 'Write: open_client("http://127.0.0.1:8000", namespace="/games")'
    try:
        parts = urlsplit(str(url))
        scheme = _SCHEMES[parts.scheme]
        is_one = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except (ValueError, KeyError):
        raise MisuseError(f"{url!r} is no url of a server. {right}") from None
    if not is_one:
        raise MisuseError(f"{url!r} is no url of a server. {right}")
    if parts.path not in ("", "/") or parts.fragment:
        raise MisuseError(
            f"{url!r} has a path, which may mean a namespace or where Socket.IO lives. "
            f'{right}, or: open_client(..., path="/socket.io/")'
        )
    if not (isinstance(path, str) and path.startswith("/")):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MisuseError(f'path={path!r} does not begin with a slash, as "/socket.io/" does')
    query = [
        *parse_qsl(parts.query, keep_blank_values=True),
        ("EIO", "4"),
        ("transport", "websocket"),
    ]
    return urlunsplit((scheme, parts.netloc, path, urlencode(query), ""))
