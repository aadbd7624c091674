"""Reads thousands of mutated small files of every kind by radflow's own readers, in bounded memory and time.

    python -m benchmarks.mutated_files --count=10000

Films, archives, tables, datasets, predictions, checkpoints, journals and weights are damaged by one seed each: bits,
lengths, pieces that are cut out, repeated or copied elsewhere. Each must be read, or refused in one line, within 10 s
and 1.5 GB beyond the interpreter's own. Prints counts by kind, the largest memory and time, and every failure with its
seed; exits with 1 where there is one. `--first=SEED --count=1` repeats it.
"""

from __future__ import annotations

import argparse
import json
import queue
import select
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

SECONDS = 10.0
"""That reading one file may take."""
SECONDS_TO_START = 300.0

Outcome = dict[str, Any]
"""seed, kind, mutations, outcome (right, told or wrong), text, seconds and memory in bytes"""


class Worker:
    """A process that reads files, started again when one has ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, seed: int) -> Outcome:
        """Read the mutated file of a seed."""
        process = self._process or self._start()
        process.stdin.write(f"{seed}\n".encode())
        begun = {"seed": seed, "kind": "?", "mutations": "?"} | json.loads(self._line() or "{}")
        answer = self._line()
        if answer:
            return begun | json.loads(answer)
        if answer is None:
            self.stop()
            text = f"no end within {SECONDS:g} s"
        else:
            text = f"the process ended with code {process.wait()} (negative: by that signal)"
            self._process = None
        return begun | {"outcome": "wrong", "text": text, "seconds": SECONDS, "memory": 0}

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "benchmarks.mutated_files.worker"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        if not self._line(SECONDS_TO_START):
            self.stop()
            raise SystemExit("the worker did not start")
        return self._process

    def _line(self, seconds: float = SECONDS) -> bytes | None:
        """The next line of the process; empty where it has ended, None where it is late."""
        answers = self._process.stdout
        return answers.readline() if select.select([answers], [], [], seconds)[0] else None


def outcomes(seeds: range, workers: int) -> Iterator[Outcome]:
    """What becomes of the files of these seeds, in any order."""

    def of_share(number: int) -> None:
        worker = Worker()
        try:
            for seed in seeds[number::workers]:
                found.put(worker.run(seed))
        finally:
            worker.stop()
            found.put(None)

    found: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
    with ThreadPoolExecutor(workers) as pool:
        shares = [pool.submit(of_share, number) for number in range(workers)]
        for _ in shares:
            yield from iter(found.get, None)
    for share in shares:
        share.result()


def print_table(by_kind: dict[str, list[Outcome]]) -> None:
    """Counts, and the largest memory and time, of each kind."""
    print(f"{'kind':28}{'files':>7}{'read':>7}{'told':>7}{'wrong':>7}{'most MB':>9}{'most s':>8}")
    rows = {**dict(sorted(by_kind.items())), "all": [each for group in by_kind.values() for each in group]}
    for kind, group in rows.items():
        counts = [sum(each["outcome"] == name for each in group) for name in ("right", "told", "wrong")]
        megabytes, seconds = max(each["memory"] for each in group) / 1e6, max(each["seconds"] for each in group)
        print(f"{kind:28}{len(group):7,}" + "".join(f"{n:7,}" for n in counts) + f"{megabytes:9,.0f}{seconds:8.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    by_kind: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes(range(options.first, options.first + options.count), min(options.workers, options.count)):
        by_kind[outcome["kind"]].append(outcome)
        if outcome["outcome"] == "wrong" or options.count == 1:
            print("{seed} {kind} ({mutations}): {outcome}: {text}".format(**outcome), flush=True)
    print_table(by_kind)
    return int(any(each["outcome"] == "wrong" for group in by_kind.values() for each in group))


if __name__ == "__main__":
    sys.exit(main())
