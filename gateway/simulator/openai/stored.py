"""What OpenAI keeps: responses, files, batches, assistants, threads and their runs, read and used by their ids.

A run or a batch is complete at once; its text says which models it came from.
"""

from typing import Any

import orjson

from gateway.simulator.dialect import ApiError, Call, Json, Plain, Reply, json_reply


def retrieve(call: Call) -> Reply:
    """Answer with the object that the path names."""
    return json_reply(call.shelf.get(call.path["id"]))


def delete(call: Call) -> Reply:
    """Forget the object that the path names."""
    call.shelf.drop(call.path["id"])
    return json_reply({"id": call.path["id"], "deleted": True})


def create_file(call: Call) -> Reply:
    """Keep an uploaded file."""
    fields = _fields(call.body)
    if "file" not in fields or "purpose" not in fields:
        raise ApiError(400, "file and purpose are required")
    return json_reply(_file(call, fields["file"], fields["purpose"].decode()))


def file_content(call: Call) -> Reply:
    """Answer with a file's bytes."""
    return Plain(call.shelf.content(call.path["id"]), headers={"Content-Type": "application/octet-stream"})


def create_batch(call: Call) -> Reply:
    """Run the file's requests at once; the output says which models there were."""
    source = call.shelf.content(str(call.document.get("input_file_id")))
    models = [orjson.loads(line)["body"]["model"] for line in source.splitlines()]
    output = _file(call, b"".join(b'{"model":"%b"}\n' % model.encode() for model in models), "batch_output")
    batch = {"object": "batch", "status": "completed", "output_file_id": output["id"], "error_file_id": None}
    return json_reply(call.shelf.put({"id": call.shelf.new_id("batch_"), **batch, "created_at": call.created}))


def create_assistant(call: Call) -> Reply:
    """Keep an assistant."""
    call.required_model()
    return json_reply(call.shelf.put({"id": call.shelf.new_id("asst_"), "object": "assistant", **call.document}))


def update(call: Call) -> Reply:
    """Change what the body names."""
    return json_reply(call.shelf.put({**call.shelf.get(call.path["id"]), **call.document}))


def create_thread(call: Call) -> Reply:
    """Keep a thread, empty."""
    return json_reply(call.shelf.put({"id": call.shelf.new_id("thread_"), "object": "thread", "messages": []}))


def create_run(call: Call) -> Reply:
    """Run an assistant in a thread: it adds a message that names the model."""
    thread = call.shelf.get(call.path["thread"])
    assistant = call.shelf.get(str(call.document.get("assistant_id")))
    model = call.document.get("model") or assistant["model"]
    text = [{"type": "text", "text": {"value": f"{model} was here.", "annotations": []}}]
    thread["messages"].append({"id": call.shelf.new_id("msg_"), "object": "thread.message", "content": text})
    run = {"object": "thread.run", "thread_id": thread["id"], "assistant_id": assistant["id"], "status": "completed"}
    return json_reply(call.shelf.put({"id": call.shelf.new_id("run_"), **run, "model": model}))


def messages(call: Call) -> Reply:
    """Answer with a thread's messages."""
    found: list[Any] = call.shelf.get(call.path["thread"])["messages"]
    return json_reply({"object": "list", "data": found, "has_more": False})


def add_part(call: Call) -> Reply:
    """Take a part of an upload."""
    return json_reply({"id": call.shelf.new_id("part_"), "object": "upload.part", "upload_id": call.path["id"]})


def _file(call: Call, content: bytes, purpose: str) -> Json:
    item = {"id": call.shelf.new_id("file-"), "object": "file", "bytes": len(content), "purpose": purpose}
    return call.shelf.put({**item, "created_at": call.created, "filename": "file", "status": "processed"}, content)


def _fields(body: bytes) -> dict[str, bytes]:
    """A form's fields, by name."""
    boundary = body.partition(b"\r\n")[0]
    fields = {}
    for part in body.split(boundary)[1:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        name = head.partition(b'name="')[2].partition(b'"')[0]
        fields[name.decode()] = content.removesuffix(b"\r\n")
    return fields
