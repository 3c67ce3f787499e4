"""``prefect.yaml``, for ``prefect deploy --all``: made by ``python -m flows.prefect.prefect_yaml``."""

import yaml

from flows.prefect.deployments import POOL, TAG, Deployment, deployments
from ingest.calendar.sessions import NEW_YORK
from ingest.settings import Settings
from lake.resources import SHIPPED

FILE = SHIPPED / "prefect.yaml"
HEADER = """\
# Made by `python -m flows.prefect.prefect_yaml` from the default settings and flows/prefect/deployments.py.
# `chainlake ops bootstrap` deploys the same with the times of your own settings, and makes the automations too.
# Deploy from the checkout, once the work pool is there (prefect work-pool create chainlake --type process):
#   prefect deploy --all --no-prompt
"""


def prefect_yaml(settings: Settings) -> str:
    """The file's content."""
    content = {
        "name": TAG,
        "pull": [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $PWD }}"}}],
        "deployments": [_deployment(each) for each in deployments(settings)],
    }
    return HEADER + yaml.safe_dump(content, sort_keys=False, width=120)


def _deployment(each: Deployment) -> dict[str, object]:
    return {
        "name": each.name,
        "entrypoint": each.entrypoint,
        "description": each.description,
        "tags": [TAG],
        "parameters": each.parameters,
        "schedules": [{"cron": cron, "timezone": NEW_YORK.key} for cron in each.crons],
        "concurrency_limit": {"limit": 1, "collision_strategy": "ENQUEUE"},
        "work_pool": {"name": POOL},
    }


if __name__ == "__main__":
    FILE.write_text(prefect_yaml(Settings()), encoding="utf-8")
