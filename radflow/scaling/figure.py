"""The picture of a prediction: speed and efficiency against ranks, with what was measured and what was published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from radflow.plots.style import AMBER, BLUE, GREEN, GREY, ORANGE, PURPLE, legend_above, new_figure, tidy
from radflow.scaling.published import PUBLISHED_EFFICIENCIES, PUBLISHED_SPEEDS
from radflow.scaling.report import Curve, find_yardstick

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, AMBER)


def scaling_figure(curves: Sequence[Curve], title: str) -> Figure:
    """Images a second, and efficiency, of each curve against ranks; points are measured, lines predicted."""
    figure = new_figure(title, 5.9, gap=0.08)
    speed, efficiency = figure.subplots(1, 2)
    speed.set_yscale("log")
    for number, curve in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        ranks = [step.ranks for step in curve.predicted]
        rates = [step.images_per_second for step in curve.predicted]
        speed.plot(ranks, [count * rates[0] for count in ranks], color=colour, linewidth=0.8, linestyle=":")
        speed.plot(ranks, rates, color=colour, linewidth=1.6, label=curve.name)
        efficiency.plot(ranks, [curve.efficiency(step) for step in curve.predicted], color=colour, linewidth=1.6)
        seen = [step.ranks for step in curve.measured]
        point = {"color": colour, "marker": "o", "linestyle": "none", "markersize": 6, "markeredgecolor": "white"}
        speed.plot(seen, [step.images_per_second for step in curve.measured], **point)
        efficiency.plot(seen, [curve.efficiency(step) for step in curve.measured], **point)
    if yardstick := find_yardstick(curves):
        rate = yardstick.predicted[0].images_per_second
        caption = "published, in multiples of DenseNet-121, BZ 8, one rank:"
        _draw_published(speed, caption, {one.what: (one.ranks, one.times * rate) for one in PUBLISHED_SPEEDS})
    _draw_published(efficiency, "published:", {one.what: (one.ranks, one.efficiency) for one in PUBLISHED_EFFICIENCIES})
    speed.set_title("Images a second (dotted: as many times one rank)", fontsize=11, pad=24)
    efficiency.set_title("Efficiency", fontsize=11, pad=24)
    efficiency.set_ylim(0, 1.1)
    efficiency.yaxis.set_major_formatter(PercentFormatter(1.0))
    legend_above(speed, columns=2)
    for axes in (speed, efficiency):
        _draw_axis_of_ranks(axes)
    return figure


def _draw_published(axes: Axes, caption: str, points: Mapping[str, tuple[int, float]]) -> None:
    """Numbered points, with what each is below the axis: curves may be anywhere above it."""
    for number, point in enumerate(points.values(), 1):
        axes.plot(*point, color=GREY, marker="D", linestyle="none", markersize=5)
        axes.annotate(str(number), point, (6, 4), textcoords="offset points", color=GREY, fontsize=9)
    lines = [f"{number}  {what}" for number, what in enumerate(points, 1)]
    text = "\n".join([caption, *lines])
    axes.text(0, -0.17, text, va="top", transform=axes.transAxes, fontsize=8, color=GREY)


def _draw_axis_of_ranks(axes: Axes) -> None:
    tidy(axes)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ranks, _: f"{ranks:,.0f}"))
    axes.set_xlabel("Ranks (points: measured; lines: predicted)")
