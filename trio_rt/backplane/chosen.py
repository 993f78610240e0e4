"""Backplanes by their URL, of which only the one that is used is imported."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from trio_rt.errors import MisuseError

if TYPE_CHECKING:
    from trio_rt.backplane.redis import RedisBackplane, RedisSettings
    from trio_rt.backplane.socketio_redis import SocketIORedisBackplane


def _check(url: Any, name: str, prefix: Any, owner: str) -> None:
    if not isinstance(url, str):
        raise MisuseError(
            f'{url!r} is no URL of a Redis. Write: {owner}.from_url("redis://localhost:6379")'
        )
    if not isinstance(prefix, str):
        raise MisuseError(f"{name}={prefix!r} is no text, which keys and channels begin with")


class Redis:
    """Joins nodes by Redis or Valkey: `Server(backplane=Redis.from_url("redis://localhost"))`."""

    @staticmethod
    def from_url(
        url: str,
        *,
        prefix: str = "rt",
        settings: RedisSettings | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> RedisBackplane:
        """A backplane on the Redis or Valkey at a URL. Nothing is connected before it is served.

        Args:
            url: `redis://[user:password@]host[:port][/db]`, `rediss://...`, `unix:///path`;
                `redis+sentinel://host1:port,host2:port,host3:port/service[/db]` for the primary
                that these Sentinels know as `service`; or
                `redis+cluster://host1:port,host2:port,host3:port` for some servers of a cluster.
            prefix: what all keys and channels begin with, so that programs can share a Redis.
            settings: limits and intervals of the links, a `trio_rt.backplane.redis.RedisSettings`.
            tls: used by rediss:// instead of the system's authorities.

        Raises:
            MisuseError: if it is no such URL, or the package for Redis is not installed.
        """
        _check(url, "prefix", prefix, "Redis")
        try:
            # Here, because it takes 9 MB that a single node does not need.
            from trio_rt.backplane.redis import RedisBackplane  # noqa: PLC0415
        except ImportError as error:
            raise MisuseError(f"{error}. Write: pip install 'trio-rt[redis]'") from error
        return RedisBackplane.from_url(url, prefix=prefix, settings=settings, tls=tls)


class SocketIORedis:
    """Joins a cluster of Socket.IO's own servers that use its classic Redis adapter:
    `Server(backplane=SocketIORedis.from_url("redis://localhost"))`."""

    @staticmethod
    def from_url(
        url: str,
        *,
        key: str = "socket.io",
        settings: RedisSettings | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> SocketIORedisBackplane:
        """A backplane on the cluster's Redis or Valkey. Nothing is connected before it is served.

        Args:
            url: `redis://[user:password@]host[:port]`, `rediss://...` or `unix:///path`. Channels
                are the same in all databases.
            key: the `key` option of the cluster's adapters.
            settings: limits and intervals of the links, a `trio_rt.backplane.redis.RedisSettings`.
            tls: used by rediss:// instead of the system's authorities.

        Raises:
            MisuseError: if it is no such URL, or the package for Redis is not installed.
        """
        _check(url, "key", key, "SocketIORedis")
        try:
            from trio_rt.backplane.socketio_redis import SocketIORedisBackplane  # noqa: PLC0415
        except ImportError as error:
            raise MisuseError(f"{error}. Write: pip install 'trio-rt[redis]'") from error
        return SocketIORedisBackplane.from_url(url, key=key, settings=settings, tls=tls)
