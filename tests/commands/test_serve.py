"""`abo-vqa serve`: what is wrong with what was given is said at once."""

import pytest

from abo_vqa.cli import main
from abo_vqa.serving import extra
from tests.support.workspaces import workspace


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return workspace(tmp_path_factory.mktemp("serve"), images=2)


def refused(capsys, *words):
    assert main(["serve", *words]) == 2
    return capsys.readouterr().err


def test_mistakes(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    assert "no adapter in models/adapter" in refused(capsys)
    assert "no model is called 'nobody'" in refused(capsys, "--model", "nobody")
    assert "fitted on training rows: `abo-vqa benchmark`" in refused(capsys, "--model", "blind")
    assert "must be from 0 to 65535" in refused(capsys, "--port", "70000")
    monkeypatch.setenv("ABO_VQA_API_KEYS", "hunter2")
    reason = refused(capsys, "--model", "blip")
    assert "fewer than 16 characters" in reason
    assert "hunter2" not in reason
    assert "the page asks for no key" in refused(capsys, "--model", "blip", "--page")


def test_a_port_that_is_taken(root, monkeypatch, capsys):
    import socket

    monkeypatch.chdir(root)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        reason = refused(capsys, "--model", "blip", "--port", str(port))
    assert f"can't listen at 127.0.0.1:{port}" in reason


def test_without_the_extra_it_says_how_to_install_it(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    assert "make setup EXTRAS=serve" in refused(capsys)


def test_settings_are_checked(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    params = root / "params.yaml"
    kept = params.read_text()
    params.write_text(kept.replace("fetch_networks: []", "fetch_networks: [ten]"))
    try:
        assert "serve.fetch_networks: found ['ten']; 'ten' is no network" in refused(capsys)
    finally:
        params.write_text(kept)
