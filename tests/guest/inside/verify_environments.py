"""Compares every file of the environments below a software root with the hash that its wheel recorded.

    verify_environments.py SOFTWARE_ROOT

Printed is JSON: how many files were compared, and those that differ. Directories that are not marked complete do not
count: nothing uses them.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import sys
from pathlib import Path


def verify(root: Path) -> tuple[int, list[str]]:
    """The number of files compared and what is wrong with some."""
    compared, damaged = 0, []
    for marker in root.glob("*/*/complete.json"):
        for record in marker.parent.glob("lib/python*/site-packages/*.dist-info/RECORD"):
            text = record.read_text(encoding="utf-8")
            if not text:
                damaged.append(f"{record} is empty")
            for name, digest, _ in csv.reader(text.splitlines()):
                # Scripts are written anew with the environment's own Python.
                if not digest or name.startswith(".."):
                    continue
                compared += 1
                kind, _, wanted = digest.partition("=")
                path = record.parent.parent / name
                found = hashlib.new(kind, path.read_bytes()).digest() if path.is_file() else b""
                if base64.urlsafe_b64encode(found).rstrip(b"=").decode() != wanted:
                    damaged.append(f"{path}: {path.stat().st_size if path.exists() else 'no'} bytes")
    return compared, damaged


if __name__ == "__main__":
    files, wrong = verify(Path(sys.argv[1]))
    print(json.dumps({"files": files, "damaged": wrong[:20]}))
