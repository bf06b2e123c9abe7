"""The figures of the leaderboard: detection of attackers, and benefit and cost of repairs."""

import numpy as np
from matplotlib.figure import Figure

from prec_backdoor.leaderboard.rows import ACCURACY_AT, EXPOSURE_AT
from prec_backdoor.reporting.figures import style


def detection(rows: list[dict]) -> Figure:
    """A row for each attacker, a point for each model: AUC of the combined score; filled if the model is called suspicious."""
    attacked = [row for row in rows if "auc" in row]
    names = list(dict.fromkeys(row["attacker"] for row in attacked))
    figure, axes = style.panels(1, width=7, height=0.3 * len(names) + 0.5)
    axes, rng = axes[0, 0], np.random.default_rng(0)
    for row in attacked:
        colour = style.COLOURS[1 if row["adaptive"] else 0]
        height = names.index(row["attacker"]) + rng.uniform(-0.22, 0.22)
        suspicious = row["verdict"] == "suspicious"
        kind = "adaptive attackers" if row["adaptive"] else "attacks of the paper"
        label = f"{kind}, {'called suspicious' if suspicious else 'called clean'}"
        axes.plot(
            row["auc"],
            height,
            "o",
            color=colour,
            markerfacecolor=colour if suspicious else "none",
            markersize=5,
            label=label,
            alpha=0.8,
        )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("AUC of the combined score, targets against other items")
    style.legend_below(figure)
    return figure


def repairs(summaries: list[dict]) -> Figure:
    """A point for each attacker and repair: exposure removed against accuracy lost."""
    figure, axes = style.panels(1, width=7, height=4.2)
    axes = axes[0, 0]
    for number, name in enumerate(dict.fromkeys(each["repair"] for each in summaries)):
        of_repair = [each for each in summaries if each["repair"] == name]
        axes.plot(
            [-100 * each["change"] for each in of_repair],
            [100 * each["removed"] for each in of_repair],
            color=style.COLOURS[number % len(style.COLOURS)],
            marker=style.MARKERS[number % len(style.MARKERS)],
            linestyle="",
            alpha=0.85,
            label=name,
        )
    axes.axvline(2, color="#777777", linewidth=0.8, linestyle=style.DASHES[1])
    axes.axhline(95, color="#777777", linewidth=0.8, linestyle=style.DASHES[1])
    axes.set_xlabel(f"HR@{ACCURACY_AT} lost, compared with a clean model after the same fine-tuning, %")
    axes.set_ylabel(f"exposure HR@{EXPOSURE_AT} removed, %")
    style.legend_below(figure)
    return figure
