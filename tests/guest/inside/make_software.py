"""All software that a platform of the release set needs, in the software root of whoever runs this."""

from tidehub.local.software import Software
from tidehub.local.software.progress import Plain

software = Software(progress=Plain())
software.environment()
software.proxy()
