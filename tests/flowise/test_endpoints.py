from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from gateway.errors import BadRequest, MethodNotAllowed, UnknownRoute
from gateway.flowise.endpoints import (
    ENDPOINTS,
    Access,
    BodyKind,
    Counted,
    FlowIn,
    Purpose,
    find,
    upstream_target,
)

FLOW = "2c5e8d0a-1111-4222-8333-444455556666"
FILE = "/api/v1/get-upload-file"
GATEWAY = Path(__file__).parents[2] / "gateway"


def match(method, target):
    return find(target, method).check(method)


@pytest.mark.parametrize(
    ("method", "target", "name", "params"),
    [
        ("POST", "/api/v1/prediction/support", "prediction", {"flow": "support"}),
        ("POST", "/api/v1/predictions/support", "prediction", {"flow": "support"}),
        ("POST", "/api/v1/prediction/sup%70ort?", "prediction", {"flow": "support"}),
        ("GET", "/api/v1/chatflows-streaming/s", "chatflows_streaming", {"flow": "s"}),
        ("HEAD", "/api/v1/chatflows-streaming/s", "chatflows_streaming", {"flow": "s"}),
        ("GET", "/api/v1/chatflows-uploads/s", "chatflows_uploads", {"flow": "s"}),
        ("GET", "/api/v1/public-chatbotConfig/s", "chatbot_config", {"flow": "s"}),
        ("PUT", "/api/v1/chatmessage/abort/s/c%20d", "abort", {"flow": "s", "chatId": "c d"}),
        ("POST", "/api/v1/feedback/s", "feedback", {"flow": "s"}),
        ("PUT", f"/api/v1/feedback/{FLOW}", "feedback_change", {"feedbackId": FLOW}),
        ("POST", "/api/v1/openai-assistants-file/download", "assistant_file", {}),
        ("POST", "/api/v1/vector/upsert/s", "vector_upsert", {"flow": "s"}),
        ("POST", "/api/v1/text-to-speech/generate", "speech", {}),
        ("POST", "/api/v1/text-to-speech/abort", "speech_abort", {}),
        ("GET", "/api/v1/node-icon/chatOpenAI", "node_icon", {"name": "chatOpenAI"}),
        ("POST", "/api/v1/leads", "leads", {}),
        ("POST", "/api/v1/leads/", "leads", {}),
        ("POST", "/api/v1/attachments/s/c", "attachments", {"flow": "s", "chatId": "c"}),
        ("GET", "/api/v1/ping", "ping", {}),
        ("HEAD", "/api/v1/ping", "ping", {}),
    ],
)
def test_each_route_of_the_table_is_found(method, target, name, params):
    found = match(method, target)
    assert (found.endpoint.name, dict(found.params), dict(found.query)) == (name, params, {})


@pytest.mark.parametrize(
    "target",
    [
        *(
            "/",
            "/api/v1",
            "/API/V1/ping",
            "/api/v1/Ping",
            "/api/v1/prediction",
            "/api/v1/prediction/a/b",
            "/api/v1/leads/x",
        ),
        *(
            "/api/v1/internal-prediction/x",
            "/api/v1/chatflows",
            "/api/v1/public-chatflows/x",
            "/api/v1/metrics",
        ),
        *(
            "/api/v1/feedback",
            "/api/v1/vector/upsert",
            "/api/v1/vector/internal-upsert/x",
            "/api/v1/node-icon",
            "/api/v1/text-to-speech/voices",
            "/api/v1/openai-assistants-file/upload",
            "/api/v1/%7Bflow%7D",
            "/index.html",
        ),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_everything_else_is_unknown(method, target):
    with pytest.raises(UnknownRoute):
        match(method, target)


@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/prediction/x//",
        "/api/v1//ping",
        "/api/v1/ping/%2f",
        "/api/v1/leads//",
        "http://h/api/v1/ping",
    ],
)
def test_empty_segments_and_full_urls_are_refused(target):
    with pytest.raises(BadRequest):
        match("POST", target)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_one_slash_at_the_end_of_a_path_means_nothing(endpoint):
    path = endpoint.paths[0].format(flow="f", chatId="c", feedbackId=FLOW, name="n")
    with_slash, without = (find(each, endpoint.methods[0]) for each in (f"{path}/", path))
    assert with_slash.params == without.params
    assert with_slash.endpoint is endpoint
    assert upstream_target(with_slash, FLOW, "c") == upstream_target(without, FLOW, "c")


