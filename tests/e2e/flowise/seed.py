"""Creates an account, a credential for the fake model and the chatflows in a fresh Flowise, as its web UI does.

On a Flowise that has them it signs in, creates what is missing and updates the chatflows. Writes the addresses and ids
that the tests need.

chain       the shipped Conversation Chain, which an abort does not stop
agentflow   Start and LLM, which an abort stops
pictures    the chain with a model that takes images, and thumbs
assistant   the agentflow with images, whole documents and thumbs: all features of the widget
library     a retrieval chain, whose vector store takes documents from the widget
tools       an agentflow of two models, of which the second, an agent, has a calculator
approval    an agentflow that needs the approval of its user before the LLM
"""

from __future__ import annotations

import argparse
import http.cookiejar
import json
import urllib.request
from pathlib import Path

# The provider has no address of its own: the OpenAI package takes it from OPENAI_BASE_URL of Flowise's process.
SPEECH = {"openai": {"status": True, "voice": "alloy"}}
PERMISSIONS = ["chatflows:view", "agentflows:view", "documentStores:view"]
# Flowise puts the files of an upsert into the loader's input only if requests may set that.
TEXT_FILES = {
    "overrideConfig": {
        "status": True,
        "nodes": {"Text File": [{"label": "Txt File", "name": "txtFile", "type": "file", "enabled": True}]},
    }
}
# Settings of the widget: rating buttons, and a button for whole documents.
THUMBS = {"chatFeedback": {"status": True}}
DOCUMENTS = {
    "fullFileUpload": {"status": True, "allowedUploadFileTypes": "text/plain,text/csv,application/json"}
}
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

    def key(self, name: str = "gateway") -> dict:
        """An API key of the workspace: `id`, `apiKey`. Without one, Flowise stores no documents."""
        for known in self("GET", "apikey"):
            if known["keyName"] == name:
                return known
        made = self("POST", "apikey", {"keyName": name, "permissions": PERMISSIONS})
        return next(known for known in made if known["keyName"] == name)

    def chatflow(
        self,
        name: str,
        kind: str,
        flow: dict,
        *,
        credential: str = "",
        api: dict | None = None,
        key: str = "",
        **widget,
    ) -> str:
        """Create or update a chatflow.

        `credential`: of the text-to-speech; empty: none. `api`: what a request may set. `key`: the id of an API key.
        """
        wanted = {
            "name": name,
            "type": kind,
            "flowData": json.dumps(flow),
            "isPublic": True,
            "deployed": False,
        }
        wanted["chatbotConfig"] = json.dumps(widget)
        wanted["apiConfig"] = json.dumps(api or {})
        if key:
            wanted["apikeyid"] = key
        if credential:
            wanted["textToSpeech"] = json.dumps({"openai": {**SPEECH["openai"], "credentialId": credential}})
        for known in self("GET", f"chatflows?type={kind}"):
            if known["name"] == name:
                return self("PUT", f"chatflows/{known['id']}", wanted)["id"]
        return self("POST", "chatflows", wanted)["id"]


