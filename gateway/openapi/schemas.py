"""The shapes of bodies, in JSON Schema 2020-12: those of Flowise as captured, and the gateway's own (pure).

Objects of Flowise may have more members than are listed; what the gateway refuses if it has more says so.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_OBJECT: Schema = {"type": "object"}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_LIST: Schema = {"type": "array"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_TIME: Schema = {"type": "string", "format": "date-time"}

CHAT_ID: Schema = {"type": "string", "minLength": 1, "maxLength": 256}
FLOW: Schema = {"type": "string", "minLength": 1, "maxLength": 64}
NODE_NAME: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_]{1,64}$"}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _described(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


_UPLOAD: Schema = {
    "type": "object",
    "required": ["type", "name", "data"],
    "properties": {
        "type": _described(_TEXT, "file, file:full, file:rag, url or audio"),
        "name": _TEXT,
        "mime": _TEXT,
        "data": _described(_TEXT, "A data: URL, or for url the address."),
    },
}
_OVERRIDES: Schema = {
    "type": ["object", "null"],
    "description": "Only the names that the route's override_config.allow lists; by default sessionId.",
    "properties": {
        "sessionId": {"type": ["string", "null"], "minLength": 1, "maxLength": 256},
        "vars": _OBJECT,
    },
}
_PREDICTION_REQUEST: Schema = {
    "type": "object",
    "properties": {
        "question": _described(
            _TEXT_OR_NULL, "At most max_question characters, none of its words above max_word."
        ),
        "form": _described({"type": ["object", "null"]}, "For an agentflow that starts with a form."),
        "streaming": _described({}, 'Exactly true or "true": the answer is an event stream.'),
        "chatId": _described(
            {**CHAT_ID, "type": ["string", "null"]}, "The conversation; left out: a new one."
        ),
        "overrideConfig": _OVERRIDES,
        "uploads": {"type": ["array", "null"], "items": ref("Upload"), "description": "With uploads: true."},
        "humanInput": _described({"type": ["object", "null"]}, "Resumes an agentflow that waits for it."),
        "action": _described({}, "Resumes a sequential agent: approve or reject."),
        "leadEmail": {},
        "history": _described({"type": ["array", "null"]}, "Dropped unless body.allow lists it."),
    },
}
_PREDICTION: Schema = {
    "type": "object",
    "description": "Without what the route withholds. Flows with an output parser have json in place of text.",
    "anyOf": [{"required": [name]} for name in ("text", "json", "chatId", "executionId", "isStreamValid")],
    "properties": {
        "text": _TEXT,
        "json": {},
        "question": _TEXT,
        "form": _OBJECT,
        "chatId": _described(_TEXT, "Continues this conversation in the next request."),
        "chatMessageId": _described(_TEXT, "For feedback on this answer."),
        "sessionId": _TEXT,
        "memoryType": _TEXT,
        "isStreamValid": _FLAG,
        "executionId": _TEXT,
        "agentFlowExecutedData": _LIST,
        "agentReasoning": _LIST,
        "sourceDocuments": _LIST,
        "usedTools": _LIST,
        "artifacts": _LIST,
        "fileAnnotations": _LIST,
        "followUpPrompts": {},
    },
}
_EVENT_STREAM: Schema = {
    "type": "string",
    "description": "Server-sent events. The data of each is a JSON object with event and data. A stream ends with"
    " metadata (which has chatId and chatMessageId) and end, or with error and end.",
}
_FEEDBACK_FIELDS: Schema = {
    "chatflowid": _described(FLOW, "The route's name or its chatflow id."),
    "chatId": CHAT_ID,
    "messageId": _described(
        {"type": "string", "minLength": 1, "maxLength": 128}, "The answer's chatMessageId."
    ),
    "rating": {"type": ["string", "null"], "enum": ["THUMBS_UP", "THUMBS_DOWN", None]},
    "content": _TEXT_OR_NULL,
}
_LEAD_FIELDS: Schema = {
    "chatflowid": _described(FLOW, "The route's name or its chatflow id."),
    "chatId": {**CHAT_ID, "type": ["string", "null"]},
    "name": _TEXT_OR_NULL,
    "email": _TEXT_OR_NULL,
    "phone": _TEXT_OR_NULL,
}
_UPLOAD_KIND: Schema = {
    "type": "object",
    "properties": {"fileTypes": {"type": "array", "items": _TEXT}, "maxUploadSize": {"type": "number"}},
}
_LIMIT_STATUS: Schema = {
    "type": "object",
    "required": ["route", "name", "by", "kind", "limit", "remaining", "reset_s", "retry_after_s"],
    "additionalProperties": False,
    "properties": {
        "route": _described(_TEXT_OR_NULL, "null: a limit of the API key."),
        "name": _TEXT,
        "by": {"enum": ["caller", "address", "route", "key"]},
        "kind": {"enum": ["requests", "tokens", "concurrent"]},
        "limit": _COUNT,
        "remaining": _COUNT,
        "reset_s": _described({"type": ["integer", "null"], "minimum": 0}, "Until the limit is full again."),
        "retry_after_s": _described(_COUNT, "Until one more request passes."),
    },
}
_ERROR: Schema = {
    "type": "object",
    "description": "An error of the gateway.",
    "required": ["statusCode", "success", "message", "code", "requestId"],
    "additionalProperties": False,
    "properties": {
        "statusCode": {"type": "integer", "minimum": 400, "maximum": 599},
        "success": {"const": False},
        "message": _described(_TEXT, "What is wrong, and what would be right."),
        "code": ref("ErrorCode"),
        "requestId": _TEXT,
    },
}
_PROBLEM: Schema = {
    "type": "object",
    "description": "An error of the gateway as RFC 9457.",
    "required": ["type", "title", "status", "detail", "instance", "code", "requestId"],
    "additionalProperties": False,
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": _TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": _TEXT,
        "instance": _TEXT,
        "code": ref("ErrorCode"),
        "requestId": _TEXT,
        "violated-policies": {"type": "array", "items": _TEXT, "description": "The limits that refused."},
    },
}
_FLOWISE_ERROR: Schema = {
    "type": "object",
    "description": "An error of Flowise, passed as it is.",
    "required": ["statusCode", "success", "message"],
    "properties": {
        "statusCode": {"type": "integer", "minimum": 400, "maximum": 599},
        "success": {"const": False},
        "message": _TEXT,
        "stack": _OBJECT,
    },
}
_SESSION_TOKEN_REQUEST: Schema = {
    "type": "object",
    "required": ["caller"],
    "additionalProperties": False,
    "properties": {
        "caller": _described({"type": "string", "minLength": 1, "maxLength": 256}, "Your name for the user."),
        "routes": {
            "type": ["array", "null"],
            "items": _TEXT,
            "minItems": 1,
            "description": "Left out: all routes of the key.",
        },
        "ttl": {"type": ["string", "null"], "pattern": "^[0-9]{1,15}(ms|s|m|h|d)$", "examples": ["15m"]},
        "claims": {
            "type": ["object", "null"],
            "maxProperties": 16,
            "propertyNames": {"pattern": "^[A-Za-z0-9_.-]{1,64}$"},
            "additionalProperties": {"type": ["string", "number", "boolean", "null"], "maxLength": 256},
            "description": "For {session.NAME} in vars of a route. The user can read them.",
            "examples": [{"tenant": "acme"}],
        },
    },
}

_SPEECH: Schema = {"chatflowId": FLOW, "chatId": CHAT_ID, "chatMessageId": CHAT_ID}
SCHEMAS: dict[str, Schema] = {
    "PredictionRequest": _PREDICTION_REQUEST,
    "Prediction": _PREDICTION,
    "EventStream": _EVENT_STREAM,
    "Upload": _UPLOAD,
    "Streamability": {
        "type": "object",
        "required": ["isStreaming"],
        "properties": {"isStreaming": _described(_FLAG, "Whether the chatflow can stream.")},
    },
    "UploadSettings": {
        "type": "object",
        "required": ["isSpeechToTextEnabled", "isImageUploadAllowed", "imgUploadSizeAndTypes"],
        "properties": {
            "isSpeechToTextEnabled": _FLAG,
            "isImageUploadAllowed": _FLAG,
            "isRAGFileUploadAllowed": _FLAG,
            "imgUploadSizeAndTypes": {"type": "array", "items": _UPLOAD_KIND},
            "fileUploadSizeAndTypes": {"type": "array", "items": _UPLOAD_KIND},
        },
    },
    "ChatbotConfig": {
        "description": "The settings of the widget; OK: there are none.",
        "oneOf": [
            {
                "type": "object",
                "properties": {
                    "uploads": ref("UploadSettings"),
                    "isTTSEnabled": _FLAG,
                    "flowData": _described(
                        _TEXT, "The form of the start node, or everything with chatbot_config: full."
                    ),
                },
            },
            {"type": "string"},
        ],
    },
    "Aborted": {
        "type": "object",
        "required": ["status", "message"],
        "properties": {"status": {"type": "integer"}, "message": _TEXT},
    },
    "FeedbackRequest": {
        "type": "object",
        "required": ["chatId", "messageId"],
        "additionalProperties": False,
        "properties": _FEEDBACK_FIELDS,
    },
    "Feedback": {
        "type": "object",
        "required": ["id", "chatflowid", "chatId", "messageId", "createdDate"],
        "properties": {**_FEEDBACK_FIELDS, "id": _TEXT, "createdDate": _TIME},
    },
    "FeedbackChange": {
        "type": "object",
        "additionalProperties": False,
        "minProperties": 1,
        "properties": {"content": _TEXT_OR_NULL, "rating": {"enum": ["THUMBS_UP", "THUMBS_DOWN", None]}},
    },
    "Done": {"type": "object", "required": ["status"], "properties": {"status": {"const": "OK"}}},
    "SpeechRequest": {
        "type": "object",
        "required": [*_SPEECH, "text"],
        "additionalProperties": False,
        "properties": {**_SPEECH, "text": {"type": "string", "minLength": 1}},
    },
    "SpeechStream": {
        "type": "string",
        "description": "Events of the form `event: NAME` LF `data: {event, data}` LF LF: tts_start, tts_data with"
        " audioChunk in base64, and tts_end or tts_error.",
    },
    "SpeechAbort": {
        "type": "object",
        "required": list(_SPEECH),
        "additionalProperties": False,
        "properties": _SPEECH,
    },
    "SpeechAborted": {
        "type": "object",
        "required": ["message", "chatId", "chatMessageId"],
        "properties": {"message": _TEXT, "chatId": _TEXT, "chatMessageId": _TEXT},
    },
    "AssistantFile": {
        "type": "object",
        "required": ["chatflowId", "chatId", "fileName"],
        "additionalProperties": False,
        "properties": {
            "chatflowId": FLOW,
            "chatId": CHAT_ID,
            "fileName": {"type": "string", "minLength": 1, "maxLength": 255},
        },
    },
    "Upserted": {"type": "object", "description": "What the vector store says, like numAdded."},
    "LeadRequest": {
        "type": "object",
        "required": ["chatflowid"],
        "additionalProperties": False,
        "properties": _LEAD_FIELDS,
    },
    "Lead": {
        "type": "object",
        "required": ["id", "chatflowid", "createdDate"],
        "properties": {**_LEAD_FIELDS, "id": _TEXT, "createdDate": _TIME},
    },
    "Attachments": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name", "mimeType", "size", "content"],
            "properties": {"name": _TEXT, "mimeType": _TEXT, "size": _COUNT, "content": _TEXT},
        },
    },
    "SessionTokenRequest": _SESSION_TOKEN_REQUEST,
    "SessionToken": {
        "type": "object",
        "required": ["token", "expires_at"],
        "additionalProperties": False,
        "properties": {"token": {"type": "string", "pattern": "^fgs_"}, "expires_at": _TIME},
    },
    "Limits": {
        "type": "object",
        "required": ["caller", "limits"],
        "additionalProperties": False,
        "properties": {"caller": _TEXT, "limits": {"type": "array", "items": ref("LimitStatus")}},
    },
    "LimitStatus": _LIMIT_STATUS,
    "Error": _ERROR,
    "Problem": _PROBLEM,
    "FlowiseError": _FLOWISE_ERROR,
}
