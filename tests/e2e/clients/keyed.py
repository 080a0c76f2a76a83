"""The Python SDK with an API key: streams one answer, then gets another of the same conversation as JSON.

python keyed.py BASE_URL API_KEY FLOW QUESTION QUESTION    prints both
"""

import json
import sys

from flowise import Flowise, PredictionData

base_url, api_key, flow, first, second = sys.argv[1:]
client = Flowise(base_url=base_url, api_key=api_key)
chat = ""
for chunk in client.create_prediction(PredictionData(chatflowId=flow, question=first, streaming=True)):
    print(chunk)
    event = json.loads(chunk)
    if event["event"] == "metadata":
        chat = event["data"]["chatId"]
for answer in client.create_prediction(PredictionData(chatflowId=flow, question=second, chatId=chat)):
    print(json.dumps(answer))
