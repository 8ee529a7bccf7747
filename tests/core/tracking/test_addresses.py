"""MLFLOW_TRACKING_URI of every kind: usable, or one message with the way out, before any work."""

import time

import pytest

from abo_vqa.core.errors import UserError
from abo_vqa.core.tracking.addresses import mask_login, store
from abo_vqa.core.tracking.runs import track

SECRET = "not-to-be-seen"


@pytest.mark.parametrize(
    ("uri", "remedy"),
    [
        ("./mlruns", "mlflow migrate-filestore --source ./mlruns"),
        ("file:///tmp/mlruns", "MLFLOW_TRACKING_URI=sqlite:///mlflow.db"),
        ("htp://localhost:5000", "names no kind of store"),
        (f"ftp://jane:{SECRET}@localhost/mlflow", "names no kind of store"),
        ("http://nowhere.invalid:5000", "Start the server, or unset"),
        (f"https://jane:{SECRET}@nowhere.invalid", "Start the server, or unset"),
        ("http://localhost:port", "Start the server, or unset"),
        ("http:///localhost", "the address names no host"),
        (f"postgresql://jane:{SECRET}@nowhere.invalid/mlflow", "Start the database"),
        (f"postgres://jane:{SECRET}@127.0.0.1:1/mlflow", "Start the database"),
        (f"postgresql://127.0.0.1:1/mlflow?password={SECRET}", "Start the database"),
        (f"mysql+pymysql://jane:{SECRET}@localhost/mlflow", "driver isn't installed (pymysql)"),
    ],
)
def test_an_address_that_cant_be_used(checkout, monkeypatch, capfd, uri, remedy):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    began = time.monotonic()
    with pytest.raises(UserError) as raised, track("split", checkout):
        raise AssertionError("the work has begun")
    assert time.monotonic() - began < 12
    assert remedy in str(raised.value)
    printed = capfd.readouterr()
    assert SECRET not in str(raised.value) + printed.out + printed.err
    assert "Traceback" not in printed.err


def test_postgresql_gets_the_driver_that_is_installed(checkout, monkeypatch):
    """SQLAlchemy 2.1 takes psycopg 3 where none is named."""
    for scheme in ("postgresql", "postgres", "postgresql+psycopg2"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f" {scheme}://db/mlflow\n")
        assert store()[0] == "postgresql+psycopg2://db/mlflow"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("open https://jane:p@ss@host:5000/x now", "open https://***@host:5000/x now"),
        ("postgresql+psycopg2://token@/db?host=/tmp", "postgresql+psycopg2://***@/db?host=/tmp"),
        ("postgresql://h/db?user=u&password=p@x&a=b", "postgresql://***@x&a=b"),
        ("postgresql://h/db?user=u&password=px&a=b", "postgresql://h/db?user=u&password=***&a=b"),
        ("sqlite:////home/jane/mlflow.db", "sqlite:////home/jane/mlflow.db"),
    ],
)
def test_logins_are_hidden(text, masked):
    assert mask_login(text) == masked
