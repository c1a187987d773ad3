"""Whether the software of a Debian machine's disk is what a checkout looks for, as its own code judges that.

    software_fits.py SOURCE SOFTWARE_ROOT DIRECTORY...

DIRECTORY is relative to the root; an environment's name goes on with that of its Python. Printed is the JSON list of
what is missing or damaged. Run by the system's Python with `-I -S`.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])

from tidehub.local.software import directories, layout

faults = []
root = Path(sys.argv[2])
for name in sys.argv[3:]:
    found = [place for place in sorted(root.glob(f"{name}*")) if layout.is_complete(place)]
    if not found:
        faults.append(f"{root / name} is missing")
    faults += filter(None, (directories.damage(place, thoroughly=False) for place in found))
print(json.dumps(faults))
