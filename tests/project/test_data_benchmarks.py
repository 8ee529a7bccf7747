"""The data path's benchmarks run, small: they also check that both ways give the same."""

import subprocess
import sys

import pytest

from tests.support import ROOT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "options", "text"),
    [
        ("curation.py", ["--scale", "0.01", "--repeat", "1"], "same bytes in all runs"),
        ("curation.py", ["--listings", "4000", "--repeat", "1"], "per listing"),
        ("large_tables.py", ["--rows", "70000"], "Parquet parts piece by piece"),
        ("tar_reading.py", ["--members", "3000", "--repeat", "1"], "against extraction"),
        ("remote_reading.py", ["--members", "2000", "--images", "100"], "fetched ahead"),
        ("lookalikes.py", ["--search", "6000"], "find 100.00%, and 0 others"),
        ("split.py", ["--rows", "2400"], "| 2,400 | 800 |"),
        ("split.py", ["--sizes", "600", "--distances", "4", "--seeds", "1"], "| 600 | 4 |"),
        ("answers.py", ["--rows", "3000"], "| 3,000 |"),
        pytest.param("engine.py", ["--seconds", "2"], "of local", marks=pytest.mark.slow),
        ("exchange.py", ["--rows", "1500", "--formats", "llava"], "both / one"),
    ],
)
def test_the_benchmark_runs(script, options, text):
    command = [sys.executable, str(ROOT / "benchmarks" / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert text in done.stdout
