"""Planted bugs, which the swarm and the explorer must find. If they miss a kind of bug here, they would miss it in the protocols too."""
