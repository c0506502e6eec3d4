"""docs/enforcement.md says what the code asks of Redis."""

from pathlib import Path

import pytest

from gateway.enforcement import acl
from gateway.enforcement.requirements import OLDEST, REQUIREMENTS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "enforcement.md").read_text()


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.setting)
def test_each_requirement_is_in_the_table(requirement):
    assert f"| `{requirement.setting}` | {requirement.advice} |" in PAGE


@pytest.mark.parametrize(("name", "rights"), [("control", acl.CONTROL), ("replica", acl.REPLICA)])
def test_each_users_rights_can_be_pasted(name, rights):
    assert f"ACL SETUSER {name} >PASSWORD {' '.join(acl.rules(rights))}\n" in PAGE


def test_the_oldest_version_is_named():
    assert f"Redis {'.'.join(map(str, OLDEST))} or newer" in PAGE
