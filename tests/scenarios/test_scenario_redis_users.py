"""Control process and workers as two users of Redis with the least rights; and a Redis that could forget."""

from functools import partial

import pytest
import redis
from raw import ask
from system import ROOT, until

from gateway.enforcement import acl

BODY = {"model": "claude-opus-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
ASK = partial(ask, path="/anthropic/v1/messages", headers={"x-api-key": "demo-alice", "X-Sim-Interval": "0"})
SECRETS = {"control": "control-secret", "replica": "replica-secret"}


async def test_everything_works_with_the_least_rights(fresh_system):
    system = fresh_system
    system.start_redis()
    with redis.Redis(unix_socket_path=str(system.redis_socket)) as client:
        if int(client.info()["redis_version"].split(".")[0]) < 7:
            pytest.skip("rights per key and direction came with Redis 7")
        for name, rights in (("control", acl.CONTROL), ("replica", acl.REPLICA)):
            client.execute_command("ACL", "SETUSER", name, f">{SECRETS[name]}", *acl.rules(rights))
        client.execute_command("ACL", "SETUSER", "default", "off")
        system.env |= {
            "PORTCULLIS_REDIS__USERNAME": "control",
            "PORTCULLIS_REDIS__PASSWORD": SECRETS["control"],
            "PORTCULLIS_REDIS__REPLICA_USERNAME": "replica",
            "PORTCULLIS_REDIS__REPLICA_PASSWORD": SECRETS["replica"],
        }
        system.start_simulator()
        system.run("init", "--seeds", str(ROOT / "seeds"))
        system.start_gateway()
        assert (await ASK(system.proxy, body=BODY)).status == 200
        openai = partial(ask, headers={"Authorization": "Bearer demo-alice", "X-Sim-Interval": "0"})
        made = await openai(system.proxy, "/openai/v1/responses", body={"model": "gpt-5.4", "input": "Hi"})
        follows = {"previous_response_id": made.json()["id"], "input": "And?"}
        assert (await openai(system.proxy, "/openai/v1/responses", body=follows)).status == 200
        thread = (await openai(system.proxy, "/openai/v1/threads", body={})).json()["id"]
        assistant = (await openai(system.proxy, "/openai/v1/assistants", body={"model": "gpt-5.4"})).json()["id"]
        run = {"assistant_id": assistant}
        assert (await openai(system.proxy, f"/openai/v1/threads/{thread}/runs", body=run)).status == 200
        receipt = await system.offline("claude-opus-4-5")
        assert (receipt["enforced"], receipt["basis"]) == (True, "all_acked")
        assert (await ASK(system.proxy, body=BODY)).status == 403
        await system.release_all()
        assert (await ASK(system.proxy, body=BODY)).status == 200
    log = (system.directory / "gateway.log").read_text()
    assert "NOPERM" not in log
    assert not any(secret in log for secret in SECRETS.values())


async def test_a_redis_that_could_forget_stops_the_start_and_says_what_to_set(fresh_system):
    system = fresh_system
    system.start_redis()
    with redis.Redis(unix_socket_path=str(system.redis_socket)) as client:
        client.config_set("appendfsync", "everysec")
    system.start_simulator()
    system.run("init", "--seeds", str(ROOT / "seeds"))
    assert "appendfsync is everysec: set it to always" in system.run("serve", code=1)
    system.env["PORTCULLIS_REDIS__STRICT"] = "false"
    system.start_gateway()
    (warning,) = await until(lambda: system.events("redis_settings"), "a warning")
    assert (warning["what"], warning["found"]) == ("appendfsync", "everysec")
