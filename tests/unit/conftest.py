from __future__ import annotations

from hypothesis import settings

# No deadline for single examples: these tests also run on machines that are busy with something else.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
