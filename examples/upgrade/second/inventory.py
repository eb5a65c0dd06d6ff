"""The inventory, one release later: a container and a method are new, and nothing goes below zero any more."""

from stretto import ApplicationError, Map, Service, operation, query


class NotEnough(ApplicationError):
    """There is less than that."""


class Inventory(Service):
    """How much there is of each item, and for whom some of it is reserved."""

    version = 2
    errors = (NotEnough,)

    def __init__(self) -> None:
        self.stock = Map[str, int]()
        self.reserved = Map[tuple[str, str], int](since=2)

    def upgrade(self, old: int) -> None:
        """The first release allowed what does not exist."""
        if self.stock.get("pears", 0) < 0:
            self.stock["pears"] = 0

    @operation
    def change(self, item: str, amount: int) -> int:
        """Add so much, or take it if `amount` is negative. Returns what there is then."""
        now = self.stock.get(item, 0) + amount
        if self.version >= 2 and now < 0:  # until version 2 is active, this must do what the first release does
            raise NotEnough(f"{self.stock.get(item, 0)} {item}")
        self.stock[item] = now
        return now

    @operation(since=2)
    def reserve(self, item: str, who: str, amount: int) -> int:
        """Take so much aside for somebody. Returns what is left."""
        left = self.change(item, -amount)
        self.reserved[item, who] = self.reserved.get((item, who), 0) + amount
        return left

    @query
    def count(self, item: str) -> int:
        """How much there is."""
        return self.stock.get(item, 0)
