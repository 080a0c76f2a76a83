# Conversations by the Python SDK, each in a thread: BASE_URL FLOW QUESTIONS, a file of lists of [chatId, question].
# Prints a line of JSON for each turn.
import json
import sys
import threading
import time
from pathlib import Path

from flowise import Flowise, PredictionData

base_url, flow, questions = sys.argv[1:]
printing = threading.Lock()


def converse(turns):
    for chat, question in turns:
        turn = {"chat": chat, "question": question, "began": time.time(), "words": [], "is_complete": False}
        has_error = False
        try:
            wanted = PredictionData(chatflowId=flow, question=question, chatId=chat, streaming=True)
            for line in Flowise(base_url=base_url).create_prediction(wanted):
                event = json.loads(line)
                if event["event"] == "token" and event["data"]:
                    turn["words"].append(event["data"].strip())
                has_error = has_error or event["event"] == "error"
                turn["is_complete"] = event["event"] == "end" and not has_error
        except Exception as error:  # noqa: BLE001 - the SDK raises what it meets
            turn["is_complete"] = False
            print(error, file=sys.stderr)
        turn["ended"] = time.time()
        with printing:
            print(json.dumps(turn), flush=True)


every = json.loads(Path(questions).read_text())
threads = [threading.Thread(target=converse, args=(turns,)) for turns in every]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
