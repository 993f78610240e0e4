"""Which server a URL leads to: one that it names, or the primary that Sentinels know.

    redis://[user:password@]host[:port][/db]      one server; also rediss:// and unix://, see
                                                  `address.py`
    redis+sentinel://[user:password@]host[:port],host[:port],.../service[/db]
                                                  the primary that these Sentinels watch under the
                                                  name `service`
    rediss+sentinel://...                         the same by TLS, the Sentinels too

The user and the password are those of the primary. Sentinels that ask for some of their own take
`?sentinel_username=NAME&sentinel_password=WORD`.
"""

import ssl
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import attrs

from trio_rt.backplane.redis.address import Address, each_host, read_url
from trio_rt.backplane.redis.dial import Dial, DirectDial
from trio_rt.backplane.redis.sentinel import SentinelDial
from trio_rt.backplane.redis.settings import RedisSettings
from trio_rt.errors import MisuseError

SENTINEL_PORT = 26379
"""Redis's default."""

_FORM = "redis+sentinel://host1:26379,host2:26379,host3:26379/service/0"


def make_dial(
    url: str, settings: RedisSettings | None = None, *, tls: ssl.SSLContext | None = None
) -> Dial:
    """What connects to the server that a URL means.

    Args:
        url: see this module's head.
        settings: limits of the connections.
        tls: used by URLs that begin with `rediss` instead of the system's authorities.

    Raises:
        MisuseError: if it is no such URL, or has an option that is not known.
        OSError: if a certificate's file cannot be read.
    """
    scheme, _, kind = url.partition("://")[0].partition("+")
    if kind == "sentinel" and scheme in ("redis", "rediss"):
        return _make_sentinel_dial(url, scheme, settings, tls)
    return DirectDial(read_url(url, tls=tls), settings)


def _make_sentinel_dial(
    url: str, scheme: str, settings: RedisSettings | None, tls: ssl.SSLContext | None
) -> SentinelDial:
    try:
        urls = [urlsplit(one) for one in each_host(url)]
    except ValueError as error:
        raise MisuseError(f"{error}. Write {_FORM}") from error
    parts = urls[0] if urls else urlsplit("")
    who = parts.netloc.rpartition("@")[0]
    service, _, db = parts.path.strip("/").partition("/")
    if not service:
        raise MisuseError(
            f"a URL of Sentinels has their addresses and the name of the service. Write {_FORM}"
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    username, password = options.pop("sentinel_username", ""), options.pop("sentinel_password", "")
    query = f"?{urlencode(options)}" if options else ""
    server = read_url(f"{scheme}://{who}@-/{db}{query}", tls=tls)
    rights = f"{quote(username, safe='')}:{quote(password, safe='')}@"
    hosts = [one.netloc.rpartition("@")[2] for one in urls]
    sentinels = [_read_sentinel(f"{scheme}://{rights}{host}", server) for host in hosts]
    return SentinelDial(sentinels, unquote(service), server, settings)


def _read_sentinel(url: str, server: Address) -> Address:
    parts = urlsplit(url)
    address = read_url(url, tls=server.tls)
    has_port = parts.netloc.rpartition("@")[2].rpartition("]")[2].count(":") > 0
    return address if has_port else attrs.evolve(address, port=SENTINEL_PORT)
