"""GET /foundation-models."""

from gateway.simulator.dialect import Call, Reply, json_reply


def list_models(call: Call) -> Reply:
    """Answer with every model of the provider."""
    summaries = [
        {
            "modelId": name,
            "modelArn": f"arn:aws:bedrock:us-east-1::foundation-model/{name}",
            "modelName": name,
            "providerName": name.partition(".")[0],
            "responseStreamingSupported": True,
        }
        for name in call.models
    ]
    return json_reply({"modelSummaries": summaries})
