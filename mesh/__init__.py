"""Peer-to-peer virtual Ethernet: one LAN for machines behind any NAT."""

__version__ = "0.1.0"
