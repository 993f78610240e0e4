"""Joins clusters of Socket.IO's own servers that use its classic Redis adapter."""

from trio_rt.backplane.socketio_redis.backplane import SocketIORedisBackplane

__all__ = ["SocketIORedisBackplane"]
