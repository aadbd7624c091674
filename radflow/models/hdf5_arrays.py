"""A program that reads every array of an HDF5 file, and says in a line why it is none of plain arrays.

The HDF5 library has published advisories about made-up files: `check_weights_file` lets this process, which imports
nothing of radflow, meet a file before the training does. What ends it, by a signal or without end, is told there.
"""

from __future__ import annotations

import resource
import sys

import h5py

MEMORY = 4 * 2**30
"""Bytes that reading may take: twice the largest file of weights."""


def main(path: str, size: int) -> str | None:
    """Read the arrays of a file of `size` bytes; return what is wrong with it, or None."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most), most))
    room = size

    def look(name: str, link: object) -> str | None:
        nonlocal room
        if not isinstance(link, h5py.HardLink):
            return f"{name} is a link to elsewhere"
        item = file[name]
        if not isinstance(item, h5py.Dataset):
            return None
        if item.is_virtual or item.external or item.compression or item.dtype.kind not in "biuf":
            return f"{name} is not a plain array"
        room -= item.nbytes
        if room < 0:
            return f"its arrays take more room than the file's {size:,} bytes"
        item[()]
        return None

    with h5py.File(path, "r") as file:
        return file.visititems_links(look)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1], int(sys.argv[2])))
    except Exception as error:  # noqa: BLE001 - whatever h5py raises is a reason
        sys.exit(" ".join(str(error).split())[:300] or type(error).__name__)
