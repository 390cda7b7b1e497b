"""``ebbtide completion``: generate a shell script that completes commands, options and file names."""

from __future__ import annotations

import sys
from typing import Final

from ebbtide.cli.base.options import Options, make_option

OPTIONS: Final = (make_option("shell", choices=("bash", "zsh", "fish"), help="Shell"),)


def run(options: Options) -> int:
    """Print the script; the user adds it to the shell's startup file."""
    from argcomplete.shell_integration import shellcode

    sys.stdout.write(shellcode(["ebbtide"], shell=options.shell))
    return 0
