"""Options and arguments that several commands share."""

from __future__ import annotations

import click

target_argument = click.argument("target", metavar="TARGET")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")
tag_option = click.option("--tag", metavar="TAG", help="Tag to start from on the Hub [default: the newest version].")
endpoint_option = click.option(
    "--endpoint",
    envvar="HF_ENDPOINT",
    metavar="URL",
    help="Address of the Hub [default: $HF_ENDPOINT, or the public Hub].",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
