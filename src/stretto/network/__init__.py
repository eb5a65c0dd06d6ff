"""The data-centre network: topologies, multicast designs compiled to per-switch rules, and a packet-level model that obeys them.

Mostly-Ordered Multicast promises nothing and delivers mostly in one order. How mostly, and at what cost, is what this package
measures; the rules that it measures are those that a real switch is given.

    topology, topologies    switches, hosts, links; the ones that come with Stretto; files
    groups, routes, designs what a group is, which ways there are, and the rules of each design
    rules, verification     the rules as data; what they do to every packet, followed symbolically
    controller              groups that change, switches and links that fail: new rules and the difference
    model                   packets through queues, exact to the picosecond
    measures, experiment    how far receivers disagree, and everything else that a run tells
"""
