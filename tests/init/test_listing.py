"""Chatflows as a table and as JSON."""

from __future__ import annotations

import json

from gateway.flowise.chatflows import Chatflow
from gateway.init.listing import as_json, as_table, numbered

FLOWS = (
    Chatflow("00000001-0000-4000-8000-000000000000", "Support"),
    Chatflow("00000002-0000-4000-8000-000000000000", "Nightly\x1b[2J", "agentflow", "schedule", "key"),
)
STREAMING = {FLOWS[0].id}


def test_the_table_has_a_line_for_each_and_no_control_character():
    assert as_table(FLOWS, STREAMING).splitlines() == [
        "ID                                    NAME            KIND                  STREAMING  KEY",
        "00000001-0000-4000-8000-000000000000  Support         chatflow              yes        -",
        "00000002-0000-4000-8000-000000000000  Nightly\\x1b[2J  agentflow (schedule)  no         own",
    ]


def test_json_has_the_same():
    first, second = json.loads(as_json(FLOWS, STREAMING))
    assert (first["name"], first["streaming"], first["key"], first["trigger"]) == ("Support", True, False, "")
    assert (second["kind"], second["streaming"], second["key"], second["trigger"]) == (
        *("agentflow", False, True, "schedule"),
    )


def test_the_numbered_list_counts_from_1():
    assert numbered(FLOWS).splitlines() == [
        "   1  Support         chatflow",
        "   2  Nightly\\x1b[2J  agentflow (schedule)  own key",
    ]
