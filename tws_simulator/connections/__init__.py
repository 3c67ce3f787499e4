"""Clients of the gateway: their connections, limits and subscriptions."""
