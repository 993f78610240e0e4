"""The public test kit: clients without a port, and wires that are as bad as a network can be.

async def test_say():
    async with connect(server) as client:
        assert await client.call("say", "hi") == "ok"

Everything waits on Trio's clock, so on a virtual one (`trio.testing.MockClock`) hours take no time.
Only `open_proxy` is for real time: it stands between real processes.
What every transport has to keep is in `trio_rt.testing.contracts`.
"""

from trio_rt.testing.client import Client
from trio_rt.testing.dialling import MemoryDialer
from trio_rt.testing.hosting import Host, connect, hosting, serve_wire
from trio_rt.testing.peer import WebSocketPeer
from trio_rt.testing.proxy import Proxy, open_proxy
from trio_rt.testing.wires import CutWire, Lane, Link, open_link

__all__ = [
    "Client",
    "CutWire",
    "Host",
    "Lane",
    "Link",
    "MemoryDialer",
    "Proxy",
    "WebSocketPeer",
    "connect",
    "hosting",
    "open_link",
    "open_proxy",
    "serve_wire",
]