@pytest.mark.parametrize(
    "target", ["/", "/api/v1/prediction", "/api/v1/prediction/", "/api/v1/prediction/x/y/"]
)
def test_a_path_without_its_flow_or_with_more_is_unknown(target):
    with pytest.raises(UnknownRoute, match="POST /api/v1/prediction/"):
        find(target)


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("GET", "/api/v1/prediction/x", "POST, OPTIONS"),
        ("POST", "/api/v1/chatmessage/abort/x/y", "PUT, OPTIONS"),
        ("DELETE", "/api/v1/ping", "GET, HEAD, OPTIONS"),
        ("OPTIONS", "/api/v1/ping", "GET, HEAD, OPTIONS"),
        ("GET", "/api/v1/feedback/x", "POST, PUT, OPTIONS"),
        ("GET", "/api/v1/text-to-speech/generate", "POST, OPTIONS"),
        ("POST", "/api/v1/node-icon/x", "GET, HEAD, OPTIONS"),
        ("get", "/api/v1/ping", "GET, HEAD, OPTIONS"),
    ],
)
def test_another_method_is_refused_with_the_allowed_ones(method, target, allow):
    with pytest.raises(MethodNotAllowed) as refused:
        match(method, target)
    assert refused.value.headers == {"Allow": allow}


def test_a_preflight_finds_the_methods_of_a_path():
    assert find("/api/v1/chatmessage/abort/x/y").endpoint.methods == ("PUT",)
    with pytest.raises(UnknownRoute):
        find("/api/v1/nothing")


def test_a_path_with_two_rows_has_one_of_them_for_each_method():
    for method, name in (
        ("POST", "feedback"),
        ("PUT", "feedback_change"),
        ("", "feedback"),
        ("GET", "feedback"),
    ):
        assert find(f"/api/v1/feedback/{FLOW}", method).endpoint.name == name
    for endpoint in ENDPOINTS:
        others = [
            other
            for other in ENDPOINTS
            if other is not endpoint and _shape(other.paths[0]) == _shape(endpoint.paths[0])
        ]
        assert endpoint.other_methods == tuple(method for other in others for method in other.methods)


def _shape(path):
    return re.sub(r"{\w+}", "{}", path)


@pytest.mark.parametrize(
    ("method", "target", "message"),
    [
        ("PUT", "/api/v1/feedback/x", "must end in the id of a feedback"),
        ("PUT", f"/api/v1/feedback/{FLOW.upper()}", "must end in the id of a feedback"),
        ("PUT", f"/api/v1/feedback/{FLOW}0", "must end in the id of a feedback"),
        ("GET", "/api/v1/node-icon/a.b", "must end in the name of a node"),
        ("GET", "/api/v1/node-icon/" + "a" * 65, "must end in the name of a node"),
        ("GET", "/api/v1/node-icon/%C3%A9", "must end in the name of a node"),
    ],
)
def test_a_name_in_the_path_has_the_form_that_flowise_uses(method, target, message):
    with pytest.raises(BadRequest, match=message):
        match(method, target)


def test_what_is_found_whatever_the_method_can_be_checked_for_it():
    found = find(FILE + "?chatflowId=s&chatId=c&fileName=a")
    assert (found.flow, dict(found.query)) == (None, {})
    with pytest.raises(MethodNotAllowed):
        found.check("POST")
    assert found.check("GET") == match("GET", FILE + "?chatflowId=s&chatId=c&fileName=a")
    assert found.check("GET").flow == "s"
    with pytest.raises(BadRequest, match="takes no query"):
        find("/api/v1/ping?x=1").check("GET")


def test_the_names_of_endpoints_are_a_closed_list_and_get_includes_head():
    words = (
        "prediction chatflows_streaming chatflows_uploads chatbot_config abort feedback feedback_change leads"
    )
    words += " attachments upload_file assistant_file vector_upsert speech speech_abort node_icon ping"
    words += " session_tokens limits"
    assert [endpoint.name for endpoint in ENDPOINTS] == words.split()
    assert all(("HEAD" in endpoint.methods) == ("GET" in endpoint.methods) for endpoint in ENDPOINTS)


@pytest.mark.parametrize(
    ("column", "value", "names"),
    [
        ("flow_in", FlowIn.QUERY, "upload_file"),
        ("flow_in", FlowIn.BODY, "leads assistant_file speech speech_abort"),
        ("flow_in", FlowIn.FEEDBACK, "feedback_change"),
        ("flow_in", FlowIn.ANY, "node_icon"),
        ("flow_in", FlowIn.NOWHERE, "ping session_tokens limits"),
        ("access", Access.ANYONE, "chatflows_streaming chatflows_uploads chatbot_config node_icon ping"),
        ("access", Access.ANY_ROUTE, "feedback_change leads assistant_file speech speech_abort limits"),
        ("access", Access.API_KEY, "session_tokens"),
        ("body", BodyKind.PREDICTION, "prediction"),
        ("body", BodyKind.FEEDBACK, "feedback"),
        ("body", BodyKind.FEEDBACK_CHANGE, "feedback_change"),
        ("body", BodyKind.DOCUMENTS, "vector_upsert"),
        ("body", BodyKind.SPEECH, "speech"),
        ("body", BodyKind.SPEECH_ABORT, "speech_abort"),
        ("body", BodyKind.ASSISTANT_FILE, "assistant_file"),
        ("body", BodyKind.LEADS, "leads"),
        ("body", BodyKind.ATTACHMENTS, "attachments"),
        ("body", BodyKind.OWN, "session_tokens"),
        (
            "counted",
            Counted.ROUTE,
            "prediction feedback feedback_change leads attachments assistant_file vector_upsert speech",
        ),
        ("counted", Counted.TOKENS, "session_tokens"),
        ("counted", Counted.STATUS, "limits"),
        ("counted", Counted.SETTINGS, "chatbot_config node_icon"),
        ("purpose", Purpose.RUN, "prediction"),
        ("purpose", Purpose.ABORT, "abort"),
        ("purpose", Purpose.FILE, "upload_file assistant_file"),
        ("purpose", Purpose.STORE, "vector_upsert"),
        ("purpose", Purpose.SPEECH, "speech"),
        ("purpose", Purpose.SPEECH_ABORT, "speech_abort"),
    ],
)
def test_the_columns_of_the_table(column, value, names):
    assert [endpoint.name for endpoint in ENDPOINTS if getattr(endpoint, column) is value] == names.split()


