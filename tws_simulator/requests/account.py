"""Accounts, orders and housekeeping: there is no account behind the simulation."""

from tws_simulator.connections.state import Client
from tws_simulator.protocol.messages import message
from tws_simulator.requests.replies import Handler, invalid, now

# Price steps of market rules, as (from price, step): options quoted in pennies below 3 dollars, and stocks.
_MARKET_RULES = {26: ((0.0, 0.01),), 32: ((0.0, 0.01), (3.0, 0.05)), 109: ((0.0, 0.05), (3.0, 0.1))}


def nothing(client: Client, fields: list[str]) -> None:
    """Accepted, and nothing to answer."""


def fixed(*reply: object) -> Handler:
    def handler(client: Client, fields: list[str]) -> None:
        client.send(message(*reply))

    return handler


def end_of(reply: int, position: int) -> Handler:
    """An end marker that carries the request's id, found at `position`."""

    def handler(client: Client, fields: list[str]) -> None:
        client.send(message(reply, 1, int(fields[position])))

    return handler


def account_updates(client: Client, fields: list[str]) -> None:
    if fields[2] == "1":
        client.send(message(54, 1, client.state.options.account))


def managed_accounts(client: Client, fields: list[str]) -> None:
    client.send(message(15, 1, client.state.options.account))


def user_info(client: Client, fields: list[str]) -> None:
    client.send(message(107, int(fields[1]), ""))


def soft_dollar_tiers(client: Client, fields: list[str]) -> None:
    client.send(message(77, int(fields[1]), 0))


def market_rule(client: Client, fields: list[str]) -> None:
    rule = int(fields[1])
    if rule not in _MARKET_RULES:
        invalid(client, -1, f"market rule {rule} is not known")
        return
    steps = _MARKET_RULES[rule]
    client.send(message(93, rule, len(steps), *[value for step in steps for value in step]))


def current_time(client: Client, fields: list[str]) -> None:
    client.send(message(49, 1, int(now(client).timestamp())))
