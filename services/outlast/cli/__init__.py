"""The command ``outlast``; this page is what runs before anything heavy is loaded."""

import os
import signal
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Load the commands and run one. Ctrl-C leaves quietly from the first moment on."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from outlast.cli.commands import run_command

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run_command()
