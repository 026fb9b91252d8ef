"""The command line: commands and their options. Imports nothing that takes time: ``--help`` is quick."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from arvfuse import __version__
from arvfuse.errors import UsageError

_COLUMNS: Final = 80  # where there is no terminal


class _Formatter(argparse.HelpFormatter):
    """As wide as the terminal, which is asked here: shutil, which argparse asks, reads three compressors first."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or _COLUMNS  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return _COLUMNS


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line of ours."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, **options)

    def error(self, message: str) -> NoReturn:
        """UsageError instead of a usage text."""
        raise UsageError(f"{message}; see `{self.prog} --help`")


def build(arguments: Sequence[str] = ()) -> Parser:
    """A parser for the command line *arguments*; ``module`` and ``function`` of the result say who does it.

    Only the options of the command that is named first are made, if one is: those of all took a tenth of a mount's
    start."""
    parser = Parser(
        prog="arvfuse",
        description="A writable mount for content-addressed storage.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"arvfuse {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    named = _COMMANDS.get(arguments[0]) if arguments else None
    for add in (named,) if named is not None else _COMMANDS.values():
        add(commands)
    return parser


def _command(commands: Any, name: str, does: str, module: str, function: str) -> Parser:
    parser: Parser = commands.add_parser(name, help=does, description=does, allow_abbrev=False)
    parser.set_defaults(module=f"arvfuse.cli.{module}", function=function, command=name, ends_at_once=False)
    common = parser.add_argument_group("of every command")
    common.add_argument("--store", metavar="DIR", help="the store (ARVFUSE_STORE, $XDG_DATA_HOME/arvfuse)")
    common.add_argument("--json", action="store_true", help="one JSON object on standard output")
    common.add_argument("--quiet", action="store_true", default=None, help="no progress, fewer messages")
    common.add_argument("--debug", action="store_true", default=None, help="more messages, tracebacks of failures")
    common.add_argument("--version", action="version", version=f"arvfuse {__version__}")
    common.add_argument(
        "--unsafe-filesystem",
        action="store_true",
        default=None,
        help="use a store on a network or stacked file system all the same",
    )
    return parser


def _mount(commands: Any) -> None:
    parser = _command(commands, "mount", "mount the store, or one collection of it", "mounting", "mount")
    # Nothing is left to close here when the mount is ready, and taking the interpreter apart takes 15 ms.
    parser.set_defaults(ends_at_once=True)
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", type=Path)
    parser.add_argument("--read-only", action="store_true", help="change nothing (the default)")
    parser.add_argument("--read-write", action="store_true", help="allow changes; recovers dead mounts first")
    parser.add_argument("--driver", metavar="NAME", help="auto, kernel or llfuse")
    parser.add_argument("--foreground", action="store_true", help="stay until the mount has ended")
    parser.add_argument("--collection", metavar="ID", help="uuid, PDH, name@version or home/NAME as the root")
    parser.add_argument("--durability", metavar="local|store", help="what fsync promises: this machine, or the store")
    parser.add_argument("--no-writeback", action="store_true", default=None, help="every write(2) is safe at once")
    parser.add_argument("--latency", metavar="auto|poll|sleep", help="how the kernel driver waits for requests (auto)")
    parser.add_argument("--memory", metavar="SIZE", help="bound of data and caches in memory (256MiB)")
    parser.add_argument("--spool-bytes", metavar="SIZE", help="bound of what waits on disk (min(8GiB, 10%% of free))")
    parser.add_argument("--commit-quiet", metavar="SECONDS", help="commit when nothing was written for so long (1)")
    parser.add_argument("--commit-deadline", metavar="SECONDS", help="commit at the latest after so long (30)")
    parser.add_argument("--refresh-time", metavar="SECONDS", help="how long records are taken as they are (15)")
    parser.add_argument("--stall-bound", metavar="SECONDS", help="no progress of the store for so long: EIO (300)")
    parser.add_argument("--allow-other", action="store_true", default=None, help="other users may use the mount")
    parser.add_argument("--subtype", metavar="NAME", help="type fuse.NAME in the mount table (arvfuse)")
    parser.add_argument("--logfile", metavar="FILE", help="where messages go (the mount's directory)")
    parser.add_argument("--content", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ready-fd", metavar="FD", type=int, help=argparse.SUPPRESS)


def _unmount(commands: Any) -> None:
    parser = _command(commands, "unmount", "commit everything and end a mount", "mounting", "unmount")
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", type=Path)
    parser.add_argument("--deadline", metavar="S", type=float, help="stop waiting after S seconds; changes are kept")
    parser.add_argument("--lazy", action="store_true", help="detach at once, even if it is used")


def _status(commands: Any) -> None:
    parser = _command(commands, "status", "what a mount, or every mount of the store, does", "mounting", "status")
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", type=Path, nargs="?")


def _wait(commands: Any) -> None:
    parser = _command(commands, "wait", "wait until what was written is committed", "mounting", "wait")
    parser.add_argument("paths", metavar="PATH", type=Path, nargs="+")


def _put(commands: Any) -> None:
    parser = _command(commands, "put", "store files and directories as a new collection", "transfer", "put")
    parser.add_argument("paths", metavar="PATH", nargs="+", help="DIR/ stands for its contents, DIR for itself")
    parser.add_argument("--name", metavar="N", help="the collection's name")
    parser.add_argument("--project", metavar="UUID", help="the project to put it in (home)")


def _get(commands: Any) -> None:
    parser = _command(commands, "get", "copy a collection, a directory or a file out of the store", "transfer", "get")
    parser.add_argument("source", metavar="ID[/path]")
    parser.add_argument("destination", metavar="DEST", help="a path, or - for standard output")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite what is there")


def _ls(commands: Any) -> None:
    parser = _command(commands, "ls", "list collections, or what is in one", "transfer", "ls")
    parser.add_argument("source", metavar="ID[/path]", nargs="?")
    parser.add_argument("-l", "--long", action="store_true", help="with sizes")


def _collections(commands: Any) -> None:
    parser = _command(commands, "collections", "list the collections of the store", "records", "collections")
    parser.add_argument("--trash", action="store_true", help="those in the trash too")


def _recover(commands: Any) -> None:
    parser = _command(commands, "recover", "commit what mounts that died left behind", "records", "recover")
    parser.add_argument("--again", action="store_true", help="also logs over which recoveries died")


_COMMANDS: Final[dict[str, Callable[[Any], None]]] = {
    "mount": _mount,
    "unmount": _unmount,
    "status": _status,
    "wait": _wait,
    "put": _put,
    "get": _get,
    "ls": _ls,
    "collections": _collections,
    "recover": _recover,
}
