"""The protocols, one folder each: messages, replica, client, and a pure module for the hard part."""
