"""The clients of a supervisor: who asked for what and waits for which answer.

``Desk`` owns the control socket and its connections. Threading: the supervisor's only thread. Failure: a client that
goes away is forgotten, whatever it waited for goes on.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

from arvfuse.supervisor import control
from arvfuse.supervisor.control import Connection


class For(Enum):
    """What a client waits for."""

    END = "the mount has ended"
    COMMIT = "what is pending is committed"
    STATUS = "the engine has said how it is"


class Desk:
    """Requests in, answers out."""

    def __init__(self, directory: Path) -> None:
        self._listener: Final[socket.socket] = control.listen(directory)
        self._clients: dict[int, Connection] = {}
        self._waiting: Final[dict[For, list[Connection]]] = {reason: [] for reason in For}

    def __repr__(self) -> str:
        return f"<Desk {', '.join(f'{reason.name}={len(clients)}' for reason, clients in self._waiting.items())}>"

    def handlers(self, obey: Callable[[Connection, dict[str, Any]], None]) -> dict[int, Callable[[], None]]:
        """What to call when which descriptor has something; *obey* is called with each request."""
        handlers: dict[int, Callable[[], None]] = {self._listener.fileno(): self._accept}
        for descriptor, client in self._clients.items():
            handlers[descriptor] = lambda client=client: self._hear(client, obey)  # type: ignore[misc] # bound here
        return handlers

    def wait(self, client: Connection, reason: For) -> None:
        """The client waits for *reason*."""
        self._waiting[reason].append(client)

    def waits(self, client: Connection, reason: For) -> bool:
        """True if it still does."""
        return client in self._waiting[reason]

    def has(self, reason: For) -> bool:
        """True if somebody waits for *reason*."""
        return bool(self._waiting[reason])

    def answer(self, reason: For, answer: Mapping[str, Any]) -> None:
        """What all that wait for *reason* wait for."""
        for client in self._waiting[reason]:
            client.answer(answer)
        self._waiting[reason] = []

    def answer_one(self, client: Connection, answer: Mapping[str, Any]) -> None:
        """The client waits for nothing any more."""
        self._forget(client)
        client.answer(answer)

    def close(self) -> None:
        """Hang up."""
        self._listener.close()
        for client in self._clients.values():
            client.close()
        self._clients = {}

    def _accept(self) -> None:
        try:
            end, _ = self._listener.accept()
        except OSError:
            return  # it went away before we came
        client = Connection(end)
        self._clients[client.fileno()] = client

    def _hear(self, client: Connection, obey: Callable[[Connection, dict[str, Any]], None]) -> None:
        requests = client.requests()
        if requests is None:
            self._forget(client)
            self._clients = {number: other for number, other in self._clients.items() if other is not client}
            client.close()
            return
        for request in requests:
            obey(client, request)

    def _forget(self, client: Connection) -> None:
        for clients in self._waiting.values():
            if client in clients:
                clients.remove(client)
