"""Messages reach stderr as they are, whatever libraries do to logging."""

import logging
import subprocess
import sys

import pytest

from abo_vqa.core.log import get_logger


def test_plain_text_on_the_stderr_of_the_moment(capsys):
    get_logger("abo_vqa.somewhere").warning("out of memory: 50% less")
    assert capsys.readouterr().err == "out of memory: 50% less\n"
    get_logger("abo_vqa.somewhere").info("going on")
    assert capsys.readouterr().err == "going on\n"


@pytest.mark.parametrize("existing", [True, False])
def test_a_library_that_configures_logging_silences_nothing(existing):
    """As migrations of a database do, and whatever calls `logging.config`."""
    code = f"""
import logging.config
from abo_vqa.core.log import get_logger
logger = get_logger("abo_vqa.before")
logging.config.dictConfig({{
    "version": 1,
    "disable_existing_loggers": {existing},
    "handlers": {{"console": {{"class": "logging.StreamHandler"}}}},
    "root": {{"handlers": ["console"], "level": "ERROR"}},
}})
logger.info("still here")
get_logger("abo_vqa.after").info("and new ones")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "still here\nand new ones\n"


def test_logging_that_is_off_stays_on_for_our_messages(capsys):
    """As torchrun's is, whose own messages are for its developers."""
    logging.disable(logging.CRITICAL)
    try:
        get_logger("abo_vqa.somewhere").warning("stopping too")
    finally:
        logging.disable(logging.NOTSET)
    assert capsys.readouterr().err == "stopping too\n"


def test_mlflow_leaves_the_loggers_alone():
    code = (
        "from abo_vqa.core.log import get_logger; log = get_logger('abo_vqa.x');"
        "import mlflow, tempfile;"
        "from mlflow.store.db.utils import _initialize_tables; import sqlalchemy;"
        "_initialize_tables(sqlalchemy.create_engine('sqlite:///' + tempfile.mkdtemp() + '/m.db'));"
        "log.info('said once')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines().count("said once") == 1


def test_a_stderr_that_is_gone_ends_nothing(monkeypatch):
    class Gone:
        def write(self, text):
            raise BrokenPipeError

    for stream in (Gone(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        get_logger("abo_vqa.somewhere").warning("nobody reads this")
