"""The pages of ``docs/`` that are made from tables say what the tables say, and the tables what the code does."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from gateway.cli.exits import MEANINGS, Exit
from gateway.dialects.refusal import REFUSALS
from gateway.policy.decision import Reason
from gateway.reference import DOCS, PAGES, _model_in, page
from gateway.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_made_from_its_table(name):
    assert (DOCS / f"{name}.md").read_text() == page(name), f"run: python -m gateway.reference {name}"


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    below = [_model_in(field.annotation)[0] for field in model.model_fields.values()]
    return [model, *(section for one in below if one is not None for section in sections(one))]


def test_every_setting_says_what_it_does():
    fields = [(s, name, field) for s in sections(Settings) for name, field in s.model_fields.items()]
    assert len(fields) > 100
    assert [name for _, name, field in fields if not (field.description or _model_in(field.annotation)[0])] == []
    text = page("settings").replace("\\|", "|")
    plain = [(name, field) for _, name, field in fields if _model_in(field.annotation)[0] is None]
    assert [name for name, field in plain if field.description not in text] == []


def test_every_reason_has_a_status_and_every_exit_code_a_meaning():
    assert set(REFUSALS) == set(Reason)
    assert set(MEANINGS) == set(Exit)


def test_the_readme_links_every_page():
    readme = (ROOT / "README.md").read_text()
    for file in DOCS.glob("*.md"):
        assert f"docs/{file.name}" in readme, file.name
