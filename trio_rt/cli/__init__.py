"""The command line: `trio-rt run`, `trio-rt token`."""

import click

from trio_rt.cli.run import run_command
from trio_rt.cli.token import token_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trio-rt", prog_name="trio-rt")
def main() -> None:
    """Run and try trio_rt servers."""


main.add_command(run_command)
main.add_command(token_command)
