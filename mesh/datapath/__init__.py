"""Frames at speed: virtio-net headers and fragments; pure and hot."""
