"""``ebbtide completion``: the shell code that completes commands, options and files."""

from __future__ import annotations

import sys
from typing import Final

from ebbtide.cli.options import Options, option

OPTIONS: Final = (option("shell", choices=("bash", "zsh", "fish"), help="the shell"),)


def run(options: Options) -> int:
    """Print the code; put it into the shell's start file."""
    from argcomplete.shell_integration import shellcode  # noqa: PLC0415 - no other command needs it

    sys.stdout.write(shellcode(["ebbtide"], shell=options.shell))
    return 0
