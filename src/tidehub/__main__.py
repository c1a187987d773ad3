"""``python -m tidehub``: the same as the ``tidehub`` command."""

from tidehub.cli.main import main

if __name__ == "__main__":
    main()
