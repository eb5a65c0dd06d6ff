"""Packets through queues: exact to the picosecond, a whole port at a time.

queues      what an output port does to the packets that want out: first in, first out, or strict priority; a finite buffer
traffic     the other traffic that a port carries, and the jitter of hosts
run         multicasts through the network, by the rules, all at once
live        the same, one after the other, for those who decide as they go
"""
