"""Draws who saw how many members alive, over the time of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GAP = 0.06
"""Lines that would lie upon each other are drawn so far apart."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What was done to the network.

    Attributes:
        name: of it.
        begin: in seconds of the run.
        healed: when everything passed again.
        end: when the next phase began.
    """

    name: str
    begin: float
    healed: float
    end: float


Seen = Sequence[tuple[float, int]]
"""Members that are held to be alive, from a time on, in seconds of the run."""


def draw(
    file: Path, clusters: Mapping[str, Mapping[str, Seen]], phases: Sequence[Phase], size: int
) -> None:
    """Write a picture with a panel for each cluster.

    Args:
        file: the PNG to be written.
        clusters: what each node saw, by the cluster's title and the node's name.
        phases: what happened to the network.
        size: nodes of each cluster.
    """
    # Imported where it is used: only this picture needs it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 3.2 * len(clusters) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels: Any = figure.subplots(len(clusters), 1, sharex=True, squeeze=False)
    for panel, (title, nodes) in zip(panels[:, 0], clusters.items(), strict=True):
        _panel(panel, title, nodes, phases, size)
    panels[-1, 0].set_xlabel("seconds")
    figure.savefig(file, dpi=100)


def _panel(
    panel: Axes, title: str, nodes: Mapping[str, Seen], phases: Sequence[Phase], size: int
) -> None:
    end = phases[-1].end
    for phase in phases:
        panel.axvspan(phase.begin, phase.healed, color="0.88", linewidth=0)
        panel.axvline(phase.healed, color="0.6", linewidth=1, linestyle=":")
        panel.text(phase.begin, size + 0.75, f" {phase.name}", fontsize=9, va="center")
    middle = (len(nodes) - 1) / 2
    for number, (name, seen) in enumerate(nodes.items()):
        shift = (middle - number) * _GAP
        times = [at for at, _ in seen] + [end]
        counts = [count + shift for _, count in seen]
        panel.step(times, [*counts, counts[-1]], where="post", label=name, linewidth=1.4)
    panel.set_title(title, loc="left")
    panel.set_ylabel("members seen alive")
    panel.set_ylim(0.5, size + 1.1)
    panel.set_yticks(range(1, size + 1))
    panel.set_xlim(phases[0].begin, end)
    panel.legend(loc="lower right", ncols=len(nodes), fontsize=8)
