"""Planted bugs, to see whether the swarm and the explorer find them: what they do not find, they would not find in the protocol either."""
