"""A client that sends back what it got: no training, no torch, so that Flower shows its best."""

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """The arrays unchanged."""
    arrays = message.content.array_records["arrays"]
    metrics = MetricRecord({"num-examples": 100})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
