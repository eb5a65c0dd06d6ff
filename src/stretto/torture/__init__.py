"""Real faults on real processes: replicas under load are killed, paused, disconnected and given full disks, and the history is checked."""
