"""The commands in the order in which `didact --help` lists them, and how errors end.

Results go to stdout, progress and messages to stderr. Exit codes: 0 done, or a verdict of yes ·
1 you can fix it · 2 usage · 3 our bug · 4 a verdict of no (an order is broken, a version of the
data is flagged) · 5 it cannot tell.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from didact.cli import (
    cache,
    calibrate,
    compare,
    config,
    dedup,
    demo,
    diff,
    evaluate,
    export,
    init,
    inspect,
    law,
    methods,
    monitor,
    order,
    plan,
    proxy,
    report,
    run,
    score,
    select,
    train,
    verify_order,
)
from didact.cli.commands import App
from didact.cli.streams import GO_ON, say

app = App(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Decides what a language model should read, in what order, for the compute there is.",
    epilog="Start with: didact inspect FILE · didact init FILE -o run.yaml · "
    "didact run run.yaml -o OUT",
)
app.command(epilog=run.EXAMPLES)(run.run)
app.command(epilog=demo.EXAMPLES)(demo.demo)
app.command(epilog=inspect.EXAMPLES)(inspect.inspect)
app.command(epilog=init.EXAMPLES)(init.init)
app.command(epilog=score.EXAMPLES)(score.score)
app.command(epilog=select.EXAMPLES)(select.select)
app.command(epilog=order.EXAMPLES)(order.order)
app.command(epilog=export.EXAMPLES)(export.export)
app.command(epilog=dedup.EXAMPLES)(dedup.dedup)
app.command(epilog=plan.EXAMPLES)(plan.plan)
app.command(epilog=compare.EXAMPLES)(compare.compare)
app.command(epilog=train.EXAMPLES)(train.train)
app.command(epilog=evaluate.EXAMPLES)(evaluate.evaluate)
app.command(epilog=law.EXAMPLES)(law.law)
app.command(epilog=monitor.EXAMPLES)(monitor.monitor)
app.command("verify-order", epilog=verify_order.EXAMPLES)(verify_order.verify_order)
app.command(epilog=report.EXAMPLES)(report.report)
app.command(epilog=diff.EXAMPLES)(diff.diff)
app.command(epilog=methods.EXAMPLES)(methods.methods)
app.command(epilog=calibrate.EXAMPLES)(calibrate.calibrate)
app.add_typer(config.app, name="config")
app.add_typer(proxy.app, name="proxy")
app.add_typer(cache.app, name="cache")


def _version(wanted: bool) -> None:
    if wanted:
        from didact.cli.version import described

        sys.stdout.write(described() + "\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Print the versions of all that matters.",
        ),
    ] = False,
) -> None:
    del version


class Stopped(BaseException):
    """A signal that asks to stop: SIGTERM, or SIGHUP where nobody asked to ignore it."""


def _stop(number: int, _: object) -> None:
    raise Stopped(signal.Signals(number).name, number)


def _hear_signals() -> None:
    """What ends other programs without a word ends this one as Ctrl-C does."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _stop)


def main() -> None:
    """Run the command line; every error ends in an exit code."""
    from didact.core.errors import DamagedError, DidactError

    try:
        _hear_signals()
        try:
            app(prog_name="didact")
        except DamagedError as error:  # its entry is void now: once more makes it again
            say(f"{error.path}: is damaged ({error.what}); making it again")
            app(prog_name="didact")
    except Stopped as stop:
        name, number = stop.args
        say(f"stopped by {name}; {GO_ON}")
        sys.exit(128 + number)
    except KeyboardInterrupt:  # before or after a command, which says it itself
        say(f"interrupted; {GO_ON}")
        sys.exit(130)
    except DidactError as error:
        say(f"{type(error).__name__}: {error}")
        sys.exit(error.exit_code)
    except OSError as error:
        import errno

        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        remedy = "; free some space and run the same command again" if full else ""
        say(f"{error.filename or 'a file'}: {error.strerror or error}{remedy}")
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the outermost boundary: whatever is left is a bug
        import traceback

        say(traceback.format_exc().rstrip())
        say(
            f"this is a bug in {_whose(error)}: please report it with the lines above "
            "and those of 'didact --version'"
        )
        sys.exit(3)


def _whose(error: Exception) -> str:
    """The plug-in's package where one of its functions was running, else didact."""
    import traceback

    from didact.core.registry import plug_in_packages

    packages = plug_in_packages()
    found = "didact"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        found = f"the plug-in {package}" if package in packages else found
    return found
