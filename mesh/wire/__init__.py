"""What the bytes mean: datagrams, messages and Ethernet headers; pure."""
