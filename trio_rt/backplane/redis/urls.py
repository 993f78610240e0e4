"""Where Redis is, whatever kind of it: read from one URL.

redis+cluster://[user:password@]host[:port],host[:port],...     some servers of a cluster
rediss+cluster://...                                            the same by TLS
anything else                                                   one server: see `dials.py`
"""

import ssl
from urllib.parse import urlsplit, urlunsplit

from trio_rt.backplane.redis.address import Address, read_url
from trio_rt.backplane.redis.dial import Dial
from trio_rt.backplane.redis.dials import make_dial
from trio_rt.backplane.redis.settings import RedisSettings
from trio_rt.backplane.redis.topology import ClusterServers
from trio_rt.errors import MisuseError


def read_servers(
    url: str, *, settings: RedisSettings | None = None, tls: ssl.SSLContext | None = None
) -> Dial | ClusterServers:
    """Reads a URL.

    Args:
        url: see this module's head.
        settings: limits of the connections.
        tls: used by URLs that begin with `rediss` instead of the system's authorities.

    Raises:
        MisuseError: if it is none of those, or has an option that is not known.
        OSError: if a certificate's file cannot be read.
    """
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    if kind != "cluster" or scheme not in ("redis", "rediss"):
        return make_dial(url, settings, tls=tls)
    login, _, hosts = parts.netloc.rpartition("@")
    seeds: list[Address] = []
    for host in filter(None, hosts.split(",")):
        netloc = f"{login}@{host}" if login else host
        query = "" if seeds else parts.query  # a certificate's file is read once
        one = urlunsplit((scheme, netloc, parts.path, query, ""))
        seeds.append(read_url(one, tls=seeds[0].tls if seeds else tls))
    if not seeds:
        raise MisuseError(
            "a URL of a cluster has the addresses of some of its servers. Write "
            "redis+cluster://host1:6379,host2:6379,host3:6379"
        )
    return ClusterServers(seeds, settings)
