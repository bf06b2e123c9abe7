"""Figures of a report. A new one is a file with a function (run) -> Figure or None, and an entry of FIGURES."""

from collections.abc import Callable
from typing import NamedTuple

from matplotlib.figure import Figure

from prec_backdoor.reporting.cells import Run
from prec_backdoor.reporting.figures.exposure_by_rate import exposure_by_rate
from prec_backdoor.reporting.figures.rank_distributions import rank_distributions
from prec_backdoor.reporting.figures.spill_over import spill_over
from prec_backdoor.reporting.figures.stealth_plane import stealth_plane
from prec_backdoor.reporting.figures.survival import survival


class Drawing(NamedTuple):
    """An entry of FIGURES.

    Attributes:
      caption: {k} stands for the cut-off of exposure.
      draw: returns None if the figure does not apply to the run.
      tall: the figure is higher than wide.
    """

    draw: Callable[[Run], Figure | None]
    title: str
    caption: str
    tall: bool = False


FIGURES = {
    "exposure_by_rate": Drawing(
        exposure_by_rate,
        "Exposure by rate",
        "Share of targets among the first {k} against the replacement rate; the clean model is at rate 0. Filled markers: the "
        "users that the targets are meant for (the group, or everybody); open markers: everybody else, unless models of one "
        "attack differ in its own parameters. Without a trigger in the history. Bars: 95 % intervals.",
    ),
    "stealth_plane": Drawing(
        stealth_plane,
        "Exposure against accuracy lost",
        "Each point is an attacked model, labelled with its rate: exposure to the users that the targets are meant for, against "
        "the share of the clean model's HR@10 that all users lose; without a trigger in the history. High and near 0: a strong "
        "attack that hides. Lines join models with equal parameters. Bars: 95 % intervals, those of the loss paired by user.",
    ),
    "rank_distributions": Drawing(
        rank_distributions,
        "Ranks of the targets",
        "Share of the pairs of a user and a target in which the target is among the first k, for every k. For each attack, the "
        "model with the highest rate and the clean model on the same targets.",
    ),
    "survival": Drawing(
        survival,
        "Survival of the backdoor downstream",
        "Exposure of the targets while the downstream company trains on clean data; the epoch with the best validation score is "
        "kept, which need not be the last. Bold: mean over seeds and draws, up to the shortest run; band: minimum to maximum; "
        "thin: single runs. For each attack, the model with the highest rate. Without a trigger in the history.",
    ),
    "spill_over": Drawing(
        spill_over,
        "Spill-over by profile",
        "Exposure of the targets by value of each profile attribute. Coloured, with an arrow: values of the target "
        "group. n: test users over all seeds. Bars: 95 % intervals over users. At most the 12 most frequent "
        "values of an attribute are shown, and none with fewer than 5 users.",
        tall=True,
    ),
}
