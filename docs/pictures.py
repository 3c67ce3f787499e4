"""The pictures in docs/images: ``make pictures``.

Rehearses an early-close day by a real Prefect server and worker, and photographs Prefect's pages of it in a real
browser (Chromium, by Playwright: name another with CHROMIUM=/path/to/chromium).
"""

import asyncio
import base64
import os
import shutil
import sys
import tempfile
from datetime import date
from pathlib import Path

from chainlake.cli.commands.ops.service import prepare
from flows.prefect_password import CLIENT
from flows.simulated_gateway import free_port
from ingest.settings import load
from ingest.universe import choose, read_universe, write_universe

IMAGES = Path(__file__).parent / "images"
DAY = date(2026, 11, 27)
SYMBOLS = ("AAPL", "MSFT")
SPEED = 60
SIZE = {"width": 1440, "height": 1000}
# Nothing that a browser would ask elsewhere.
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
# Artifacts by key, and the files of their pictures.
PAGES = {"slot-1000": "prefect-slot.png", "day-report": "prefect-day.png", "incidents": "prefect-incidents.png"}


async def main() -> None:
    """Rehearse and photograph."""
    with tempfile.TemporaryDirectory(prefix="chainlake-pictures-") as name:
        place = Path(name)
        api_url = _environment(place)
        from flows.prefect import rehearsal

        settings = load()
        async with rehearsal.rehearsal_services(
            settings, rehearsal.Rehearsal([DAY], SYMBOLS, SPEED), api_url
        ) as context:
            runs = await rehearsal.run_days(context, settings, [DAY], lambda words: print(words, flush=True))
            slot = next(run for run in runs if run.name.startswith("snapshot") and run.state_name == "Completed")
            # As it is in earnest: with the schedules of New York's clock.
            await rehearsal.deploy(rehearsal.rehearsed(settings))
            await photograph(api_url.removesuffix("/api"), str(slot.id))


def _environment(place: Path) -> str:
    (place / "state").mkdir()
    write_universe(choose(read_universe(load().universe.file), SYMBOLS), place / "universe.csv")
    os.environ |= {
        "CHAINLAKE_LAKE__ROOT": str(place / "lake"),
        "CHAINLAKE_STATE__DIR": str(place / "state"),
        "CHAINLAKE_UNIVERSE__FILE": str(place / "universe.csv"),
        "CHAINLAKE_FILTERS__MONEYNESS_PCT": "0.08",
        "CHAINLAKE_FILTERS__EXPIRY_MONTHS_AHEAD": "3",
        "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api",
    }
    return prepare(place / "state")


async def photograph(url: str, slot_run: str) -> None:
    """Take every picture of the server at `url`."""
    from playwright.async_api import async_playwright

    browser_path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if browser_path is None:
        sys.exit("no Chromium: install it (Debian: apt-get install chromium), or set CHROMIUM")
    IMAGES.mkdir(exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=browser_path, args=list(FLAGS))
        page = await browser.new_page(viewport=SIZE)
        # As the page keeps what a person has logged in with.
        password = base64.b64encode(os.environ[CLIENT].encode()).decode()
        await page.add_init_script(f"localStorage.setItem('prefect-password', '{password}')")
        pages = {"/deployments": "prefect-deployments.png", f"/runs/flow-run/{slot_run}": "prefect-run.png"}
        pages |= {f"/artifacts/artifact/{await latest(key)}": file for key, file in PAGES.items()}
        for path, file in pages.items():
            await page.goto(url + path)
            await page.wait_for_load_state("networkidle")
            # The page draws once more after its last answer.
            await asyncio.sleep(3)
            await page.screenshot(path=IMAGES / file)
            print(f"{path}: {IMAGES / file}", flush=True)
        await browser.close()


async def latest(key: str) -> str:
    """The id of the newest artifact of a key."""
    from prefect import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    async with get_client() as client:
        found = await client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])), sort=ArtifactSort.CREATED_DESC, limit=1
        )
    return str(found[0].id)


if __name__ == "__main__":
    asyncio.run(main())
