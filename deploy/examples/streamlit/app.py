"""A chat in Streamlit, as Flowise's page on streaming has it: the base URL is the gateway's."""

import json
import os

import streamlit as st
from flowise import Flowise, PredictionData

client = Flowise(base_url=os.environ["CHAT_HOST"], api_key=os.environ.get("CHAT_KEY"))


def answer(question):
    """Yield the tokens of an answer; the first one also settles the conversation that the next question continues."""
    asked = PredictionData(
        chatflowId=os.environ["CHAT_FLOW"],
        question=question,
        chatId=st.session_state.get("chat"),
        streaming=True,
    )
    for chunk in client.create_prediction(asked):
        event = json.loads(chunk)
        if event["event"] == "token":
            yield event["data"]
        elif event["event"] == "metadata":
            st.session_state["chat"] = event["data"]["chatId"]
        elif event["event"] == "error":
            st.error(event["data"])


st.title("Chat")
messages = st.session_state.setdefault("messages", [])
for role, text in messages:
    st.chat_message(role).write(text)
if question := st.chat_input("Ask something"):
    st.chat_message("user").write(question)
    messages.append(("user", question))
    messages.append(("assistant", st.chat_message("assistant").write_stream(answer(question))))
