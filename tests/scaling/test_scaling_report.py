"""What is said of a prediction, and how it is drawn."""

from __future__ import annotations

import re

import pytest
from matplotlib.figure import Figure
from measured_ranks import measurement

from radflow.cluster.hosts import Host
from radflow.commands.scale import measured_jobs
from radflow.errors import UserError
from radflow.scaling.config import ScaleConfig
from radflow.scaling.figure import scaling_figure
from radflow.scaling.model import ScalingModel
from radflow.scaling.published import PUBLISHED_EFFICIENCIES
from radflow.scaling.report import advice, beside_paper, curves, in_time, measured_rows, predicted_rows


@pytest.fixture
def model() -> ScalingModel:
    """Two machines of one rank each, joined by 1 Gbit/s."""
    return ScalingModel([measurement("a", 0, 1), measurement("ab", 1e-3, 1.0)], 1, 99, 9)


CONFIG = ScaleConfig(arch="vgg16", lbz="16", largest=256, films=10_240)


def test_what_was_measured_stands_beside_what_is_predicted(model: ScalingModel) -> None:
    rows = list(measured_rows(model, curves(model, CONFIG)))
    assert [row[2] for row in rows] == ["1", "2"]
    predicted = model.predict("vgg16", 16, 2).seconds
    assert rows[1][3:] == ("1.300 s", f"{predicted:.3f} s", f"{predicted / 1.3 - 1:+.1%}")


def test_predictions_go_up_to_the_largest_number_of_ranks(model: ScalingModel) -> None:
    rows = list(predicted_rows(curves(model, CONFIG), CONFIG.films))
    assert [row[2] for row in rows] == ["1", "2", "4", "8", "16", "32", "64", "128", "256"]
    step = model.predict("vgg16", 16, 64)
    assert rows[6][3:6] == ("1,024", f"{1024 / step.seconds:,.1f}", f"{10 * step.seconds:.1f} s")
    assert rows[0][6] == "100%"


def test_the_limit_and_what_would_help_most_are_named(model: ScalingModel) -> None:
    """Where 40 MB go over 1 Gbit/s in each step of a second."""
    (curve,) = curves(model, CONFIG)
    said = advice(model, curve)
    assert said.startswith("vgg16, LBZ 16: ")
    assert "limited by the bandwidth of the link" in said
    cures = re.findall(r"(links 10 times as fast|4 micro-steps|allreduce_precision=float16).*? (\d+)%", said)
    assert {name for name, _ in cures} == {"links 10 times as fast", "4 micro-steps", "allreduce_precision=float16"}
    given = [int(percent) for _, percent in cures]
    assert given == sorted(given, reverse=True)
    assert given[0] > 80


def test_nothing_is_proposed_where_nothing_is_lacking() -> None:
    model = ScalingModel([measurement("a", 0, 1), measurement("ab", 1e-9, 4000.0)], 1, 99, 9)
    (curve,) = curves(model, CONFIG)
    assert advice(model, curve) == "vgg16, LBZ 16: 80% or more up to 256 ranks"


def test_the_figure_has_lines_for_predictions_and_points_for_what_is_known(model: ScalingModel) -> None:
    found = curves(model, CONFIG)
    figure: Figure = scaling_figure(found, "title")
    speed, efficiency = figure.axes
    lines = {len(line.get_xdata()): line for line in efficiency.lines if line.get_linestyle() == "-"}
    assert list(lines[9].get_xdata()) == [2**power for power in range(9)]
    points = [line for line in efficiency.lines if line.get_linestyle() == "None"]
    assert len(points) == 1 + len(PUBLISHED_EFFICIENCIES)
    assert list(points[0].get_xdata()) == [1, 2]
    assert speed.get_yscale() == "log"
    figure.canvas.draw()


def test_the_papers_speed_ups_stand_beside_the_predicted_ones() -> None:
    """Multiples of one rank's DenseNet-121 at BZ 8, in words and as points; without that rank there are none."""
    config = ScaleConfig(arch="densenet121,vgg16", lbz="8", largest=64)
    model = ScalingModel([measurement("a", 0, 1, networks=config.arch, local_batch=8)], 1, 1e6, 0)
    found = curves(model, config)
    one, many = model.predict("densenet121", 8, 1), model.predict("vgg16", 8, 64)
    times = many.images_per_second / one.images_per_second
    assert list(beside_paper(found)) == [
        f"VGG-16, GBZ 8,192, 64 ranks: 293 times as fast as DenseNet-121 with BZ 8 on one rank in the paper, "
        f"here {times:.3g} times with LBZ 8",
        f"DenseNet-121, GBZ 4,096, 64 ranks: 46.6 times as fast as DenseNet-121 with BZ 8 on one rank in the paper, "
        f"here {times:.3g} times with LBZ 8",
    ]
    published = [line for line in scaling_figure(found, "title").axes[0].lines if line.get_marker() == "D"]
    assert [line.get_xdata()[0] for line in published] == [64, 64]
    heights = [line.get_ydata()[0] / one.images_per_second for line in published]
    assert heights == pytest.approx([293, 46.58], rel=1e-3)
    assert not list(beside_paper(found[1:]))


@pytest.mark.parametrize(
    ("hosts", "most", "ranks"),
    [
        ([Host("localhost", 4)], 0, [(1, 1), (2, 1), (4, 1)]),
        ([Host("localhost", 40)], 0, [(1, 1), (2, 1), (4, 1), (8, 1), (10, 1)]),
        ([Host(name, 1) for name in "abcd"], 0, [(1, 1), (2, 2), (4, 4)]),
        ([Host(name, 2) for name in "abc"], 0, [(1, 1), (2, 1), (4, 2), (6, 3)]),
        ([Host(name, 2) for name in "abc"], 4, [(1, 1), (2, 1), (4, 2)]),
    ],
)
def test_ranks_measure_on_one_machine_and_then_on_more(
    hosts: list[Host], most: int, ranks: list[tuple[int, int]]
) -> None:
    assert [(count, len(used)) for count, used in measured_jobs(hosts, most)] == ranks


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"arch": "vgg16,alexnet"}, "alexnet is not a network"),
        ({"lbz": "16,0"}, "lbz=16,0"),
        ({"lbz": "many"}, "lbz=many"),
        ({"largest": 0}, "largest=0"),
        ({"network_gbit": 0.0}, "network_gbit=0"),
        ({"image_size": 16}, "does not take 16 px"),
    ],
)
def test_what_cannot_be_measured_is_a_mistake(setting: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        ScaleConfig(**setting)  # type: ignore[arg-type]


def test_times_are_read_easily() -> None:
    assert [in_time(seconds) for seconds in (3.21, 119.0, 121.0, 7199.0, 9000.0)] == [
        *("3.2 s", "119.0 s", "2.0 min", "120.0 min", "2.5 h")
    ]
