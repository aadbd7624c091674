from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radflow.cluster.batch_plan import plan_batches
from radflow.cluster.hosts import Host, choose_ranks, parse_hosts, unused_slots_warning
from radflow.errors import UserError


def test_hosts_are_names_with_slots():
    assert parse_hosts("node1:2, node2") == [Host("node1", 2), Host("node2", 1)]
    (here,) = parse_hosts("")
    assert here.name == "localhost"


@pytest.mark.parametrize("hosts", ["node1:two", ":2", "node1:0", "node1,,node2"])
def test_a_wrong_host_list_is_named(hosts):
    with pytest.raises(UserError, match="name:slots"):
        parse_hosts(hosts)


def test_hosts_are_read_from_a_file_as_mpirun_reads_it(tmp_path):
    file = tmp_path / "hostfile"
    file.write_text("# an MPIJob's\njob-0.job.svc slots=2\n\nnode2:4\nnode3   slots = 1 max_slots=2\nnode4\n")
    assert parse_hosts(str(file)) == [*(Host("job-0.job.svc", 2), Host("node2", 4), Host("node3", 1), Host("node4", 1))]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("node1 slots=two", "'node1 slots=two' is not `name slots=number`"),
        ("# nothing\n", "names no hosts"),
        (None, "no file of"),
    ],
)
def test_a_wrong_hostfile_is_named(tmp_path, text, told):
    file = tmp_path / "hostfile"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=told):
        parse_hosts(str(file))


def test_ranks_fill_the_slots_of_named_hosts_and_suit_the_cores_of_one_machine():
    assert choose_ranks("auto", [Host("node1", 2), Host("node2", 2)], 64) == 4
    assert choose_ranks("auto", [Host("localhost", 2)], 64) == 2
    assert choose_ranks("auto", [Host("localhost", 40)], 640) == 10
    assert choose_ranks(3, [Host("localhost", 4)], 48) == 3


def test_two_hosts_are_used_where_a_smaller_local_batch_divides():
    """448 is no multiple of 2 x 64, and of 2 x 56 it is."""
    hosts = [Host("a", 1), Host("b", 1)]
    assert choose_ranks("auto", hosts, 448) == 2
    assert unused_slots_warning(2, hosts, 448) == ""


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 9000), st.integers(1, 130))
def test_no_slot_is_idle_unless_nothing_divides(slots, global_batch, largest_local_batch):
    hosts = [Host(f"node{number}", count) for number, count in enumerate(slots)]
    ranks = choose_ranks("auto", hosts, global_batch)
    plan = plan_batches(global_batch, largest_local_batch, ranks, films=10_000)
    assert ranks * plan.local_batch * plan.micro_steps == global_batch
    assert 1 <= plan.local_batch <= largest_local_batch
    share = global_batch // ranks
    assert not any(share % size == 0 for size in range(plan.local_batch + 1, min(share, largest_local_batch) + 1))
    assert not any(global_batch % more == 0 for more in range(ranks + 1, sum(slots) + 1))
    warning = unused_slots_warning(ranks, hosts, global_batch)
    assert bool(warning) == (ranks < sum(slots))
    if warning:
        nearest = [int(value) for value in warning.rpartition("gbz=")[2].replace(" uses all", "").split(" or ")]
        assert all(choose_ranks("auto", hosts, value) == sum(slots) for value in nearest)
        assert min(abs(value - global_batch) for value in nearest) < sum(slots)


@pytest.mark.parametrize("ranks", [5, 0, -1])
def test_more_ranks_than_slots_or_none_is_a_mistake(ranks):
    with pytest.raises(UserError, match=f"np={ranks}"):
        choose_ranks(ranks, [Host("node1", 2), Host("node2", 2)], 64)


def test_on_one_machine_the_mend_is_to_share_cores():
    with pytest.raises(UserError, match="hosts=localhost:4"):
        choose_ranks(4, [Host("localhost", 2)], 64)
    assert choose_ranks(4, [Host("localhost", 4)], 64) == 4
