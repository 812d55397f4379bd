"""Where a supernode keeps leases; the only part of it that knows the time of day."""
