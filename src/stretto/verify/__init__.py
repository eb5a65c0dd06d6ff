"""Checks from outside the protocol: observers of all replicas, which read only the public contract, and a checker of call histories."""
