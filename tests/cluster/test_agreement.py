from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from radflow.cluster.agreement import (
    Agreement,
    RankValues,
    check_agreement,
    check_clocks,
    describe_clocks,
    describe_difference,
)
from radflow.cluster.communicator import SerialCommunicator
from radflow.errors import UserError


class OneOfTwo(SerialCommunicator):
    """The first of two ranks; the other one has what a test says."""

    size = 2

    def __init__(self, other: Callable[[bytes], bytes]) -> None:
        self._other = other

    def allgather(self, rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, np.frombuffer(self._other(rows.tobytes()), np.uint8)])


def test_ranks_that_have_the_same_go_on() -> None:
    agreement = Agreement("settings", {"gbz": 64, "arch": "vgg16"}, "fix")
    check_agreement(OneOfTwo(lambda own: own), agreement)
    check_agreement(SerialCommunicator(), agreement)


def test_a_rank_that_has_another_is_named_with_the_mend() -> None:
    def other(own: bytes) -> bytes:
        return own.replace(b'"64"', b'"128"').replace(b'"host": "', b'"host": "second-')

    with pytest.raises(UserError, match=r"^ranks have different settings: gbz=64 on .*\(rank 0\), gbz=128 on second-"):
        check_agreement(OneOfTwo(other), Agreement("settings", {"arch": "vgg16", "gbz": 64}, "fix"))


@pytest.mark.parametrize(
    ("clocks", "told"),
    [
        ((0.0, 4.9, -4.9), ""),
        ((0.0, -312.4, 7.0), "the clock of h1 is 312 s behind that of h0, and those of 1 more hosts differ; "),
        ((0.0, 0.1, 61.0), "the clock of h2 is 61 s ahead of that of h0; "),
    ],
)
def test_a_clock_that_is_far_off_is_told(clocks: tuple[float, ...], told: str) -> None:
    found = describe_clocks([RankValues(f"h{rank}", {"clock": str(clock)}) for rank, clock in enumerate(clocks)])
    assert found.startswith(told)
    assert bool(found) == bool(told)


def test_clocks_are_read_at_the_same_time(capsys) -> None:
    def other(own: bytes) -> bytes:
        return own.replace(b'"clock": "1', b'"clock": "3') if own.startswith(b"{") else own

    check_clocks(OneOfTwo(lambda own: own))
    assert capsys.readouterr().err == ""
    check_clocks(OneOfTwo(other))
    assert "s ahead of that of" in capsys.readouterr().err


def ranks(*values: tuple[str, dict[str, str]]) -> list[RankValues]:
    return [RankValues(host, each) for host, each in values]


def test_hosts_are_named_with_their_ranks_the_fewest_first() -> None:
    old, new = {"keras": "3.14", "numpy": "2.0"}, {"keras": "3.15", "numpy": "2.0"}
    found = describe_difference(ranks(("a", new), ("a", new), ("b", new), ("b", old)))
    assert found == "keras=3.14 on b (rank 3), keras=3.15 on a (ranks 0, 1), b (rank 2)"


def test_many_hosts_are_counted() -> None:
    rows = [(f"n{number}", {"SHA-256": "x" if number == 7 else "y"}) for number in range(32)]
    expected = (
        "SHA-256=x on n7 (rank 7), SHA-256=y on n0 (rank 0), n1 (rank 1), n2 (rank 2), n3 (rank 3) and 27 more hosts"
    )
    assert describe_difference(ranks(*rows)) == expected


def test_what_only_one_rank_knows_is_a_difference() -> None:
    for values in (({}, {"ema": "0"}), ({"ema": "0"}, {})):
        found = describe_difference(ranks(("a", values[0]), ("b", values[1])))
        assert "ema=nothing on" in found
    assert describe_difference(ranks(("a", {}), ("b", {}))) == ""
