"""The sample of Flowise's streaming documentation, with host, flow and question from the command line."""

import sys

from flowise import Flowise, PredictionData

client = Flowise(base_url=sys.argv[1])

# Test streaming prediction
completion = client.create_prediction(
    PredictionData(chatflowId=sys.argv[2], question=sys.argv[3], streaming=True)
)

# Process and print each streamed chunk
for chunk in completion:
    # {event: "token", data: "hello"}
    print(chunk)
