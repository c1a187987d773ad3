"""`tidehub schema`: the site file as JSON Schema."""

from __future__ import annotations

import json

from tidehub.cli.console import print_lines


def schema() -> None:
    """Print the JSON Schema of the site file, for editors.

    It is of draft 2020-12. Save it beside the site file, and begin that with: # yaml-language-server:
    $schema=tidehub.schema.json
    """
    from tidehub.site.json_schema import site_schema

    print_lines([json.dumps(site_schema(), indent=2)])
