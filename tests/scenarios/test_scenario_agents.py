"""Claude Code, with nothing but its address and key changed: an answer; and of a refusal, why and what else there is."""

import asyncio

import pytest
from system import ROOT

CLAUDE = ROOT / "build/agents/node_modules/@anthropic-ai/claude-code-linux-x64/claude"
NOWHERE = "http://127.0.0.1:9"
pytestmark = pytest.mark.skipif(not CLAUDE.is_file(), reason="no Claude Code: make agents")


async def said(system, tmp_path, model: str) -> str:
    """What it prints when asked something of a model. It reaches nobody but the gateway."""
    home = tmp_path / model
    home.mkdir()
    env = {
        "PATH": "/usr/bin:/bin", "HOME": str(home), "TERM": "dumb",
        "ANTHROPIC_BASE_URL": f"{system.proxy}/anthropic", "ANTHROPIC_API_KEY": "demo-alice",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "CLAUDE_CODE_MAX_RETRIES": "0",
        "HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        CLAUDE, "-p", "Say something kind.", "--model", model, env=env, cwd=home,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(120):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode()


async def test_claude_code_says_what_is_off_by_whose_order_and_what_to_use(system, tmp_path):
    order = {"authority": "Department of Commerce", "reference": "BIS-2026-0612", "disclose": True}
    await system.offline("claude-fable-5", order=order)
    await system.offline("claude-haiku-4-5")
    models = ("claude-opus-4-5", "claude-fable-5", "claude-haiku-4-5")
    answer, ordered, off = await asyncio.gather(*(said(system, tmp_path, model) for model in models))
    assert "claude-opus-4-5" in answer
    for shown, beginning in (
        (
            ordered,
            "API Error: 451 claude-fable-5 is offline for everyone. Order: Department of Commerce, BIS-2026-0612.",
        ),
        (off, "API Error: 403 claude-haiku-4-5 is offline for everyone. Your key is valid."),
    ):
        print(shown)
        assert f"{beginning} You may use: claude-mythos-5, claude-opus-4-5. Contact:" in shown
