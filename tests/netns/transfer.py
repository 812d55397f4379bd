"""Bulk transfers over one TCP connection from one edge's machine to another's."""

import hashlib
import subprocess
import sys

from tests.netns.product import Edge

CONTENT = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(65536)) * 4
PORT = 5000

RECEIVE = f"""
import hashlib, socket, sys
server = socket.create_server((sys.argv[1], {PORT}), family=int(sys.argv[2]))
print("ready", flush=True)
taken, digest = server.accept()[0], hashlib.sha256()
while data := taken.recv(1 << 20):
    digest.update(data)
print(digest.hexdigest(), flush=True)
taken.send(b"done")
"""

SEND = f"""
import socket, sys
taken = socket.create_connection((sys.argv[1], {PORT}), timeout=20)
taken.sendall(sys.stdin.buffer.read())
taken.shutdown(socket.SHUT_WR)
assert taken.recv(10) == b"done"
"""


def transfer(source: Edge, destination: Edge, address: str) -> bool:
    """Send CONTENT over one TCP connection; return whether it arrived unchanged."""
    family = "10" if ":" in address else "2"
    receiver = destination.host.popen(
        *(sys.executable, "-c", RECEIVE, address, family), stdout=subprocess.PIPE
    )
    assert receiver.stdout is not None
    try:
        assert receiver.stdout.readline() == "ready\n"
        command = source.host.enter(sys.executable, "-c", SEND, address)
        subprocess.run(command, input=CONTENT, check=True, timeout=60)
        return receiver.stdout.readline().strip() == hashlib.sha256(CONTENT).hexdigest()
    finally:
        receiver.kill()
        receiver.wait()
        receiver.stdout.close()
