"""Take screenshots of the playground in Chromium, and count its requests and browser warnings.

    python -m ch10_deploy.screenshots
    python -m ch10_deploy.screenshots --models models      # another export

Needs playwright and Chromium. The digit tab shows an example digit drawn by the page, the maze tab a solved maze,
the tab with the cart a pushed pole, and the tabs for whole pictures their first example.
"""

import re
import shutil
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ch10_deploy.attack.server_process import running
from ch10_deploy.attack.serving import card_of
from ch10_deploy.inference.models import newest_export
from common.cli import one_line_errors, parse
from common.config import RunOptions
from common.run import Run

DOOR = "python -m ch10_deploy.screenshots"

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
"""Flags of Chromium: a container has no sandbox, and the browser must not send requests of its own."""

SIZE = {"width": 900, "height": 640}
"""Size of a screenshot in pixels."""

PATIENCE_MILLISECONDS = 20_000
"""Maximum wait for an element of the page."""


@dataclass(frozen=True)
class Config:
    """Settings of the screenshots."""

    models: Path | None = None
    """Folder of exported models; by default the newest export."""
    digit: int = 3
    """Example digit that the page draws in the first tab."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1))


def chromium() -> str:
    """Find Chromium; raises FileNotFoundError if it is not installed."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise FileNotFoundError("Chromium is not installed: the screenshots need chromium or google-chrome in PATH")


def draw_digit(page: Any, digit: int) -> None:
    """Make the page draw an example digit, and wait until it is complete."""
    page.locator("#digits .samples button").nth(digit).click()
    page.locator("#digits .guess strong").filter(has_text=str(digit)).wait_for()
    page.wait_for_timeout(1_500)


def open_decoder(page: Any) -> None:
    """Open the tab of the decoder."""
    page.locator("#tab-decoder").click()
    page.locator("#decoder .work").wait_for()
    page.wait_for_timeout(1_500)


def open_denoising(page: Any) -> None:
    """Open the tab of the diffusion model, and wait until the digit is complete."""
    with page.expect_response("**/denoise"):
        page.locator("#tab-diffusion").click()
    page.wait_for_timeout(500)


def solve_maze(page: Any) -> None:
    """Open the tab of the planner, and wait until the agent has reached the exit."""
    page.locator("#tab-maze").click()
    page.locator("#maze .result").filter(has_text="steps").wait_for()
    page.wait_for_timeout(500)


def push_cart(page: Any) -> None:
    """Open the tab of the agents, let PPO balance the pole, push the cart, and pause."""
    page.locator("#tab-balance").click()
    panel = page.locator("#balance")
    panel.locator(".toggle").click()
    panel.locator(".steps").filter(has_text=re.compile(r"^([5-9]\d|\d{3}) of")).wait_for()
    panel.locator(".right").click()
    page.wait_for_timeout(200)
    panel.locator(".toggle").click()


def open_pictures(page: Any, name: str, endpoint: str) -> None:
    """Open the tab of a network that takes whole pictures, and wait for the response for its first example."""
    with page.expect_response(f"**/{endpoint}*"):
        page.locator(f"#tab-{name}").click()
    page.wait_for_timeout(500)


def train(config: Config) -> dict[str, float]:
    """Take the screenshots; return the numbers of requests, of requests to other hosts, and of browser warnings."""
    from playwright.sync_api import sync_playwright

    models = config.models or newest_export(config.run.out)
    hosts, warnings = [], []
    with (
        Run.open(__name__ if __name__ != "__main__" else "ch10_deploy.screenshots", config, card_of(models)) as run,
        running(models) as server,
        sync_playwright() as api,
    ):
        browser = api.chromium.launch(executable_path=chromium(), args=[*FLAGS])
        page = browser.new_page(viewport=SIZE, reduced_motion="reduce")  # pyright: ignore[reportArgumentType]
        page.set_default_timeout(PATIENCE_MILLISECONDS)
        page.on("request", lambda request: hosts.append(urlsplit(request.url).netloc))
        page.on("console", lambda message: warnings.extend([message.text] * (message.type in ("error", "warning"))))
        page.on("pageerror", lambda error: warnings.append(str(error)))
        page.goto(server.url)
        exported = {path.stem for path in models.glob("*.json")}
        tabs = {"digits": partial(draw_digit, digit=config.digit), "decoder": open_decoder, "maze": solve_maze}
        tabs["diffusion"], tabs["ppo"] = open_denoising, push_cart
        for name, endpoint in (("detection", "detect"), ("segmentation", "segment"), ("style", "stylise")):
            tabs[name] = partial(open_pictures, name=name, endpoint=endpoint)
        for name, open_tab in tabs.items():
            if name in exported:
                open_tab(page)
                with run.writing(f"{name}.png") as path:
                    page.screenshot(path=path, full_page=True)
        browser.close()
        own = urlsplit(server.url).netloc
        return run.finish(
            run={
                "networks": len(exported),
                "page_requests": len(hosts),
                "requests_to_other_hosts": sum(host != own for host in hosts),
                "browser_warnings": len(warnings),
            }
        )


def main(words: list[str] | None = None) -> None:
    """Read the command line and take the screenshots."""
    with one_line_errors():
        arguments = sys.argv[1:] if words is None else words
        train(parse(Config, arguments, prog=DOOR, description=(__doc__ or "").strip()))


if __name__ == "__main__":
    main()
