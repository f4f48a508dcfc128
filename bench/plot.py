"""The plot of a run, for the documentation: readable on a light and on a dark page."""

from pathlib import Path
from typing import Any

# The rows that are drawn, and their titles.
PANELS = {
    "one-in-flight": "replies/s, 64 connections,\n1 call in flight each",
    "sixteen-in-flight": "replies/s, 64 connections,\n16 calls in flight each",
    "memory": "bytes of memory per idle\nconnection (less is better)",
}
# Both have a contrast of at least 3 on white and on near-black.
OURS_COLOUR = "#e0692a"
PEER_COLOUR = "#6f8fae"
TEXT_COLOUR = "#808890"
# No WebSocket server: at 16 in flight its bar would make all others look the same.
LEFT_OUT = {"sixteen-in-flight": {"echo"}}


LABELS = {"ours": "aiorest-ws", "echo": "TCP echo"}


def draw(document: dict[str, Any], path: Path) -> None:
    """Draw bars of those rows that were measured."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    rows = document["rows"]
    panels = [name for name in PANELS if name in rows]
    pyplot.rcParams.update({"font.size": 11, "text.color": TEXT_COLOUR})
    size = (4.4 * len(panels), 4.2)
    figure, all_axes = pyplot.subplots(1, len(panels), figsize=size, squeeze=False)
    for axes, name in zip(all_axes[0], panels, strict=True):
        _draw_panel(axes, rows[name], PANELS[name], LEFT_OUT.get(name, set()))
    figure.tight_layout(w_pad=2.5)
    figure.savefig(path, dpi=120, transparent=True)
    pyplot.close(figure)


def _draw_panel(axes: Any, row: dict[str, Any], title: str, left_out: set[str]) -> None:
    measure = "bytes" if row["unit"].startswith("bytes") else "rate"
    values = {n: row["medians"][n][measure] for n in row["medians"] if n not in left_out}
    names = sorted(values, key=values.__getitem__, reverse=measure == "rate")[::-1]
    bars = axes.barh(
        [LABELS.get(name, name) for name in names],
        [values[name] for name in names],
        color=[OURS_COLOUR if name == "ours" else PEER_COLOUR for name in names],
        height=0.72,
    )
    axes.bar_label(bars, [f"{values[name]:,.0f}" for name in names], padding=4, color=TEXT_COLOUR)
    axes.set_title(title, fontsize=11, color=TEXT_COLOUR, loc="left")
    axes.set_xlim(0, max(values.values()) * 1.28)
    axes.xaxis.set_visible(False)
    axes.tick_params(axis="y", length=0, colors=TEXT_COLOUR)
    axes.patch.set_alpha(0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for label in axes.get_yticklabels():
        if label.get_text() == LABELS["ours"]:
            label.set_fontweight("bold")
            label.set_color(OURS_COLOUR)
