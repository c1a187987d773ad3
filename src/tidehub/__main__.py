"""``python -m tidehub``: the same as the ``tidehub`` command."""

import sys

if __name__ == "__main__":
    try:
        from tidehub.cli.main import main
    except (ImportError, SyntaxError, EOFError, ValueError) as error:
        from tidehub.local.software.own import damaged

        failure = damaged(error)
        print(f"tidehub: {failure}", file=sys.stderr)
        sys.exit(failure.exit_code)
    main()
