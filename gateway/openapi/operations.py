"""What each endpoint takes and returns, by its name in the endpoint table (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct, field

from gateway.openapi.schemas import CHAT_ID, FLOW, Schema, ref

JSON, FORM, MULTIPART = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"
EVENT_STREAM, PLAIN, HTML, ANY = "text/event-stream", "text/plain", "text/html", "*/*"
_NOTHING: Mapping[str, Schema] = MappingProxyType({})
_TEXT: Schema = {"type": "string"}
_FILES: Schema = {
    "type": "array",
    "items": {"type": "string", "contentMediaType": "application/octet-stream"},
}
_FORM_FIELDS: Schema = {"question": _TEXT, "chatId": CHAT_ID, "streaming": _TEXT}


class Operation(Struct, frozen=True):
    """One endpoint.

    Attributes:
        summary: what a client does with it.
        answer: the body of a 200, by media type.
        body: the body of a request, by media type; empty: none.
        description: what else there is to know.
        query: the query parameters, by name.
        optional_query: the names of those that may be left out.
    """

    summary: str
    answer: Mapping[str, Schema]
    body: Mapping[str, Schema] = field(default_factory=lambda: _NOTHING)
    description: str = ""
    query: Mapping[str, Schema] = field(default_factory=lambda: _NOTHING)
    optional_query: frozenset[str] = frozenset()


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "prediction": Operation(
            "Ask a chatflow",
            {JSON: ref("Prediction"), EVENT_STREAM: ref("EventStream")},
            {
                JSON: ref("PredictionRequest"),
                FORM: {"type": "object", "properties": _FORM_FIELDS},
                MULTIPART: {"type": "object", "properties": {**_FORM_FIELDS, "files": _FILES}},
            },
            "The answer is an event stream if streaming is true and the chatflow can stream. With Accept:"
            " text/event-stream an error is such a stream too, with its status in X-Gateway-Status, but for 401, 403"
            " and 429, which are a sentence. An empty chatId or sessionId counts as left out, and"
            " so does an empty text, false or 0 in place of an object or a list.",
        ),
        "chatflows_streaming": Operation("See whether a chatflow can stream", {JSON: ref("Streamability")}),
        "chatflows_uploads": Operation(
            "See what a chatflow takes as files",
            {JSON: ref("UploadSettings")},
            description="Without what the route refuses, unless it says chatbot_config: full.",
        ),
        "chatbot_config": Operation(
            "Read the settings of the widget",
            {JSON: ref("ChatbotConfig")},
            description="Without prompts, addresses and what the route refuses, unless it says chatbot_config: full.",
        ),
        "abort": Operation(
            "Abort the run of a conversation",
            {JSON: ref("Aborted")},
            description="Flowise answers 200 whether or not there is a run; it stops agentflows only.",
        ),
        "feedback": Operation("Rate an answer", {JSON: ref("Feedback")}, {JSON: ref("FeedbackRequest")}),
        "feedback_change": Operation(
            "Add a comment to a rating, or change it",
            {JSON: ref("Done")},
            {JSON: ref("FeedbackChange")},
            "Only the caller that the gateway has given the id to, in the answer to its POST, may do so, for 24 hours."
            " The path ends in that id.",
        ),
        "leads": Operation("Leave contact details", {JSON: ref("Lead")}, {JSON: ref("LeadRequest")}),
        "attachments": Operation(
            "Send files for a conversation",
            {JSON: ref("Attachments")},
            {MULTIPART: {"type": "object", "required": ["files"], "properties": {"files": _FILES}}},
            "Refused unless the route says uploads: true.",
        ),
        "upload_file": Operation(
            "Load a file of a conversation",
            {ANY: {}},
            description="As an attachment, unless it is a raster image.",
            query={
                "chatflowId": FLOW,
                "chatId": CHAT_ID,
                "fileName": {"type": "string", "minLength": 1, "maxLength": 255},
                "download": {"enum": ["true", "false"]},
            },
            optional_query=frozenset({"download"}),
        ),
        "assistant_file": Operation(
            "Load a file that an assistant has made",
            {ANY: {}},
            {JSON: ref("AssistantFile")},
            "As an attachment.",
        ),
        "vector_upsert": Operation(
            "Store documents in the vector store of a chatflow",
            {JSON: ref("Upserted")},
            {
                JSON: ref("PredictionRequest"),
                FORM: {"type": "object", "properties": _FORM_FIELDS},
                MULTIPART: {"type": "object", "properties": {**_FORM_FIELDS, "files": _FILES}},
            },
            "Refused unless the route says upsert: true.",
        ),
        "speech": Operation(
            "Read an answer aloud",
            {EVENT_STREAM: ref("SpeechStream")},
            {JSON: ref("SpeechRequest")},
            "The sound comes in events tts_data as base64. Refused unless the route says speech: true.",
        ),
        "speech_abort": Operation(
            "Stop reading aloud",
            {JSON: ref("SpeechAborted")},
            {JSON: ref("SpeechAbort")},
            "409 while an answer of the conversation is running, because Flowise would end that, too.",
        ),
        "node_icon": Operation(
            "Load the icon of a node",
            {"image/svg+xml": {"type": "string"}, "image/png": {}, "image/jpeg": {}},
        ),
        "ping": Operation("See that the gateway serves", {PLAIN: {"const": "pong"}}),
        "session_tokens": Operation(
            "Create a session token for a browser user",
            {JSON: ref("SessionToken")},
            {JSON: ref("SessionTokenRequest")},
            "Needs an API key. The token is sent like one, or as the base path /t/<token>.",
        ),
        "limits": Operation(
            "See what is left of the caller's limits",
            {JSON: ref("Limits")},
            description="Charges nothing.",
        ),
    }
)
