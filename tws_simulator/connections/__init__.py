"""Clients of the gateway: their connections, limits, subscriptions and outages.

The server takes `connection` and `state`; those who answer requests take `state.Client` and never the connection.
"""
