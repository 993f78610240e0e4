"""The official client: pieces of JavaScript that run in Node for the length of a test."""

import base64
import itertools
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import trio

from tests.parts import PartMissing, node

DRIVER = node.FOLDER / "driver.mjs"
DEADLINE = 6.0
"""Seconds; the driver's own deadline, whose message says more, comes a little earlier."""


class JavaScriptError(AssertionError):
    """What the JavaScript threw."""


@attrs.define
class Page:
    """Some JavaScript with variables and sockets of its own, like a browser's page.

    Call it with code to run. The code is the body of an async function that sees

    - `open`, `connected`, `refused`: a new client socket at once, when it is connected, or what
      it was refused with; all take a namespace and options,
    - `next(emitter, event)`: the arguments of the event that comes next,
    - `acked(socket, event, ...args)`: all arguments of the acknowledgement,
    - `diary(socket)`: a growing list of the events that come,
    - `wire(socket)`: its WebSocket,
    - `my`: an object that is kept between calls, and every keyword argument of the call.
    """

    driver: int
    """The driver's port."""

    url: str
    name: int = attrs.field(factory=itertools.count().__next__)

    async def __call__(self, code: str, **values: Any) -> Any:
        """Run the code and give back what it returns."""
        answer = await self._ask(code=code, values=values)
        if "error" in answer:
            raise JavaScriptError(answer["error"])
        return answer["value"]

    async def close(self) -> None:
        """Close all its sockets."""
        await self._ask()

    async def _ask(self, **request: Any) -> Any:
        text = json.dumps({"page": self.name, "url": self.url, **request}, default=_tag_bytes)
        with trio.fail_after(DEADLINE):
            async with await trio.open_tcp_stream("127.0.0.1", self.driver) as stream:
                await stream.send_all(text.encode())
                await stream.send_eof()
                answer = b"".join([bytes(chunk) async for chunk in stream])
        return json.loads(answer, object_hook=_untag_bytes)


@contextmanager
def running_driver() -> Iterator[int]:
    """Node with the driver, for the length of the block; gives the driver's port."""
    node.install()
    process = subprocess.Popen(
        [node.executable(), DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdin
        assert process.stdout
        port = process.stdout.readline()
        if not port:
            raise PartMissing(f"Node does not start {DRIVER}: see its words above")
        yield int(port)
        process.stdin.close()
        process.wait(timeout=5)


def _tag_bytes(value: object) -> dict[str, str]:
    assert isinstance(value, bytes), f"not for JavaScript: {value!r}"
    return {"$bytes": base64.b64encode(value).decode()}


def _untag_bytes(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["$bytes"]) if value.keys() == {"$bytes"} else value
