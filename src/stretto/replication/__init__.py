"""What replication protocols share: the hash-chained log, sessions, quorums, state transfer, the client's calls."""
