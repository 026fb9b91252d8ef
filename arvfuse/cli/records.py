"""``collections`` and ``recover``."""

from __future__ import annotations

from typing import Any, Final

from arvfuse.backend.messages import Message, encode_record
from arvfuse.backend.parts import open_parts
from arvfuse.backend.server import encode_recovered
from arvfuse.cli import exits
from arvfuse.cli.options import settings_of
from arvfuse.cli.output import complain, print_bytes, print_json
from arvfuse.clock import SystemClock
from arvfuse.maintenance import recover as recover_dead
from arvfuse.model.apirecords import format_time

_NANOSECONDS: Final = "_ns"


def collections(asked: Any) -> int:
    """List all collections, by name: uuid, PDH, version, time, name."""
    settings = settings_of(asked)
    parts = open_parts(
        settings.store, clock=SystemClock(), read_only=True, unsafe_filesystem=settings.unsafe_filesystem
    )
    try:
        found = parts.catalog.collections(include_trash=asked.trash)
    finally:
        parts.close()
    if asked.json:
        print_json({"collections": [_shown(encode_record(record)) for record in found]})
        return exits.DONE
    for record in found:
        when = format_time(record.modified_at_ns)[:19] + "Z"
        trashed = " (trash)" if record.is_trashed else ""
        print_bytes(f"{record.uuid} {record.pdh} {record.version} {when} {record.name}{trashed}".encode())
    return exits.DONE


def _shown(record: Message) -> Message:
    """As scripts see it: times in seconds since 1970."""
    shown: Message = {}
    for key, value in record.items():
        if key.endswith(_NANOSECONDS):
            shown[key.removesuffix(_NANOSECONDS)] = None if value is None else value / 1e9
        else:
            shown[key] = value
    return shown


def recover(asked: Any) -> int:
    """Commit what dead mounts left; 7 if something could not be."""
    results = recover_dead(settings_of(asked), SystemClock(), again=asked.again)
    if asked.json:
        print_json({"mounts": [encode_recovered(result) for result in results]})
    for result in results:
        if not asked.json:
            for uuid in result.committed:
                print(f"{result.mount} {uuid}")
        for line in result.quarantined:
            complain(f"mount {result.mount}: {line}")
        for line in result.left:
            complain(f"mount {result.mount}: {line}; it is kept, correct that and recover again")
    return exits.NOT_COMMITTED if any(result.left for result in results) else exits.DONE
