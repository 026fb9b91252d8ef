"""The command ``arvfuse``: finds what was asked for, runs it, and turns what went wrong into one line and a code.

Never a traceback, but with ``--debug``. Threading: the main thread.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from arvfuse.cli import exits
from arvfuse.cli.output import complain, line_of
from arvfuse.cli.parser import build
from arvfuse.errors import ArvfuseError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (default: the process' own); its exit code."""
    asked: Any = None
    is_program = arguments is None
    arguments = sys.argv[1:] if arguments is None else arguments
    gc.disable()  # reading modules leaves no garbage
    try:
        asked = build(arguments).parse_args(arguments)
        level = logging.DEBUG if asked.debug else logging.ERROR if asked.quiet else logging.WARNING
        logging.basicConfig(level=level, format="arvfuse: %(message)s")
        command = getattr(importlib.import_module(asked.module), asked.function)
        gc.freeze()
        gc.enable()
        code = int(command(asked))
        sys.stdout.flush()
        if is_program and asked.ends_at_once:
            sys.stderr.flush()
            os._exit(code)
        return code
    except ArvfuseError as error:
        _explain(asked, line_of(error))
        return exits.code_for(error)
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is still buffered must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return exits.FAILED
    except KeyboardInterrupt:
        complain("interrupted")
        return exits.INTERRUPTED
    except OSError as error:
        _explain(asked, f"{error.filename or 'failed'}: {error.strerror or error}; correct that and try again")
        return exits.FAILED
    except Exception as error:  # top of the process: what nobody foresaw is still one line
        _explain(asked, f"{type(error).__name__}: {error}; this is a bug, --debug shows where")
        return exits.FAILED
    finally:
        gc.enable()


def _explain(asked: Any, text: str) -> None:
    complain(text)
    if getattr(asked, "debug", None):
        traceback.print_exc()
