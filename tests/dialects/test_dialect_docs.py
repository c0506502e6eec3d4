"""docs/dialects.md is what the tables say."""

from pathlib import Path

from gateway.dialects import DIALECTS
from gateway.dialects.__main__ import document

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dialects.md"


def test_the_page_is_made_from_the_tables():
    assert PAGE.read_text() == document(), "run: python -m gateway.dialects > docs/dialects.md"


def test_the_page_has_every_operation():
    page = PAGE.read_text()
    for dialect in DIALECTS.values():
        assert f"## {dialect.name}\n" in page
        for operation in dialect.operations:
            assert f"`{operation.method} {operation.path}`" in page
