"""A switch in user space that holds each frame back for a while: a long cable, on kernels without netem.

    python -m benchmarks.delaying_switch MILLISECONDS INTERFACE INTERFACE ...

joins network interfaces of this machine until it is ended. Frames keep what the kernel left for the network card to do
(checksums, segmentation), so that large ones pass whole.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections import deque
from select import select

ETH_P_ALL, SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 3, 263, 15, 23
HEADER = 10
"""Bytes before each frame: what is left to the card."""
LONGEST = 2**17
BUFFER = 2**23


def main() -> None:
    delay, cables = float(sys.argv[1]) / 1000, [_open(name) for name in sys.argv[2:]]
    # Ranks that wait for a message poll for it, and would leave this process no time on a machine of few cores.
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    home_of: dict[bytes, socket.socket] = {}
    waiting: deque[tuple[float, socket.socket, bytes]] = deque()
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for cable in select(cables, [], [], timeout)[0]:
            frame = cable.recv(LONGEST)
            to, sender = frame[HEADER : HEADER + 6], frame[HEADER + 6 : HEADER + 12]
            home_of[sender] = cable
            targets = [home_of[to]] if to in home_of else [other for other in cables if other is not cable]
            due = time.monotonic() + delay
            waiting.extend((due, target, frame) for target in targets)
        while waiting and waiting[0][0] <= time.monotonic():
            _, target, frame = waiting.popleft()
            target.send(frame)


def _open(interface: str) -> socket.socket:
    cable = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    cable.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    cable.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    cable.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    cable.bind((interface, 0))
    return cable


if __name__ == "__main__":
    main()
