"""One folder a protocol: its messages, its replica, its client, and a pure module for the hard part."""
