"""A job queue: several containers that change together, and jobs that are not lost when a worker crashes.

A worker takes a job for some seconds. If it has not finished the job by then, because it crashed or is slow, another worker gets it. So a
job is done at least once; the number of the attempt tells the queue which worker's result counts.

Run it, in this folder:

    $ stretto cluster init --service job_queue:JobQueue
    cluster.toml written: 3 replicas, protocol adaptive, durability memory. Start it with: stretto cluster up
    $ stretto cluster up
    3 replicas up, durability memory; logs are in .
    $ python job_queue.py
    job 1: count apples
    job 2: count pears
    waiting 0, running 0, done 2
    $ stretto cluster down
    3 replicas ended
"""

from typing import Annotated

import msgspec
from msgspec import Meta

import stretto
from stretto import ApplicationError, Cell, Map, Service, SortedSet, operation, query

Seconds = Annotated[int, Meta(ge=1, le=86_400)]


class Job(msgspec.Struct, frozen=True):
    """A job, and how often a worker has taken it."""

    number: int
    task: str
    attempt: int = 0
    due_ns: int = 0


class Sizes(msgspec.Struct, frozen=True):
    """How many jobs there are in each state."""

    waiting: int
    running: int
    done: int


class NotYours(ApplicationError):
    """The job is done, or another worker has it by now."""


class JobQueue(Service):
    """Jobs in the order of their numbers."""

    errors = (NotYours,)

    def __init__(self) -> None:
        self.jobs = Map[int, Job]()
        self.waiting = SortedSet[int]()
        self.running = SortedSet[tuple[int, int]]()  # when the worker's time ends, and the job
        self.submitted = Cell[int](0)

    @operation
    def submit(self, task: str) -> int:
        """Add a job. Returns its number."""
        self.submitted.value += 1
        number = self.submitted.value
        self.jobs[number] = Job(number, task)
        self.waiting.add(number)
        return number

    @operation
    def take(self, seconds: Seconds) -> Job | None:
        """The first job that waits, for so many seconds; None if there is none."""
        for overdue in self.running.range(stop=(self.now_ns, 0)):
            self.running.discard(overdue)
            self.waiting.add(overdue[1])
        for number in self.waiting.range(limit=1):
            former = self.jobs[number]
            job = Job(number, former.task, former.attempt + 1, self.now_ns + seconds * 1_000_000_000)
            self.jobs[number] = job
            self.waiting.discard(number)
            self.running.add((job.due_ns, number))
            return job
        return None

    @operation
    def finish(self, number: int, attempt: int) -> None:
        """Remove a job that was done in this attempt. Raises NotYours if the job has been given to another worker, or is done."""
        job = self.jobs.get(number)
        if job is None or job.attempt != attempt or number in self.waiting:
            raise NotYours(f"attempt {attempt} at job {number} does not count")
        self.running.discard((job.due_ns, number))
        del self.jobs[number]

    @query
    def sizes(self) -> Sizes:
        """How many jobs there are in each state."""
        return Sizes(len(self.waiting), len(self.running), self.submitted.value - len(self.jobs))


def main() -> None:
    """Submit two jobs, and do them."""
    with stretto.connect("cluster.toml") as cluster:
        queue = cluster.service(JobQueue)
        queue.submit("count apples")
        queue.submit("count pears")
        while job := queue.take(60):
            print(f"job {job.number}: {job.task}")
            queue.finish(job.number, job.attempt)
        sizes = queue.sizes()
        print(f"waiting {sizes.waiting}, running {sizes.running}, done {sizes.done}")


if __name__ == "__main__":
    main()
