"""What our three command lines have in common: errors as sentences, logging to stderr, exit codes.

0: done. 2: a mistake that the message says how to mend. 130: interrupted.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.text import Text

from polyward_shared.problems import Problem, Refused

out = Console()  # results
talk = Console(stderr=True)  # everything else


def new_app(help_text: str) -> typer.Typer:
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def run_app(app: typer.Typer) -> None:
    """Runs a command line. A `Problem` becomes its sentence and exit code 2; anything else is a bug and says so."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(message)s")
    try:
        app()
    except Problem as problem:
        _tell(str(problem))
        sys.exit(2)
    except Refused as refused:
        _tell(str(refused))
        sys.exit(2)
    except KeyboardInterrupt:
        talk.print("interrupted")
        sys.exit(130)


@contextmanager
def writing() -> Iterator[None]:
    """A full disk or a missing permission is told as such."""
    try:
        yield
    except OSError as error:
        raise Problem(
            str(error.filename or "the disk"),
            f"cannot be read or written ({error.strerror})",
            remedy="make room, or run this as the user that may; then run it again",
        ) from None


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, which goes when the work is over; it is told how much is done, of how much."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # most commands draw none

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=talk, transient=True) as progress:
        line = progress.add_task(what, total=None)
        yield lambda done, of: progress.update(line, completed=done, total=of)


def _tell(text: str) -> None:
    """The sentence as it is: no brackets taken for markup, no line broken inside a path."""
    talk.print(Text.assemble(("error", "bold red"), " ", text), soft_wrap=True)
