"""500 rooms of four players at 20 ticks a second, on one core: `python -m tests.bench.rooms`.

The server is a process of its own, pinned to one core; the players are plain sockets in this one,
pinned to another. Each room moves its players every tick and shows them by a patch; each player
sends a heading twice a second. Then the same again with slow readers: one player of every tenth
room reads nothing more, and has small buffers.

Told are, for each half: how late ticks begin (p50, p99, the worst), how many are left out, the
server's CPU time for each second, and the patches that players got.
"""

import argparse
import contextlib
import json
import os
import random
import select
import socket
import subprocess
import sys
import time
from typing import Any

import trio

from trio_rt import Authenticator, Handshake, Player, Room, Server, User
from trio_rt.testing.peer import encode_messages

HZ = 20.0
STEERS = 2.0
"""Inputs of each player in a second."""
GATHER = 3.0
"""Seconds from the last join until it is measured."""


# The server


class ByName(Authenticator):
    """Believes everybody who shows a name."""

    async def authenticate(self, handshake: Handshake) -> User:
        return User(handshake.auth["user"])


late: list[float] = []
"""Seconds, of each tick since the last report."""


class Arena(Room):
    """Four who move."""

    seats = 4
    inputs = {"steer": int}

    async def on_join(self, player: Player) -> None:
        self.state[player.id] = {"x": 0, "y": 0, "way": 0}

    async def run(self) -> None:
        async for tick in self.ticks(HZ):
            late.append(trio.current_time() - tick.time)
            for input in tick.inputs:
                self.state[input.player.id]["way"] = input.value
            for player in self.state.values():
                player["x"] += 1 if player["way"] % 2 else -1
                player["y"] += 1 if player["way"] > 1 else -1
            await self.sync()


async def serve(rooms: int) -> None:
    """Makes the rooms, prints port and ids, and reports for each line on standard input."""
    server = Server(auth=ByName(), share_port=True)
    live = server.namespace("/", rooms=[Arena]).live_rooms
    assert live is not None
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, "127.0.0.1", 0)
        ids = [await live.create(Arena) for _ in range(rooms)]
        print(json.dumps({"port": server.port, "rooms": ids}), flush=True)
        asked = trio.lowlevel.FdStream(os.dup(0))
        began, used, skipped = trio.current_time(), time.process_time(), 0
        while await asked.receive_some(64):
            cells = live.cells.values()
            seconds = trio.current_time() - began
            found = sorted(late)
            left_out = sum(cell.pace.skipped for cell in cells)
            report = {
                "seconds": seconds,
                "ticks": len(found),
                "skipped": left_out - skipped,
                "cpu": (time.process_time() - used) / seconds,
                "players": sum(len(cell.members) for cell in cells),
                **{f"p{p}": found[min(len(found) - 1, len(found) * p // 100)] for p in (50, 99)},
                "worst": found[-1],
            }
            print(json.dumps(report), flush=True)
            late.clear()
            began, used, skipped = trio.current_time(), time.process_time(), left_out
        nursery.cancel_scope.cancel()


# The players


class Crowd:
    """All players: sockets of which one thread takes what comes, and looks at nothing."""

    def __init__(self, port: int, rooms: list[str]) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self.received = 0
        """Bytes."""
        self._answered_at = time.monotonic()
        self.ended = 0
        """Connections that the server has closed."""
        for number, room in enumerate(rooms):
            for seat in range(4):
                self._enter(port, f"player {number}.{seat}", room, is_small=number % 10 == 0)
            self._answer_pings()

    def _enter(self, port: int, name: str, room: str, *, is_small: bool) -> None:
        peer = socket.socket()
        if is_small:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", port))
        peer.sendall(
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        _read_until(peer, b"\r\n\r\n")
        peer.sendall(encode_messages("40" + json.dumps({"user": name})))
        _read_until(peer, b"40{")
        peer.sendall(encode_messages("420" + json.dumps(["room:join", {"room": room}])))
        _read_until(peer, b"430")
        peer.setblocking(False)
        self._sockets[peer.fileno()] = peer
        self._poll.register(peer, select.EPOLLIN)

    def play(self, seconds: float, chance: random.Random) -> None:
        """Everybody reads, and steers now and then."""
        end = time.monotonic() + seconds
        players = list(self._sockets.values())
        steered = time.monotonic()
        while (now := time.monotonic()) < end:
            for descriptor, _ in self._poll.poll(0.005):
                self._take(descriptor)
            self._answer_pings()
            for _ in range(int((now - steered) * STEERS * len(players))):
                steered += 1 / (STEERS * len(players))
                _send(chance.choice(players), f'42["steer",{chance.randrange(4)}]')

    def make_slow(self) -> int:
        """One player of every tenth room reads nothing from now on."""
        slow = list(self._sockets)[::40]  # of those with small buffers
        for descriptor in slow:
            self._poll.unregister(descriptor)
        return len(slow)

    def _answer_pings(self) -> None:
        """Without looking for them: a pong every ten seconds is in time for each."""
        if time.monotonic() < self._answered_at + 10:
            return
        self._answered_at = time.monotonic()
        for peer in self._sockets.values():
            _send(peer, "3")

    def _take(self, descriptor: int) -> None:
        try:
            data = self._sockets[descriptor].recv(65_536)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        self.received += len(data)
        if not data:
            self.ended += 1
            self._poll.unregister(descriptor)
            del self._sockets[descriptor]


def _send(peer: socket.socket, message: str) -> None:
    with contextlib.suppress(BlockingIOError, ConnectionError):
        peer.send(encode_messages(message))


def _read_until(peer: socket.socket, what: bytes) -> None:
    data = b""
    while what not in data:
        got = peer.recv(65_536)
        assert got, f"the server closed: {data[-200:]!r}"
        data += got


def ask(server: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """What the server has seen since the last time."""
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(b"report\n")
    server.stdin.flush()
    answer: dict[str, Any] = json.loads(server.stdout.readline())
    return answer


def tell(title: str, found: dict[str, Any], crowd: Crowd, received: int) -> None:
    """A report, for people."""
    pace = found["ticks"] / found["seconds"]
    print(
        f"{title}: {found['players']} players, {pace:,.0f} ticks/s, late p50 "
        f"{found['p50'] * 1000:.2f} ms, p99 {found['p99'] * 1000:.2f} ms, worst "
        f"{found['worst'] * 1000:.1f} ms, {found['skipped']} left out; CPU {found['cpu']:.0%} "
        f"of a core; {received / found['seconds'] / 1e6:.1f} MB/s read, "
        f"{crowd.ended} connections closed"
    )


def main(rooms: int, seconds: float) -> None:
    """Measures, and prints what was found."""
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "tests.bench.rooms", "--serve", "--rooms", str(rooms)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        os.sched_setaffinity(server.pid, cores[:1])
        os.sched_setaffinity(0, cores[1:] or cores)
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            start = json.loads(server.stdout.readline())
            crowd = Crowd(start["port"], start["rooms"])
            chance = random.Random(1)
            for slow in (None, crowd.make_slow):
                title = f"{slow()} read nothing" if slow else "all read"
                crowd.play(GATHER, chance)
                ask(server)
                before = crowd.received
                crowd.play(seconds, chance)
                tell(title, ask(server), crowd, crowd.received - before)
        finally:
            server.stdin.close()
            server.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="be the server")
    parser.add_argument("--rooms", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each half")
    chosen = parser.parse_args()
    if chosen.serve:
        trio.run(serve, chosen.rooms)
    else:
        main(chosen.rooms, chosen.seconds)
