"""Gives a fresh Flowise an account, a credential for the fake model and two chatflows, the way its web UI does.

Run again it signs in and makes what is missing. Writes the addresses and ids that the tests need.
"""

from __future__ import annotations

import argparse
import http.cookiejar
import json
import urllib.request
from pathlib import Path

ACCOUNT = {"name": "Owner", "email": "owner@example.com", "credential": "Flowise-Test-1"}


class Flowise:
    """Flowise's own API, with the cookies of a signed-in user."""

    def __init__(self, url: str) -> None:
        self._url = url
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), cookies)

    def __call__(self, method: str, path: str, body=None):
        request = urllib.request.Request(
            f"{self._url}/api/v1/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json", "x-request-from": "internal"},
            method=method,
        )
        with self._opener.open(request, timeout=60) as answer:
            return json.load(answer)

    def sign_in(self) -> None:
        if self("POST", "auth/resolve", {})["redirectUrl"] == "/organization-setup":
            self("POST", "account/register", {"user": ACCOUNT})
        self("POST", "auth/login", {"email": ACCOUNT["email"], "password": ACCOUNT["credential"]})

    def credential(self) -> str:
        for known in self("GET", "credentials?credentialName=openAIApi"):
            return known["id"]
        made = {"name": "fake", "credentialName": "openAIApi", "plainDataObj": {"openAIApiKey": "sk-fake"}}
        return self("POST", "credentials", made)["id"]

    def chatflow(self, name: str, kind: str, flow: dict) -> str:
        for known in self("GET", f"chatflows?type={kind}"):
            if known["name"] == name:
                return known["id"]
        made = {"name": name, "type": kind, "flowData": json.dumps(flow), "isPublic": True, "deployed": False}
        return self("POST", "chatflows", made)["id"]


def chain(templates: Path, llm: str, credential: str) -> dict:
    """The shipped Conversation Chain: a chat model with a buffer memory."""
    flow = json.loads((templates / "chatflows" / "Conversation Chain.json").read_text())
    for node in flow["nodes"]:
        if node["data"]["name"] == "chatOpenAI":
            node["data"]["inputs"] |= {"modelName": "gpt-4o-mini", "basepath": llm, "streaming": True}
            node["data"]["credential"] = credential
    return flow


def agentflow(templates: Path, llm: str, credential: str) -> dict:
    """Start and LLM, the first two nodes of the shipped Workplace Chat."""
    flow = json.loads((templates / "agentflowsv2" / "Workplace Chat.json").read_text())
    kept = ("startAgentflow_0", "llmAgentflow_0")
    flow["nodes"] = [node for node in flow["nodes"] if node["id"] in kept]
    flow["edges"] = [edge for edge in flow["edges"] if edge["source"] in kept and edge["target"] in kept]
    model = {"basepath": llm, "modelName": "gpt-4o-mini", "streaming": True}
    model |= {"credential": credential, "FLOWISE_CREDENTIAL_ID": credential}
    flow["nodes"][-1]["data"]["inputs"]["llmModelConfig"] |= model
    return flow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--url", "--llm", "--templates", "--log", "--out"):
        parser.add_argument(name, required=True)
    given = parser.parse_args()
    flowise, templates = Flowise(given.url), Path(given.templates)
    flowise.sign_in()
    credential = flowise.credential()
    flows = {
        "chain": flowise.chatflow("chain", "CHATFLOW", chain(templates, given.llm, credential)),
        "agentflow": flowise.chatflow("agentflow", "AGENTFLOW", agentflow(templates, given.llm, credential)),
    }
    seed = {"url": given.url, "model_log": str(Path(given.log).resolve()), "flows": flows}
    Path(given.out).write_text(json.dumps(seed, indent=2) + "\n")


if __name__ == "__main__":
    main()
