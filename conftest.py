"""Notebooks under nbval train in the smoke profile, into a folder that goes away."""

import os
import tempfile
from pathlib import Path


def pytest_configure(config):
    if not config.getoption("nbval", default=False):
        return
    config.repro_results = tempfile.TemporaryDirectory(prefix="repro-results-")
    for profile in (Path(__file__).parent / "results").glob("*"):
        if profile.is_dir() and profile.name != "smoke":
            (Path(config.repro_results.name) / profile.name).symlink_to(profile)
    os.environ |= {"REPRO_PROFILE": "smoke", "REPRO_RESULTS_DIR": config.repro_results.name}


def pytest_unconfigure(config):
    if hasattr(config, "repro_results"):
        config.repro_results.cleanup()
