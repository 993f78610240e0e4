"""Redis, Valkey and their kin, spoken to from Trio: links of our own on redis-py's public parts."""

from trio_rt.backplane.redis.backplane import RedisBackplane
from trio_rt.backplane.redis.settings import RedisSettings

__all__ = ["RedisBackplane", "RedisSettings"]
