"""A bank: transfers that happen as a whole or not at all.

If an operation raises an ApplicationError, all its changes are undone. So `transfer` may take the money first and check the balance
afterwards. The caller gets the error, with its text.

Run it, in this folder:

    $ stretto cluster init --service bank:Bank
    cluster.toml written: 3 replicas, protocol adaptive, durability memory. Start it with: stretto cluster up
    $ stretto cluster up
    3 replicas up, durability memory; logs are in .
    $ python bank.py
    Ada pays Bob 30: {'Ada': 70, 'Bob': 30}
    Bob pays Ada 50: Bob would have -20
    Bob pays Eve 10: there is no account of Eve
    at the end: {'Ada': 70, 'Bob': 30}
    $ stretto cluster down
    3 replicas ended
"""

from typing import Annotated

from msgspec import Meta

import stretto
from stretto import ApplicationError, Service, SortedMap, operation, query

Amount = Annotated[int, Meta(ge=1, le=1_000_000_000)]


class NoAccount(ApplicationError):
    """There is no account of that name, or there is one already."""


class Overdrawn(ApplicationError):
    """The account would be below zero."""


class Bank(Service):
    """Accounts with whole amounts, none of them below zero."""

    errors = (NoAccount, Overdrawn)

    def __init__(self) -> None:
        self.accounts = SortedMap[str, int]()

    @operation
    def open(self, name: str) -> None:
        """Open an account with nothing in it. Raises NoAccount if there is one."""
        if name in self.accounts:
            raise NoAccount(f"there is an account of {name}")
        self.accounts[name] = 0

    @operation
    def deposit(self, name: str, amount: Amount) -> int:
        """Pay in. Returns the new balance. Raises NoAccount."""
        return self._add(name, amount)

    @operation
    def transfer(self, source: str, target: str, amount: Amount) -> None:
        """Move money from one account to another. Raises NoAccount, Overdrawn."""
        left = self._add(source, -amount)
        self._add(target, amount)
        if left < 0:
            raise Overdrawn(f"{source} would have {left}")

    @query
    def balances(self) -> dict[str, int]:
        """All accounts."""
        return dict(self.accounts.items())

    def _add(self, name: str, amount: int) -> int:
        if name not in self.accounts:
            raise NoAccount(f"there is no account of {name}")
        self.accounts[name] += amount
        return self.accounts[name]


def main() -> None:
    """Try three transfers; one is possible."""
    # As a script this module is not the module "bank" that the cluster loads, so its Overdrawn is another class: catch the base.
    with stretto.connect("cluster.toml") as cluster:
        bank = cluster.service(Bank)
        bank.open("Ada")
        bank.open("Bob")
        bank.deposit("Ada", 100)
        for source, target, amount in (("Ada", "Bob", 30), ("Bob", "Ada", 50), ("Bob", "Eve", 10)):
            try:
                bank.transfer(source, target, amount)
                print(f"{source} pays {target} {amount}: {bank.balances()}")
            except ApplicationError as error:
                print(f"{source} pays {target} {amount}: {error}")
        print(f"at the end: {bank.balances()}")


if __name__ == "__main__":
    main()
