"""The papers' evaluation, done again: experiments as data, a runner that keeps what it has, and one page that tells what came of it.

experiments/  one module an experiment: its question, its points, how rows become charts and verdicts
points        what can be run: a simulated cluster, real processes, the packet-level model
rows          what a point gave, kept on disk as it comes
runner        plan, workers, progress
claims        the papers' words, and the rules that judge them
charts        lines and their drawing; styles, which colour means what
report        the page
"""
