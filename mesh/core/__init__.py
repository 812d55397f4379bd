"""What to do about it: the deterministic engine of an edge; pure."""
