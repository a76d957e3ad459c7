"""`residscope`: the commands, and how they fail."""

import os
import sys
import traceback
from importlib import import_module

import click

from residscope import __version__
from residscope.errors import ResidscopeError

# Each command lives in the part that it opens; parts side by side do not import each other, so they are named.
_COMMANDS = {
    "serve": "residscope.server.command",
    "run": "residscope.cli.run",
    "lens": "residscope.cli.lens",
    "attribute": "residscope.cli.attribute",
    "patch": "residscope.cli.patch",
    "heads": "residscope.cli.heads",
    "graph": "residscope.cli.graph",
    "directions": "residscope.cli.directions",
    "reproduce": "residscope.cli.reproduce",
    "users": "residscope.cli.users",
    "doctor": "residscope.cli.doctor",
}


class Commands(click.Group):
    """The commands of `_COMMANDS`, each imported when it is asked for."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(_COMMANDS[name]), name)
        return command


@click.group(cls=Commands, invoke_without_command=True)
@click.version_option(__version__, prog_name="residscope")
@click.pass_context
def cli(context: click.Context) -> None:
    """See, take apart and change the residual stream of transformer language models.

    Without a command: the workbench in the browser, on the model that RESIDSCOPE_MODEL names.
    """
    if context.invoked_subcommand is None:
        context.invoke(import_module(_COMMANDS["serve"]).serve)


def main() -> None:
    """Run the command line: exit status 0, 1 (it failed, in one line) or 2 (the call's words are off)."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(1)
    except ResidscopeError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"Error: {error.filename or 'the system'}: {error.strerror or error}.", err=True)
        sys.exit(1)
    except Exception as error:
        if os.environ.get("RESIDSCOPE_TRACEBACK"):
            traceback.print_exc()
        click.echo(
            f"Error: {type(error).__name__}: {error}. This is a defect of Residscope; "
            "RESIDSCOPE_TRACEBACK=1 shows where.",
            err=True,
        )
        sys.exit(1)
