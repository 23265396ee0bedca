"""The `xtok` command. Each sub-command is a module with `add_parser` and `run`, which imports what it needs."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import xtok
from xtok.cli import (
    adapt,
    decode,
    demo,
    dictionary,
    encode,
    evaluate,
    features,
    fit,
    inspect,
    pack,
    sim,
    stats,
    teacher,
    train,
)
from xtok.cli.common import say
from xtok.cli.outputs import guarded, outputs_of
from xtok.progress import shown
from xtok.write_errors import write_error

COMMANDS = (demo, inspect, stats, pack, encode, decode, adapt, fit, train, evaluate, dictionary, features, teacher, sim)

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xtok",
        description="Robot motion into short, fixed-length codes and back.",
        epilog="`xtok COMMAND --help` explains each command; docs/cli.md shows what they print.",
    )
    parser.add_argument("--version", action="version", version=f"xtok {xtok.__version__}")
    parser.add_argument("--debug", action="store_true", help="show the full traceback of an error")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status.

    0 done, 2 the user can mend it (message on stderr, traceback with --debug), 130 interrupted with Ctrl-C.
    """
    args = build_parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
            with shown(None), guarded(args, say):
                args.run(args)
    except (ValueError, OSError, ImportError) as error:
        if args.debug:
            raise
        print(f"xtok: error: {_told(error, args)}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print(f"\nxtok: interrupted. {_hint(args)}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _hint(args: argparse.Namespace) -> str:
    """How to go on after a stop."""
    return args.resume_hint(args) if callable(args.resume_hint) else args.resume_hint


def _told(error: Exception, args: argparse.Namespace) -> str:
    """The error; of one of writing the path too (a log that cannot grow has none of its own) and how to go on."""
    outputs = outputs_of(args)
    path = Path(str(error.filename)) if isinstance(error, OSError) and error.filename else None
    if path is None and outputs:
        path = outputs[0].path
    found = None if path is None else write_error(error, path)
    return str(error) if found is None else f"{found}. {_hint(args)}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
