"""Hosts nodes on real sockets, one process a node: loop, UDP and TCP, the replica process, the client library."""
