"""What the runtime spends on this machine, so that simulated machines can be charged the same.

loads            real clusters under many loads, and what each process counted and spent
microbenchmarks  the costs of single steps in one process, for what the loads leave open
fit              the costs that explain the samples best
costs            the file of costs, which simulations read
validation       measurement and simulation of the same load, side by side
"""
