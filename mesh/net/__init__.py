"""The only code of an edge that touches the kernel."""
