"""The client: connect, emit, call, survive."""

from trio_rt.client.changes import Change
from trio_rt.client.client import Client, open_client
from trio_rt.client.config import ClientConfig
from trio_rt.client.namespace import ClientNamespace

__all__ = ["Change", "Client", "ClientConfig", "ClientNamespace", "open_client"]
