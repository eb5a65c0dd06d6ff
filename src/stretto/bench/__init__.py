"""Measuring a cluster of real processes under load: throughput, latency, processor time, and what faults do to them."""
