"""Who sent the bytes: Noise handshakes, sessions, cookies and keys; pure."""
