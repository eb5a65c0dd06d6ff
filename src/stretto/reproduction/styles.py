"""Which colour and marker each protocol and each multicast design has, the same in every chart.

The colours are those of Okabe and Ito, which people with any kind of colour blindness tell apart; each has a second shade for dark
backgrounds. Markers differ too, so that nothing is said by colour alone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """How a line looks: its name in legends, a colour on white and on black, a marker as matplotlib has them, and a dash pattern."""

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
    """The style of a protocol (or a variant of one) or a design; one that is not known yet has its own name and a dotted grey line."""
    return _PROTOCOLS.get(name) or _DESIGNS.get(name) or Style(name, *_GREY, "*", ":")


def label_of(name: str) -> str:
    """How a protocol or a design is called in text."""
    return style_of(name).label


def in_order(names: list[str]) -> list[str]:
    """Protocols in the order of the legend."""
    known = list(_PROTOCOLS)
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))


def shades() -> dict[str, str]:
    """For each colour on white, the one on black."""
    return {style.light: style.dark for style in (*_PROTOCOLS.values(), *_DESIGNS.values())}
