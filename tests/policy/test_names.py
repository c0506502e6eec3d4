"""Names: loosely to deny, exactly to permit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.names import MAX_NAME, base_of, covers, kinship, opaque, skeleton, valid_pattern, well_formed

WELL_FORMED = [
    "claude-fable-5", "gpt-5.4", "claude-fable-5[1m]", "anthropic/claude-fable-5", "models/gemini-3-pro", "a",
    "claude-opus-4@20250514", "anthropic.claude-opus-4-5-v1:0", "ft:gpt-5.4:org:name:id", "ft:gpt-5.4:org::id",
    "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-fable-5-v1:0", "Qwen/Qwen3_8B+lora", "A", "0",
    "a" * MAX_NAME,
]  # fmt: skip
NOT_WELL_FORMED = [
    "", " ", " a", "a ", "a b", "a\n", "a\t", "a\0", "\ufeffa", "a\u200b", "a\u00ad", "\u0430", "ａ", "\u212a", "é",
    "-a", ".a", "/a", "_a", ":a", "[1m]", "a[1m", "a[1M]", "a[]", "a[1m][1m]", "a[123456789]", "a[1m]x", "a%20b", "a*",
    "a?", "a#b", "a;b", "a,b", "a=b", "a\\b", "a'b", 'a"b', "a<b", "a(b)", "a{b}", "a|b", "a~b", "a!b", "a&b", "$a",
    "a" * (MAX_NAME + 1),
]  # fmt: skip


@pytest.mark.parametrize("name", WELL_FORMED)
def test_names_that_a_request_may_give(name):
    assert well_formed(name)


@pytest.mark.parametrize("name", NOT_WELL_FORMED)
def test_names_that_it_may_not(name):
    assert not well_formed(name)


@given(st.text())
def test_whatever_is_well_formed_is_plain_ascii(name):
    if well_formed(name):
        assert name.isascii()
        assert name.isprintable()
        assert " " not in name


SAME = [
    ("claude-fable-5", "CLAUDE-Fable-5"),
    ("claude-fable-5", "claude_fable_5"),
    ("claude-fable-5", "claude.fable.5"),
    ("claude-fable-5", "claude--fable-5"),
    ("claude-fable-5", "claude-fable-5[1m]"),
    ("claude-fable-5", "anthropic/claude-fable-5"),
    ("claude-fable-5", "openrouter/anthropic/claude-fable-5"),
    ("claude-fable-5", "anthropic.claude-fable-5"),
    ("claude-fable-5", "us.anthropic.claude-fable-5"),
    ("claude-fable-5", "global.anthropic.claude-fable-5"),
    ("claude-fable-5", "us-gov.anthropic.claude-fable-5"),
    ("claude-fable-5", "models/claude-fable-5"),
    ("claude-fable-5", " claude-fable-5\n"),
    ("claude-fable-5", "ｃｌａｕｄｅ-fable-5"),
    ("claude-opus-4-20250514", "claude-opus-4@20250514"),
    ("gpt-5.4", "gpt-5-4"),
    ("gpt-5.4", "OpenAI/GPT-5.4"),
]
DIFFERENT = [
    ("claude-fable-5", "claude-fable-4"),
    ("claude-fable-5", "claude-fable-5-20260401"),
    ("claude-fable-5", "claude-fable-50"),
    ("gpt-5.4", "gpt-54"),
    ("gpt-5.4", "gpt-5.4-mini"),
    ("us.example", "example"),  # no maker behind the region
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_spellings_share_a_skeleton(one, other):
    assert skeleton(one) == skeleton(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_other_models_do_not(one, other):
    assert skeleton(one) != skeleton(other)


KIN = [
    ("claude-opus-4-5", "claude-4-5-opus"),
    ("claude-opus-4-5", "claude-4.5-opus-20991231"),
    ("claude-opus-4-5", "us.anthropic.claude-opus-4-5-20991231-v2:0"),
    ("claude-opus-4-5", "anthropic/claude-opus-4.5-latest"),
    ("claude-opus-4-5", "claude-opus-4-5@20991231"),
    ("claude-opus-4-5", "arn:aws:bedrock:eu-west-1::foundation-model/anthropic.claude-opus-4-5-20251101-v1:0"),
    (
        "claude-opus-4-5",
        "arn:aws-us-gov:bedrock:us-gov-west-1:1:inference-profile/us-gov.anthropic.claude-opus-4-5-v1:0",
    ),
    ("gpt-5.4", "gpt-5.4-2099-12-31"),
    ("gpt-5.4", "ft:gpt-5.4-2099-12-31:org:name:id:ckpt-step-90"),
    ("gpt-5.4", "FT:GPT-5.4:org::id"),
    ("gemini-3-pro", "models/gemini-3-pro-preview-05-06"),
    ("gemini-3-pro", "gemini-3-pro-001"),
    ("llama3", "Llama3:latest"),
]
NOT_KIN = [
    ("claude-opus-4-5", "claude-opus-5-4"),
    ("gpt-5.4", "gpt-5.4-mini"),
    ("gpt-5.4", "gpt-4.5"),
    ("claude-fable-5", "claude-mythos-5"),
]


@pytest.mark.parametrize(("one", "other"), KIN)
def test_editions_of_one_model_are_kin(one, other):
    assert kinship(one) == kinship(other)


@pytest.mark.parametrize(("one", "other"), NOT_KIN)
def test_other_models_are_not(one, other):
    assert kinship(one) != kinship(other)


BASES = [
    ("ft:gpt-5.4:acme::x1", "gpt-5.4"),
    ("ft:gpt-5.4:acme:name:x1:ckpt-step-90", "gpt-5.4"),
    ("ft:gpt-5.4", None),
    ("ft::acme", None),
    ("arn:aws:bedrock:us-east-1::foundation-model/anthropic.m-v1:0", "anthropic.m-v1:0"),
    ("arn:aws-cn:bedrock:cn-north-1:12:inference-profile/apac.anthropic.m-v1:0", "apac.anthropic.m-v1:0"),
    ("arn:aws:bedrock:us-east-1:12:application-inference-profile/abc", None),
    ("arn:aws:bedrock:us-east-1:12:provisioned-model/abc", None),
    ("arn:aws:sagemaker:us-east-1:12:endpoint/abc", None),
    ("gpt-5.4", None),
]


@pytest.mark.parametrize(("name", "base"), BASES)
def test_what_a_name_says_it_is_made_of(name, base):
    assert base_of(name) == base
    assert opaque(name) == (base is None and name.startswith("arn:"))


@pytest.mark.parametrize("name", ["auto", "Default", "openrouter/auto", "endpoints/123", "projects/p/endpoints/1"])
def test_names_that_say_nothing(name):
    assert opaque(name)


@pytest.mark.parametrize("name", ["automatic-1", "gpt-auto", "gemini-flash-latest", "ft:auto:acme"])
def test_names_that_say_something(name):
    assert not opaque(name)


@given(st.sampled_from(WELL_FORMED))
def test_a_skeleton_is_its_own(name):
    assert skeleton(skeleton(name)) == skeleton(name)


PATTERNS = [
    "*", "claude-fable-5", "claude-*", "*-5", "gpt-5.?", "family:fable", "family:*", "tag:controlled", "provider:openai",
    "ft:gpt-5.4:*", "a" * 256,
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(pattern):
    assert valid_pattern(pattern)


@pytest.mark.parametrize(
    "pattern", ["", " ", "a b", "a\n", "claude-[ab]", "family: fable", "a" * 257, "é", "a,b", "**\0"]
)
def test_what_is_no_pattern(pattern):
    assert not valid_pattern(pattern)


COVERS = [
    # pattern             covers the model claude-fable-5, of the family fable, tagged controlled and frontier
    ("*", True),
    ("claude-fable-5", True),
    ("Claude-Fable-5", False),
    ("claude-fable", False),
    ("claude-*", True),
    ("*-5", True),
    ("claude-fable-?", True),
    ("claude-fable-??", False),
    ("gpt-*", False),
    ("family:fable", True),
    ("family:fab*", True),
    ("family:opus", False),
    ("family:", False),
    ("family", False),
    ("tag:controlled", True),
    ("tag:front*", True),
    ("tag:claude-fable-5", False),
    ("provider:anthropic", True),
    ("provider:bedrock", True),
    ("provider:openai", False),
    ("kind:claude-fable-5", False),
]


@pytest.mark.parametrize(("pattern", "expected"), COVERS)
def test_what_a_pattern_covers(pattern, expected):
    tags, providers = frozenset({"controlled", "frontier"}), frozenset({"anthropic", "bedrock"})
    assert covers(pattern, "claude-fable-5", "fable", tags, providers) is expected


def test_a_model_without_a_family_is_in_none():
    assert not covers("family:*", "m", None, frozenset(), frozenset())


def test_a_name_with_a_colon_is_no_kind_of_pattern():
    assert covers("ft:base:*", "ft:base:org", None, frozenset(), frozenset())
