"""Random testing in the simulator: many runs with random faults, load and configuration, in parallel, in search of a violation.

`swarm`: draws the specification of a run. `plan`: which run comes next. `hunt`: worker processes that do the runs, and shrink those that
fail. `shrinking`: the search for a smaller run that fails too. `corpus`: files with the runs that are kept. `totals`: the sums over all
runs.
"""
