"""The inventory, as it was at first."""

from stretto import Map, Service, operation, query


class Inventory(Service):
    """How much there is of each item."""

    def __init__(self) -> None:
        self.stock = Map[str, int]()

    @operation
    def change(self, item: str, amount: int) -> int:
        """Add so much, or take it if `amount` is negative. Returns what there is then."""
        self.stock[item] = self.stock.get(item, 0) + amount
        return self.stock[item]

    @query
    def count(self, item: str) -> int:
        """How much there is."""
        return self.stock.get(item, 0)
