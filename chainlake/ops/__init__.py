"""What keeps a recording honest: monitoring, incidents, rollout gates, the doctor, and services of the host.

May import flows, ingest and lake; is imported by `chainlake.cli` and `flows.prefect`.
"""
