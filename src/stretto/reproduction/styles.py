"""The colour and marker of each protocol and each multicast design, the same in every chart.

The colours are those of Okabe and Ito, which can be distinguished with any kind of colour blindness. Each has a second shade for dark
backgrounds. Markers differ too, so that a chart can be read without its colours.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """The look of a line: its name in legends, colours for light and dark backgrounds, a marker and a dash pattern of matplotlib."""

    label: str
    light: str
    dark: str
    marker: str
    line: str = "-"


_BLUE = ("#0072b2", "#56a9e0")
_ORANGE = ("#c97f00", "#f0b23c")
_GREEN = ("#009070", "#2fc79f")
_RED = ("#d05500", "#ff8a4c")
_PURPLE = ("#b0568a", "#e08cc0")
_GREY = ("#6b7280", "#a3adba")
_SKY = ("#2a8fc4", "#8ccff5")
_BLACK = ("#1f2933", "#e5e9ee")

_PROTOCOLS = {
    "speculative": Style("Speculative Paxos", *_BLUE, "o"),
    "multipaxos": Style("Multi-Paxos", *_RED, "s"),
    "multipaxos-batched": Style("Multi-Paxos, batched", *_ORANGE, "D"),
    "fastpaxos": Style("Fast Paxos", *_PURPLE, "^"),
    "nopaxos": Style("NOPaxos", *_GREEN, "v"),
    "nopaxos-switch": Style("NOPaxos, sequencer in a switch", *_GREEN, "<", ":"),
    "unreplicated": Style("unreplicated", *_GREY, "x", "--"),
    "adaptive": Style("Adaptive", *_BLACK, "P"),
}
_DESIGNS = {
    "plain": Style("plain", *_GREY, "o"),
    "topology_aware": Style("topology-aware", *_ORANGE, "s"),
    "prioritised": Style("prioritised", *_SKY, "^"),
    "serialised": Style("serialised", *_GREEN, "D"),
}


def style_of(name: str) -> Style:
    """The style of a protocol, of a variant of one, or of a design. An unknown name is its own label and gets a dotted grey line."""
    return _PROTOCOLS.get(name) or _DESIGNS.get(name) or Style(name, *_GREY, "*", ":")


def label_of(name: str) -> str:
    """The name of a protocol or a design in text."""
    return style_of(name).label


def in_order(names: list[str]) -> list[str]:
    """Protocols in the order of the legend."""
    known = list(_PROTOCOLS)
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))


def shades() -> dict[str, str]:
    """The dark-background colour of each light-background colour."""
    return {style.light: style.dark for style in (*_PROTOCOLS.values(), *_DESIGNS.values())}
