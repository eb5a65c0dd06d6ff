"""Runs nodes on real sockets, one process per node: event loop, UDP and TCP, the replica process, the client library."""
