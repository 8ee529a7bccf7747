"""A full disk, a read-only checkout, a missing permission: one message, nothing lost.

The limits are the system's own (RLIMIT_FSIZE refuses a write as a full disk does; another user
is refused what root may do), so the libraries meet what they would meet.
"""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from abo_vqa import cli
from abo_vqa.cli import run_reporting_errors
from abo_vqa.core import files, system_errors
from abo_vqa.core.errors import UserError

NOBODY = 65534
LIMIT = 100_000  # bytes a file


def run_code(code, **options):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, **options
    )


def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))


WRITERS = {
    "text": "file.write_text('x' * 200_000)",
    "torch": "import torch; torch.save({'w': torch.zeros(1_000_000)}, file)",
    "numpy": "import numpy; numpy.savez(file, a=numpy.zeros(1_000_000))",
    "tofile": "import numpy; numpy.zeros(1_000_000).tofile(file)",
    "parquet": "import pandas, numpy; pandas.DataFrame({'a': numpy.random.default_rng(0)"
    ".random(200_000)}).to_parquet(file)",
    "safetensors": "import torch; from safetensors.torch import save_file;"
    "save_file({'w': torch.zeros(1_000_000)}, file)",
}


@pytest.mark.parametrize("library", WRITERS)
def test_full_disk_is_one_message_whatever_the_library(tmp_path, library):
    target = tmp_path / "kept.npz"
    target.write_text("old")
    code = f"""
import sys, types
from pathlib import Path
from abo_vqa import cli
from abo_vqa.core import files, scratch
def command(args):
    with files.atomic_write(Path({str(target)!r})) as file:
        {WRITERS[library]}
    return 0
said = types.ModuleType("said")
said.command, said.arguments = command, lambda parser: None
sys.modules["said"] = said
cli.COMMANDS["score"] = ("said", "")
sys.exit(cli.main(["score"]))
"""
    done = run_code(code, preexec_fn=small_files)
    assert done.returncode == 74, done.stderr
    assert f"can't write {target}: " in done.stderr
    assert "bytes are free" in done.stderr
    assert "Traceback" not in done.stderr
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "Free some space"),
        (errno.EROFS, "choose another place"),
        (errno.EACCES, "choose another place"),
        (errno.EISDIR, "Give another path"),
        (errno.EIO, "run the same command again"),
    ],
)
def test_every_refusal_names_the_path_and_the_remedy(number, said):
    refused = system_errors.find_os_error(OSError(number, os.strerror(number), "/no/such/file.csv"))
    text = system_errors.describe_system_error(refused)
    assert "/no/such/file.csv: " in text
    assert os.strerror(number).lower() in text
    assert said in text


@pytest.mark.parametrize("name", ["", "new.csv", "old.csv", "new/folder/new.csv"])
def test_free_space_is_that_of_the_folder(tmp_path, name):
    (tmp_path / "old.csv").write_text("")
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / name))
    assert f"bytes are free in {tmp_path}. " in system_errors.describe_system_error(error)


def test_a_full_disk_says_what_was_to_be_written(tmp_path, capsys):
    def write():
        with system_errors.report_full_disk(tmp_path / "a.bin", 3_000):
            raise RuntimeError("I/O error: No space left on device (os error 28)")

    assert run_reporting_errors("embed", write) == 74
    told = capsys.readouterr().err
    assert f"can't write {tmp_path}/a.bin: no space left on device; it takes 3,000 bytes" in told


@pytest.mark.parametrize(
    "error",
    [
        ValueError("28"),
        FileNotFoundError(errno.ENOENT, "No such file", "x"),
        ConnectionError("[Errno 111] Connection refused"),
        KeyError("errno"),
    ],
)
def test_programming_errors_are_no_refusals(error):
    assert system_errors.find_os_error(error) is None


def test_programming_errors_keep_their_traceback(monkeypatch):
    def broken(name, rest):
        raise KeyError("bug")

    monkeypatch.setattr("abo_vqa.cli._run", broken)
    with pytest.raises(KeyError):
        run_reporting_errors("score", lambda: cli._run("score", []))


@pytest.mark.parametrize(
    "text",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",
        'Io(Os { code: 28, kind: StorageFull, message: "No space left on device" })',
        "[('a', 'b', \"[Errno 28] No space left on device: 'b'\")]",
    ],
)
def test_words_of_other_languages_are_understood(text):
    assert system_errors.find_os_error(RuntimeError(text)).errno == errno.ENOSPC


def test_full_database_is_a_full_disk(tmp_path):
    import sqlite3

    database = sqlite3.connect(tmp_path / "a.db")
    database.execute("PRAGMA max_page_count = 2")
    database.execute("CREATE TABLE t (x)")
    with pytest.raises(sqlite3.OperationalError) as stop:
        database.execute("INSERT INTO t VALUES (zeroblob(100000))")
    assert system_errors.find_os_error(stop.value).errno == errno.ENOSPC