class Flows:
    """The shipped templates, pointed at the fake model."""

    def __init__(self, templates: Path, llm: str, credential: str) -> None:
        self._templates = templates
        self._model = {"modelName": "gpt-4o-mini", "basepath": llm, "streaming": True}
        self._credential = credential

    def chain(self, *, images: bool) -> dict:
        """Conversation Chain: a chat model with a buffer memory."""
        flow = json.loads((self._templates / "chatflows" / "Conversation Chain.json").read_text())
        for node in flow["nodes"]:
            if node["data"]["name"] == "chatOpenAI":
                node["data"]["inputs"] |= {**self._model, "allowImageUploads": images}
                node["data"]["credential"] = self._credential
        return flow

    def library(self) -> dict:
        """Conversational Retrieval QA Chain with a store in memory, which takes documents from the widget."""
        template = self._templates / "chatflows" / "Conversational Retrieval QA Chain.json"
        text = (
            template.read_text().replace("faiss", "memoryVectorStore").replace("chatMistralAI", "chatOpenAI")
        )
        flow = json.loads(text)
        (model,) = (
            node for node in self.chain(images=False)["nodes"] if node["data"]["name"] == "chatOpenAI"
        )
        flow["nodes"] = [
            model if node["data"]["name"] == "chatOpenAI" else node
            for node in flow["nodes"]
            if node["data"]["name"] not in ("documentStore", "stickyNote")
        ]
        flow["edges"] = [edge for edge in flow["edges"] if edge["source"] != "documentStore_0"]
        for node in flow["nodes"]:
            if node["data"]["name"] == "memoryVectorStore":
                node["data"]["inputs"]["fileUpload"] = True
            if node["data"]["name"] == "textFile":
                node["data"]["inputs"]["txtFile"] = "[]"
            if node["data"]["name"] == "openAIEmbeddings":
                node["data"]["inputs"]["basepath"] = self._model["basepath"]
                node["data"]["credential"] = self._credential
        return flow

    def agentflow(self, *, images: bool) -> dict:
        """Start and LLM, the first two nodes of Workplace Chat; the LLM remembers all messages."""
        flow = self._agents("Workplace Chat", "startAgentflow_0", "llmAgentflow_0")
        flow["nodes"][-1]["data"]["inputs"]["llmModelConfig"]["allowImageUploads"] = images
        return flow

    def tools(self) -> dict:
        """Start, LLM, and the agent of Human In The Loop with a calculator, which gets the question again."""
        flow = self.agentflow(images=False)
        (agent,) = self._agents("Human In The Loop", "agentAgentflow_0")["nodes"]
        tool = {"agentSelectedTool": "calculator", "agentSelectedToolRequiresHumanInput": ""}
        agent["data"]["inputs"]["agentTools"] = [
            {**tool, "agentSelectedToolConfig": {"agentSelectedTool": "calculator"}}
        ]
        agent["data"]["inputs"]["agentUserMessage"] = "<p>{{ question }}</p>"
        flow["nodes"].append(agent)
        then = {"source": "llmAgentflow_0", "target": "agentAgentflow_0", "type": "agentFlow", "id": "then"}
        then |= {"sourceHandle": "llmAgentflow_0-output-llmAgentflow", "targetHandle": "agentAgentflow_0"}
        flow["edges"].append({**then, "data": {"isHumanInput": False}})
        return flow

    def approval(self) -> dict:
        """Start, Human Input and, after approval, LLM: the middle of Human In The Loop."""
        flow = self._agents(
            "Human In The Loop", "startAgentflow_0", "humanInputAgentflow_0", "llmAgentflow_0"
        )
        first = {"source": "startAgentflow_0", "target": "humanInputAgentflow_0", "type": "agentFlow"}
        first |= {"id": "first", "targetHandle": "humanInputAgentflow_0", "data": {"isHumanInput": False}}
        flow["edges"].append({**first, "sourceHandle": "startAgentflow_0-output-startAgentflow"})
        return flow

    def _agents(self, template: str, *kept: str) -> dict:
        flow = json.loads((self._templates / "agentflowsv2" / f"{template}.json").read_text())
        flow["nodes"] = [node for node in flow["nodes"] if node["id"] in kept]
        flow["edges"] = [edge for edge in flow["edges"] if edge["source"] in kept and edge["target"] in kept]
        credential = {"credential": self._credential, "FLOWISE_CREDENTIAL_ID": self._credential}
        for node in flow["nodes"]:
            if node["data"]["name"] == "llmAgentflow":
                node["data"]["inputs"]["llmModelConfig"] |= self._model | credential
                node["data"]["inputs"]["llmStructuredOutput"] = ""
            if node["data"]["name"] == "agentAgentflow":
                node["data"]["inputs"]["agentModelConfig"] |= self._model | credential
        return flow


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--url", "--llm", "--templates", "--log", "--out"):
        parser.add_argument(name, required=True)
    given = parser.parse_args()
    flowise = Flowise(given.url)
    flowise.sign_in()
    credential, chat, agent = flowise.credential(), "CHATFLOW", "AGENTFLOW"
    made = Flows(Path(given.templates), given.llm, credential)
    flows = {
        "chain": flowise.chatflow("chain", chat, made.chain(images=False)),
        "agentflow": flowise.chatflow("agentflow", agent, made.agentflow(images=False)),
        "pictures": flowise.chatflow(
            "pictures", chat, made.chain(images=True), credential=credential, **THUMBS
        ),
        "assistant": flowise.chatflow("assistant", agent, made.agentflow(images=True), **THUMBS, **DOCUMENTS),
        "library": flowise.chatflow("library", chat, made.library(), api=TEXT_FILES),
        "tools": flowise.chatflow("tools", agent, made.tools()),
        "approval": flowise.chatflow("approval", agent, made.approval()),
        "protected": flowise.chatflow(
            "protected", chat, made.chain(images=False), key=flowise.key("protected")["id"]
        ),
    }
    seed = {
        "url": given.url,
        "api_key": flowise.key()["apiKey"],
        "flow_key": flowise.key("protected")["apiKey"],
        "model_log": str(Path(given.log).resolve()),
        "flows": flows,
    }
    Path(given.out).write_text(json.dumps(seed, indent=2) + "\n")


if __name__ == "__main__":
    main()
