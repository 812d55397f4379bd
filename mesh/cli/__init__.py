"""The mesh-edge command."""
