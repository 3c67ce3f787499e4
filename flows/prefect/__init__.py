"""Prefect: the flows, their deployments and schedules, and what a server needs for them. Nothing else imports it."""
