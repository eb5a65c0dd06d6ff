"""Clusters under load: throughput, latency and processor time, and how a failure changes them.

plan, measure, run        what is measured, the measurement, and both together
clients, load, recording  the client processes, the load that each makes, and what it keeps
histogram, report         latencies in bounded memory, and all figures of a measurement
comparison, plots         several results side by side, as tables and as pictures
latency_floor, machine    a bare echo, and the machine that was measured on
simulated, testbed        the same figures in simulation, and on the switches of a testbed
"""
