"""This node among the others: what they ask is answered, what they tell is passed on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_rt import queries, server_events
from trio_rt.backplane.base import Arrival, Fenced, Gap, NodeDown, Note, Question, Rejoined
from trio_rt.codec.questions import CallEach, ServerEvent, ToRooms, decode_question
from trio_rt.errors import RemoteProtocolError
from trio_rt.log import log
from trio_rt.rooms.rooms import answer_for_rooms

if TYPE_CHECKING:
    from trio_rt.app import App

MAX_WAITING = 1_000
"""Questions that may wait; of more, the askers hear nothing in time."""

MAX_AT_ONCE = 100
"""Of them, those that are being done."""


class Cluster:
    """Passes on what other nodes say, and answers them.

    Args:
        app: whose sockets it is about.
    """

    __slots__ = ("_app", "_questions", "_receive")

    def __init__(self, app: App) -> None:
        self._app = app
        self._questions, self._receive = trio.open_memory_channel[Question](MAX_WAITING)

    def take(self, arrival: Arrival) -> None:
        """Something arrived that is no event."""
        if isinstance(arrival, Gap):
            namespace = self._app.get_namespace(arrival.namespace)
            if namespace is not None:
                namespace.begin_anew(arrival.room)
        elif isinstance(arrival, Note):
            namespace = self._app.get_namespace(arrival.namespace)
            if namespace is not None:
                namespace.presence.take(arrival)
        elif isinstance(arrival, NodeDown):
            for namespace in self._app.all_namespaces:
                namespace.presence.node_down(arrival.node)
                if namespace.live_rooms is not None:
                    namespace.live_rooms.node_down(arrival.node)
        elif isinstance(arrival, Fenced):
            for namespace in self._app.all_namespaces:
                namespace.presence.fenced()
                if namespace.live_rooms is not None:
                    namespace.live_rooms.fenced()
        elif isinstance(arrival, Rejoined):
            for namespace in self._app.all_namespaces:
                namespace.presence.rejoined()
        elif isinstance(arrival, Question):
            try:
                self._questions.send_nowait(arrival)
            except trio.WouldBlock:
                log.error("more than %d questions of other nodes wait: dropped one", MAX_WAITING)

    async def run(self) -> None:
        """Answers questions, each in a task of its own, until it is cancelled."""
        slots = trio.Semaphore(MAX_AT_ONCE)
        async with trio.open_nursery() as nursery:
            while True:
                question = await self._receive.receive()
                await slots.acquire()
                nursery.start_soon(self._answer, question, slots)

    async def _answer(self, question: Question, slots: trio.Semaphore) -> None:
        try:
            asked = decode_question(question.body)
            namespace = self._app.get_namespace(asked.namespace)
            answer = partial(self._app.backplane.answer, question)
            if isinstance(asked, ToRooms):
                answer(await answer_for_rooms(namespace, asked))
            elif isinstance(asked, ServerEvent):
                await server_events.answer(namespace, asked, answer)
            elif isinstance(asked, CallEach):
                await queries.answer_each(namespace, asked, answer)
            else:
                answer(await queries.answer(namespace, asked))
        except RemoteProtocolError as error:
            log.warning("node %s: %s", question.node, error)
        except Exception:
            log.exception("a question of node %s could not be answered", question.node)
        finally:
            slots.release()
