"""Where a supernode keeps leases."""
