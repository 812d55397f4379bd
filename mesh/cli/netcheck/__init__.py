"""``mesh-edge netcheck``: what this machine's way into the world is like, and what would help."""
