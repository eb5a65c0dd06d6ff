"""Planted bugs, which the swarm and the explorer must find: a kind of bug that they miss here they would miss in the protocol too."""