def test_a_flow_is_named_where_the_column_says():
    for endpoint in ENDPOINTS:
        assert (endpoint.flow_in is FlowIn.PATH) == ("{flow}" in endpoint.paths[0])
        assert (endpoint.flow_in is FlowIn.QUERY) == ("chatflowId" in endpoint.query)


@pytest.mark.parametrize(
    "path", sorted(GATEWAY.rglob("*.py")), ids=lambda path: str(path.relative_to(GATEWAY))
)
def test_no_module_compares_names_of_endpoints(path):
    """A decision about an endpoint is a column, so that a new endpoint cannot be forgotten."""
    is_name = re.compile(r"\bendpoint(\.name)?$")
    compared = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare | ast.Match)
        for operand in ([node.left, *node.comparators] if isinstance(node, ast.Compare) else [node.subject])
        if is_name.search(ast.unparse(operand)) and not ast.unparse(node).endswith(("is None", "is not None"))
    ]
    assert not compared


def test_a_query_where_none_belongs_is_refused():
    with pytest.raises(BadRequest, match="takes no query"):
        match("POST", "/api/v1/prediction/x?streaming=true")


def test_the_file_query_names_flow_and_conversation():
    found = match("GET", FILE + "?chatflowId=support&chatId=c%20d&fileName=a+b%C3%A9.png&download=true")
    assert (found.flow, found.client_chat_id, found.query["fileName"]) == ("support", "c d", "a bé.png")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "chatflowId is missing"),
        ("?", "chatflowId is missing"),
        ("?chatflowId=s&chatId=c", "fileName is missing"),
        ("?chatflowId=s&chatId=&fileName=a", "chatId is missing"),
        ("?chatflowId=s&chatId=c&fileName=..", "fileName must be a bare"),
        ("?chatflowId=s&chatId=c&fileName=a%2Fb", "fileName must be a bare"),
        ("?chatflowId=s&chatId=c%00&fileName=a", "chatId must be"),
        ("?chatflowId=s&chatId=c&fileName=a&download=1", "download must be"),
        ("?chatflowId=s&chatId=c&fileName=a&chatId=d", "chatId twice. Send it once"),
        ("?chatflowId=s&chatId=c&fileName=a&x=1", "not one of"),
    ],
)
def test_a_bad_file_query_is_refused_and_named(query, message):
    with pytest.raises(BadRequest, match=message):
        match("GET", FILE + query)


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("POST", "/api/v1/predictions/support", f"/api/v1/prediction/{FLOW}"),
        ("PUT", "/api/v1/chatmessage/abort/support/raw", f"/api/v1/chatmessage/abort/{FLOW}/mapped%40x"),
        ("POST", "/api/v1/leads/", "/api/v1/leads"),
        ("PUT", f"/api/v1/feedback/{FLOW}", f"/api/v1/feedback/{FLOW}"),
        ("POST", "/api/v1/vector/upsert/support", f"/api/v1/vector/upsert/{FLOW}"),
        ("POST", "/api/v1/text-to-speech/abort", "/api/v1/text-to-speech/abort"),
        (
            "GET",
            FILE + "?fileName=a+%26%25.png&chatId=raw&chatflowId=support&download=true",
            FILE + f"?fileName=a%20%26%25.png&chatId=mapped%40x&chatflowId={FLOW}&download=true",
        ),
    ],
)
def test_flowise_sees_the_checked_parts_only(method, target, expected):
    assert upstream_target(match(method, target), FLOW, "mapped@x") == expected.encode()


def test_a_prefix_of_the_server_stays_in_front():
    assert upstream_target(match("GET", "/api/v1/ping"), FLOW, prefix=("b c",)) == b"/b%20c/api/v1/ping"


def test_no_id_reaches_flowise_unchecked():
    found = match("PUT", "/api/v1/chatmessage/abort/support/raw")
    with pytest.raises(BadRequest, match="chatId"):
        upstream_target(found, FLOW, "../x")
    with pytest.raises(ValueError, match="needs a chat id"):
        upstream_target(found, FLOW)
