from __future__ import annotations

import pytest

from gateway.config import read

REAL = "3f6a9b1c-2222-4333-8444-555566667777"
EXAMPLE = "2c5e8d0a-1111-4222-8333-444455556666"


@pytest.fixture
def warnings(tmp_path):
    """The warnings for a configuration with this route, by key."""

    def warnings(
        chatflow=REAL,
        auth="[anonymous]",
        url="http://127.0.0.1:3000",
        key="''",
        withhold="[]",
        more="",
        **environ,
    ):
        path = tmp_path / "gateway.yaml"
        path.write_text(
            f"upstreams: {{main: {{servers: [{{url: '{url}'}}], api_key: {key}}}}}\n"
            f"routes: [{{name: a, chatflow: '{chatflow}', upstream: main, auth: {auth}, "
            f"events: {{withhold: {withhold}}}}}]\n{more}"
        )
        reading = read(path, environ)
        assert reading.config is not None
        return {warning.key: warning.message for warning in reading.warnings}

    return warnings


def test_a_configuration_that_is_meant_has_no_warning(warnings):
    assert warnings() == warnings(auth="[api_key, session]") == {}


@pytest.mark.parametrize("chatflow", [EXAMPLE, EXAMPLE.upper(), "00000000-0000-0000-0000-000000000000"])
def test_the_chatflow_of_the_example_is_a_warning(warnings, chatflow):
    assert warnings(chatflow=chatflow) == {
        "routes[0].chatflow": "this is the id of the example: write that of your chatflow, the last part of the"
        " address when the chatflow is open in Flowise (…/canvas/ID)"
    }


def test_anonymous_beside_another_credential_is_a_warning(warnings):
    said = "remove anonymous to require it"
    assert warnings(auth="[anonymous, api_key]") == {
        "routes[0].auth": f"anonymous is listed too, so anybody can call without api_key: {said}"
    }
    assert warnings(auth="[session, anonymous]") == {
        "routes[0].auth": f"anonymous is listed too, so anybody can call without session: {said}"
    }


@pytest.mark.parametrize("page", ["chatflows", "agentflows", "signin"])
def test_a_page_of_flowise_is_a_warning(warnings, page):
    found = warnings(url=f"http://127.0.0.1:3000/{page}")
    key = "upstreams.main.servers[0].url"
    said = f"the URL ends in /{page}, a page of Flowise: leave it out, unless Flowise is below that path"
    assert found == {key: said}
    assert warnings(url="http://127.0.0.1:3000/flowise") == {}


@pytest.mark.parametrize(
    ("withhold", "lacks"),
    [
        ("[usedTools]", "agentFlowExecutedData and agentReasoning and agent_trace"),
        ("[calledTools, custom:mine]", "agentFlowExecutedData"),
        ("[sourceDocuments, agentFlowExecutedData]", "agentReasoning"),
    ],
)
def test_a_trace_that_repeats_what_is_withheld_is_a_warning(warnings, withhold, lacks):
    said = f"lacks {lacks}: agents repeat there what is withheld; add it, or clients get it"
    assert warnings(withhold=withhold) == {"routes[0].events.withhold": said}


@pytest.mark.parametrize(
    "withhold",
    [
        "[agentFlowExecutedData]",
        "[artifacts, agentFlowExecutedData, agentReasoning]",
        "[metadata]",
        "[custom:a]",
    ],
)
def test_what_no_trace_repeats_has_no_warning(warnings, withhold):
    assert warnings(withhold=withhold) == {}


@pytest.mark.parametrize("key", ["$FLOWISE_API_KEY", "'%FLOWISE_API_KEY%'"])
def test_a_variable_of_a_shell_that_would_be_sent_as_a_key_is_a_warning(warnings, key):
    said = 'this looks like a variable, and is not replaced: write "${NAME}", with the quotes'
    assert warnings(key=key) == {"upstreams.main.api_key": said}
    assert warnings(key="'${KEY}'", KEY="$secret") == warnings(key="a$b") == {}


@pytest.mark.parametrize(
    ("auth", "text", "said"),
    [
        (
            "[api_key, jwt]",
            "{claims.tenant}",
            "callers with api_key get 403: write a default, like {claims.tenant:-none}",
        ),
        (
            "[session, api_key]",
            "{session.t}",
            "callers with api_key get 403: write a default, like {session.t:-none}",
        ),
        ("[api_key, jwt]", "{claims.tenant:-none}", ""),
        ("[jwt]", "{claims.tenant}", ""),
    ],
)
def test_a_claim_that_some_callers_lack_is_a_warning(warnings, auth, text, said):
    issuer = "auth: {jwt: [{issuer: i, audience: a, jwks_url: 'https://id.example.com/jwks.json'}]}\n"
    found = warnings(auth=f"{auth}, vars: {{a: '{text}'}}", more=issuer)
    assert [message.partition("so that ")[2] for message in found.values()] == ([said] if said else [])
