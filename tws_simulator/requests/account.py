"""The account, orders and housekeeping: one account with cash and without positions, and no orders."""

from ingest.calendar.sessions import NEW_YORK
from tws_simulator.connections.state import Client
from tws_simulator.protocol.messages import message
from tws_simulator.requests import account_values
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
    """All values, the time, no position, and the end; once, as they never change."""
    if fields[2] != "1":
        return
    account = client.state.options.account
    for one in account_values.updates(account):
        client.send(message(6, 2, one.tag, one.value, one.currency, account))
    client.send(message(8, 1, f"{now(client).astimezone(NEW_YORK):%H:%M}"))
    client.send(message(54, 1, account))


def account_updates_multi(client: Client, fields: list[str]) -> None:
    """The same for a request with an id; ``ledgerAndNLV`` asks for the ledger and the net liquidation alone."""
    req_id, account, model, ledger_only = int(fields[2]), client.state.options.account, fields[4], fields[5] == "1"
    for one in account_values.updates(account):
        if not ledger_only or one.tag == "NetLiquidation" or one in account_values.LEDGER:
            client.send(message(73, 1, req_id, account, model, one.tag, one.value, one.currency))
    client.send(message(74, 1, req_id))


def account_summary(client: Client, fields: list[str]) -> None:
    """The values of the tags that were asked for; once, as they never change."""
    req_id, tags, account = int(fields[2]), fields[4], client.state.options.account
    for one in account_values.summary(tags):
        client.send(message(63, 1, req_id, account, one.tag, one.value, one.currency))
    client.send(message(64, 1, req_id))


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
