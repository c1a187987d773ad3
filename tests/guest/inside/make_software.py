"""All software that a platform of the release set needs, in the software root of whoever runs this; it prints JSON."""

import json

from tidehub.local import notebook_side
from tidehub.local.software import Software
from tidehub.local.software.progress import Plain

software = Software(progress=Plain())
software.environment()
software.proxy()
# Of this checkout, not of a release: who may not write here cannot add it.
print(json.dumps(str(notebook_side.install(software.root / "notebook-side"))))
