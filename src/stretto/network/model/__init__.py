"""The packet-level model: packets through queues, exact to the picosecond, computed one whole port at a time.

queues      an output port: first in, first out, or strict priority, with a finite buffer
traffic     the background traffic of a port, and the jitter of hosts
run         multicasts through the network by the rules, all computed together
live        the same, one multicast at a time, for callers that decide what to send while the network runs
"""
