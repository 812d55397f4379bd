"""The meeting point of a mesh: registration, introductions, leases and relaying."""
