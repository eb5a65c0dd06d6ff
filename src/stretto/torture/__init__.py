"""Real faults on real processes: a cluster under load is killed, paused, cut off and starved, and its history checked."""
