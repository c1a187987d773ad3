"""`python -m tidehub.identity --config FILE`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from tidehub.errors import INTERRUPTED, TidehubError
from tidehub.identity.config import load_config
from tidehub.identity.server import serve, set_up_logging


def main(arguments: list[str] | None = None) -> int:
    """Serve the provider; the exit code is 0 after a clean stop."""
    parser = argparse.ArgumentParser(
        prog="python -m tidehub.identity",
        description="The OpenID Provider for trying out. Its configuration is a JSON file of mode 0600.",
    )
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.config)
        set_up_logging(config.log_level)
        asyncio.run(serve(config))
    except TidehubError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
