"""Properties are judged by what they find, not by how busy the machine is."""

from hypothesis import settings

settings.register_profile("no-deadline", parent=settings.get_profile("default"), deadline=None)
settings.load_profile("no-deadline")
