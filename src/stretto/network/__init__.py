"""The data-centre network: topologies, multicast designs compiled to per-switch rules, and a packet-level model that obeys them.

Mostly-Ordered Multicast guarantees nothing, but delivers most messages in one order. This package measures how often it does, and at what
cost. The measured rules are the same rules that a real switch gets.

    topology, topologies    switches, hosts and links; the built-in topologies; topology files
    groups, routes, designs multicast groups, the available paths, and the rules of each design
    rules, verification     the rules as data; a check that follows every packet through them symbolically
    controller              new rules, and the difference, when groups change or switches and links fail
    model                   packets through queues, exact to the picosecond
    measures, experiment    how far receivers disagree about the order, and the other results of a run
"""
