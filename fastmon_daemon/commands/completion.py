"""`fastmon-daemon completion`: print the script that completes commands and options in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "fastmon-daemon"


@click.command(epilog="Exit codes: 0 printed, 2 usage error.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Write it to the file that the shell reads:
      bash: ~/.local/share/bash-completion/completions/fastmon-daemon
      zsh:  _fastmon-daemon in a folder of $fpath
      fish: ~/.config/fish/completions/fastmon-daemon.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    variable = f"_{PROGRAM}_COMPLETE".replace("-", "_").upper()
    complete = kind(ctx.find_root().command, {}, PROGRAM, variable)
    click.echo(complete.source_template % complete.source_vars())  # source() asks which bash this machine has
