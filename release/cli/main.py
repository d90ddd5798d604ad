"""The `open360` command: lazy subcommands, and the one place that turns errors into exit codes.

0 done; 1 findings at or above `--fail-on`, or publishing refused for them; 2 wrong usage or unreadable spec;
3 the outside failed (network, Hub, disk), trying again may help; 70 a bug, with a traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback

import click

from open360.release.cli.exit_codes import exit_code_of

COMMANDS = {
    "init": ("open360.release.cli.init_command", "Write a small release of one's own, ready for `dvc repro`."),
    "validate": ("open360.release.cli.validate_command", "Judge a release against its spec and manifest."),
    "show": ("open360.release.cli.show_command", "Show what a release holds."),
    "diff": ("open360.release.cli.diff_command", "Compare two releases, two versions, or a release and its mirror."),
    "pull": ("open360.release.cli.pull_command", "Fetch the data or the weights of a checkpoint, verified."),
    "index": (
        "open360.release.cli.index_command",
        "Index files of JSON lines, so that rows are read by range.",
    ),
    "publish": ("open360.release.cli.publish_command", "Publish a built release to the Hub."),
    "hub": ("open360.release.cli.hub_command", "Serve a local Hub from a folder."),
    "rules": ("open360.release.cli.rules_command", "List the rules, or explain one."),
    "catalogue": ("open360.release.cli.catalogue_command", "List the known releases, or print the spec of one."),
}


class LazyGroup(click.Group):
    """Imports a subcommand's module only when it is called, so that `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of the work."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called `cmd_name`, imported now."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, without importing any command."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="open360")
def cli() -> None:
    """Make, prove and open up fully open releases of language models.

    A TARGET is a folder that exists, else ORG/NAME on the Hub.
    """


def run() -> None:
    """Entry point of the console script."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; nothing half-written is left, the same command goes on", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone; python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # noqa: BLE001  the outermost frame
        code = exit_code_of(error)
        if code is None:
            traceback.print_exc()
            click.echo("this is a bug in open360; please report it with the lines above", err=True)
            sys.exit(70)
        click.echo(f"error: {_shown(error)}", err=True)
        sys.exit(code)


def _shown(error: BaseException) -> str:
    """The message of an error, with escapes for whatever a terminal would obey."""
    from open360.release.reports.report_words import printable

    return "\n".join(printable(line) for line in str(error).split("\n"))