def test_a_user_error_inside_a_write_stays_one(tmp_path):
    with pytest.raises(UserError), files.atomic_write(tmp_path / "a"):
        raise UserError("mine")


def test_a_file_where_a_folder_should_be_is_said(tmp_path, capsys):
    (tmp_path / "out").write_text("")
    table = tmp_path / "rows.csv"
    table.write_text("image_path,question,answer\na.jpg,q,x\nb.jpg,q,y\nc.jpg,q,x\n")
    out = str(tmp_path / "out")
    words = ["--vqa", str(table), "--out", out, "--group", "image"]
    code = run_reporting_errors("split", lambda: cli._run("split", words))
    assert code == 2
    assert f"can't use {out}" in capsys.readouterr().err


@pytest.fixture
def sealed(tmp_path):
    """A checkout that the process which runs in it may only read."""
    (tmp_path / "dvc.yaml").write_text("")
    home = tmp_path.parent / f"{tmp_path.name}-home"
    home.mkdir()
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder not in (Path("/"), Path("/tmp")):
            folder.chmod(folder.stat().st_mode | 0o055)
    if os.geteuid() == 0:
        os.chown(home, NOBODY, NOBODY)
        yield tmp_path, home, {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    else:
        tmp_path.chmod(0o555)
        yield tmp_path, home, {}
        tmp_path.chmod(0o755)


def as_reader(sealed, code, **environment):
    """Run code in the sealed checkout, as somebody who may not write there."""
    folder, home, who = sealed
    # Root's own Python may lie where nobody else can go: change the user once it has started.
    drop = f"import os; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n" if who else ""
    given = {"HOME": str(home), "PATH": os.environ["PATH"], **environment}
    if "PYTHONPATH" in os.environ:
        given["PYTHONPATH"] = os.environ["PYTHONPATH"]
    imports = "import abo_vqa.cli, abo_vqa.core.files, abo_vqa.core.tracking.experiment\n"
    imports += "import encodings.latin_1, subprocess, tempfile, shutil\n"
    return run_code(imports + drop + code, cwd=folder, env=given)


def test_journals_of_a_read_only_checkout_are_in_the_users_cache(sealed):
    done = as_reader(
        sealed, "from abo_vqa.core import scratch; print(scratch.scratch('predict', 'k'))"
    )
    assert done.returncode == 0, done.stderr
    place = Path(done.stdout.strip())
    assert place.is_dir()
    assert place.is_relative_to(sealed[1] / ".cache" / "abo-vqa")
    assert place.parts[-2:] == ("predict", "k")


def test_lock_of_the_tracking_is_there_too(sealed):
    code = "from abo_vqa.core.tracking.addresses import lock_file; print(lock_file())"
    done = as_reader(sealed, code)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(sealed[1] / ".cache" / "abo-vqa")


def test_database_that_can_only_be_read_is_refused_with_its_name(sealed):
    import sqlite3
    from contextlib import closing

    file = sealed[0] / "mlflow.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE runs (id)")
    file.chmod(0o444)
    code = f"""
from pathlib import Path
from abo_vqa.core.errors import UserError
from abo_vqa.core.tracking.store_checks import check_database
try:
    check_database(Path({str(file)!r}))
except UserError as error:
    print(error)
"""
    done = as_reader(sealed, code)
    assert f"can't use MLflow at {file}: [Errno 13] Permission denied" in done.stdout, done.stderr
    assert "MLFLOW_TRACKING_URI=sqlite:" in done.stdout


def test_the_users_cache_may_be_elsewhere(sealed):
    elsewhere = sealed[1] / "elsewhere"
    code = "from abo_vqa.core import scratch; print(scratch.scratch('predict', 'k'))"
    done = as_reader(sealed, code, XDG_CACHE_HOME=str(elsewhere))
    assert Path(done.stdout.strip()).is_relative_to(elsewhere / "abo-vqa")


def test_a_user_without_a_home_has_journals_among_the_temporary_files(sealed):
    code = "from abo_vqa.core import scratch; print(scratch.scratch('predict', 'k'))"
    temporary = sealed[1] / "tmp"
    done = as_reader(
        sealed, f"import os; os.mkdir({str(temporary)!r})\n" + code,
        HOME="/proc/nowhere", TMPDIR=str(temporary),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(temporary)


def test_without_any_place_the_message_names_the_checkout(sealed):
    code = """
import sys, types
from abo_vqa import cli
from abo_vqa.core import files, scratch
said = types.ModuleType("said")
said.command, said.arguments = lambda args: scratch.scratch("predict", "k"), lambda parser: None
sys.modules["said"] = said
cli.COMMANDS["score"] = ("said", "")
sys.exit(cli.main(["score"]))
"""
    done = as_reader(sealed, code, XDG_CACHE_HOME="/proc/nowhere")
    assert done.returncode == 74, done.stderr
    assert f"can't use {sealed[0]}/.cache" in done.stderr
    assert "permission denied" in done.stderr
    assert "Traceback" not in done.stderr
