"""What happens to files on bad disks, and what an attacker does to them; each mutation is decided by one seed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

HUGE = (0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**60, 2**63 - 1, 2**64 - 1)
LONGEST_REPEAT = 500_000
_NUMBER = re.compile(rb"\d+")


def flip_bits(content: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 1, 2, 8))):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)


def set_bytes(content: bytearray, draw: random.Random) -> None:
    for _ in range(draw.choice((1, 2, 4))):
        content[draw.randrange(len(content))] = draw.choice((0, 0xFF, draw.randrange(256)))


def truncate(content: bytearray, draw: random.Random) -> None:
    del content[draw.randrange(len(content)) :]


def remove(content: bytearray, draw: random.Random) -> None:
    begin, end = _piece(content, draw)
    del content[begin:end]


def repeat(content: bytearray, draw: random.Random) -> None:
    begin, end = _piece(content, draw)
    times = draw.choice((1, 1, 3, 1000))
    content[end:end] = content[begin:end] * min(times, 1 + LONGEST_REPEAT // (end - begin))


def splice(content: bytearray, draw: random.Random) -> None:
    """Copy a piece over another place."""
    begin, end = _piece(content, draw)
    place = draw.randrange(len(content))
    content[place : place + end - begin] = content[begin:end]


def set_length(content: bytearray, draw: random.Random) -> None:
    """Write a number over 2, 4 or 8 bytes, as a length would stand there."""
    width = draw.choice((2, 4, 8))
    place = draw.randrange(len(content))
    number = draw.choice(HUGE) % 256**width
    content[place : place + width] = number.to_bytes(width, draw.choice(("little", "big")))


def set_number(content: bytearray, draw: random.Random) -> None:
    """Write another number over one in digits; where there is none, set a length."""
    found = list(_NUMBER.finditer(content))
    if not found:
        set_length(content, draw)
        return
    number = draw.choice(found)
    content[number.start() : number.end()] = draw.choice(
        (str(draw.choice(HUGE)).encode(), b"-1", b"1e999", b"NaN", b"0", b"9" * 5000, b"null")
    )


def add_noise(content: bytearray, draw: random.Random) -> None:
    place = draw.choice((0, len(content), draw.randrange(len(content))))
    content[place:place] = draw.choice((draw.randbytes(draw.randrange(1, 200)), bytes(512), b"[" * 5000, b'"', b"\n"))


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    *(flip_bits, set_bytes, truncate, remove, repeat, splice, set_length, set_number, add_noise),
)


def mutate(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Content with one to three mutations, and their names."""
    mutated, names = bytearray(content), []
    for _ in range(draw.choice((1, 1, 1, 1, 2, 3))):
        if mutated:
            mutation = draw.choice(MUTATIONS)
            mutation(mutated, draw)
            names.append(mutation.__name__)
    return bytes(mutated), ", ".join(names)


def _piece(content: bytearray, draw: random.Random) -> tuple[int, int]:
    begin = draw.randrange(len(content))
    return begin, begin + draw.randrange(1, draw.choice((8, 64, 4096)))
