"""What mpirun says of the end of a job is told from what ranks say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radflow.cluster.launchers.mpirun_messages import MpirunMessages

RULE = b"-" * 74 + b"\n"
EXITED = (
    RULE
    + b"prterun detected that one or more processes exited with non-zero status,\n"
    + b"thus causing the job to be terminated. The first process to do so was:\n\n"
    + b"   Process name: [prterun-node1-24189@1,1]\n   Exit code:    1\n"
    + RULE
)
WARNING = RULE + b"WARNING: There was an error initializing an OpenFabrics device.\n" + RULE
TRACEBACK = b"Traceback (most recent call last):\nValueError: 3\n"


@given(st.lists(st.sampled_from([EXITED, WARNING, TRACEBACK, b"-- \n", b"text", b"\n"]), max_size=6), st.data())
def test_only_messages_of_the_end_are_held_back_however_the_output_is_cut(parts: list[bytes], data) -> None:
    whole = b"".join(part + b"\n" for part in parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    messages = MpirunMessages()
    pieces = [whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    shown = b"".join(messages.take(piece) for piece in pieces)
    assert shown == whole.replace(EXITED, b"")
    assert messages.text.encode() == EXITED * whole.count(EXITED)


def test_what_was_begun_when_the_output_ends_is_not_lost() -> None:
    messages = MpirunMessages()
    assert messages.take(TRACEBACK + EXITED[:200]) == TRACEBACK
    assert messages.text.encode() == EXITED[:200]


@pytest.mark.parametrize("beginning", [b"-" * 5, RULE + b"some text\n"])
def test_a_rule_that_begins_no_message_is_shown_at_last(beginning: bytes) -> None:
    messages = MpirunMessages()
    rest = b"".join(b"line %d\n" % number for number in range(4000))
    assert messages.take(beginning) + messages.take(rest) == beginning + rest
