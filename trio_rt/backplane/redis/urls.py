"""Where Redis is, whatever kind of it: read from one URL.

    redis+cluster://[user:password@]host[:port],host[:port],...     some servers of a cluster
    rediss+cluster://...                                            the same by TLS
    anything else                                                   one server: see `dials.py`

User, password and TLS are the same for all servers of a cluster.
"""

import ssl

from trio_rt.backplane.redis.address import Address, each_host, read_url
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
    scheme = url.partition("://")[0]
    if scheme not in ("redis+cluster", "rediss+cluster"):
        return make_dial(url, settings, tls=tls)
    seeds: list[Address] = []
    for one in each_host(url):
        plain = one.replace("+cluster", "", 1)
        if seeds:  # a certificate's file is read once
            seeds.append(read_url(plain.partition("?")[0], tls=seeds[0].tls))
        else:
            seeds.append(read_url(plain, tls=tls))
    if not seeds:
        raise MisuseError(
            "a URL of a cluster has the addresses of some of its servers. Write "
            "redis+cluster://host1:6379,host2:6379,host3:6379"
        )
    return ClusterServers(seeds, settings)
