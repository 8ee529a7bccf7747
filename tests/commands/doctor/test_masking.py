"""Secrets stay out of what is printed, and ordinary words stay in."""

import pytest

from abo_vqa.commands.doctor.masking import mask

SECRET = "s3cr3t/p@ss"


@pytest.mark.parametrize(
    "text",
    [
        f"https://jane:{SECRET}@host:5000/api can't be used",
        f"http://{SECRET}@host/",
        f"postgresql+psycopg2://jane:{SECRET}@db/mlflow",
        f"https://host/c?sv=1&sig={SECRET}&x=1",
        f"https://host/c?access_token={SECRET}",
        f"AccountName=a;AccountKey={SECRET};x=1",
        f'{{"api_key": "{SECRET}"}}',
        f"password={SECRET}",
        f"GEMINI_API_KEY='{SECRET}'",
    ],
)
def test_secrets_by_their_place(text):
    hidden = mask(text, {})
    assert SECRET not in hidden
    assert "s3cr3t" not in hidden
    assert "***" in hidden


def test_secrets_by_their_shape():
    google, hub = "AIza" + "0aB_-" * 7, "hf_" + "a1B2" * 8
    hidden = mask(f"refused: {google}, {hub}", {})
    assert google not in hidden
    assert hub not in hidden


@pytest.mark.parametrize("name", ["HF_TOKEN", "GEMINI_API_KEYS", "AWS_SECRET_ACCESS_KEY", "DB_PWD",
                                  "MLFLOW_TRACKING_PASSWORD", "OPENAI_APIKEY"])  # fmt: skip
def test_what_the_environment_holds_under_such_a_name(name):
    environment = {name: "first-one,second-one"}
    hidden = mask("got second-one and then first-one", environment)
    assert hidden == "got *** and then ***"


def test_a_password_of_an_address_elsewhere_escaped_or_not():
    environment = {"MLFLOW_TRACKING_URI": "https://jane:p%40ss-word@host"}
    assert mask("sent p%40ss-word, meant p@ss-word", environment) == "sent ***, meant ***"


@pytest.mark.parametrize(
    "text",
    [
        "neither GEMINI_API_KEY nor GEMINI_API_KEYS is set; generate.annotator offline needs none",
        "no API key: set GEMINI_API_KEY",
        "https://huggingface.co answers",
        "answer tokens: 3; keys: a, b",
        "sqlite:////home/jane/abo-vqa/mlflow.db",
        "/home/jane/abo-vqa is fine, and so is false",
    ],
)
def test_ordinary_words_stay(text):
    environment = {"PWD": "/home", "GIT_AUTHOR_NAME": "answers", "TOKENIZERS_PARALLELISM": "false",
                   "HTTPS_PROXY": "http://proxy:3128"}  # fmt: skip
    assert mask(text, environment) == text
