"""What Prefect's environment has to say for a host that runs by itself: nothing leaves it, and nothing is guessed.

Only names and values; importing this does not import Prefect. Measured with Prefect 3.8 (docs/adr/0013).
"""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from flows.loopback import is_loopback

API_URL = "http://127.0.0.1:4200/api"

# For servers, workers and flow runs alike.
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # Version 2 of the page asks an analytics host elsewhere.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    # A day has 14 slots, and a watchdog that looks every five minutes; the default shows three runs ahead.
    "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_RUNS": "40",
    # Prefect's own history is kept for thirty days: what matters is in the lake.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(30 * 24 * 3600),
    # SQLite locks while several runs change state at once.
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
    # Which run holds a deployment's place outlives a restart of the server: runs in progress would be ended otherwise.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    # After a downtime the slot that is open waits for the stale ones before it: not half a minute for each.
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
    # A worker that cannot reach its server says so, and does not start one of its own.
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
    # A run whose process is gone is noticed after three missed heartbeats.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
}


def prefect_environment(state: Path, api_url: str = API_URL) -> dict[str, str]:
    """The environment of servers and workers whose own files lie under the `state` folder."""
    return {
        **QUIET,
        "PREFECT_HOME": str(state.resolve() / "prefect"),
        "PREFECT_API_URL": api_url,
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": page_origins(api_url),
    }


def page_origins(api_url: str) -> str:
    """The origins of Prefect's own page, by commas: no other page may read what the server answers (default: all)."""
    url = urlsplit(api_url)
    hosts = ("127.0.0.1", "localhost") if is_loopback(api_url) else (url.hostname,)
    return ",".join(f"{url.scheme}://{host}{f':{url.port}' if url.port else ''}" for host in hosts)


def missing(environment: Mapping[str, str]) -> list[str]:
    """The variables of `QUIET` that `environment` lacks."""
    return [name for name in QUIET if name not in environment]
