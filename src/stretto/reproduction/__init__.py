"""The evaluations of the papers, run again: experiments as data, a runner that stores every result at once, and a page with the results.

experiments/  one module for each experiment: its question, its points, and how rows become charts and verdicts
points        what can be run: a simulated cluster, real processes, the packet-level model
rows          the results of points, stored on disk as soon as they are there
runner        the plan of a run, and its execution by several workers
claims        the statements of the papers, and the rules that judge them
charts        charts and tables as data; drawing draws them; styles has the colours
report        the page
steps         the steps of one `stretto reproduce`
"""
